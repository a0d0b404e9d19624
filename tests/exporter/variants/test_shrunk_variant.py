"""Shrinking a project's network: where its masks come from, what goes and what stays, and what contradicts itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from grouped_project import make_network, random_keep, without_line, write_grouped_project
from safetensors.torch import load_file
from torch.nn.utils import prune

from exporter.masks.masks import read_masks
from exporter.project.settings import Project
from exporter.shrinking.plan import read_shrink_plan
from exporter.shrinking.removal import ShrinkOptions
from exporter.variants.shrunk_variant import ShrinkRequest, write_shrunk_variant
from exporter.variants.variant_parity import variant_parity
from jetson.errors import CoopexportError


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return write_grouped_project(tmp_path)


def test_what_is_masked_goes_and_the_files_are_those_of_the_result(project: Project) -> None:
    made = write_shrunk_variant(project, ShrinkRequest())
    assert made.path == project.folder / "out" / "pruned" / "shrink.json"
    assert {size.name: size.channels_after for size in made.shrunk.sizes} == {"conv1": 11, "conv2": 13, "fc": 5}
    assert read_shrink_plan(made.path.parent).layers == made.shrunk.plan.layers
    stored = load_file(made.path.parent / "weights.safetensors")
    assert stored.keys() == made.shrunk.network.state_dict().keys()
    assert all(torch.equal(value, stored[name]) for name, value in made.shrunk.network.state_dict().items())


def test_reviving_brings_back_the_largest_filters(project: Project) -> None:
    request = ShrinkRequest(options=ShrinkOptions(round_to=8), revive=True)
    made = write_shrunk_variant(project, request)
    masks = read_masks(made.path.parent / "masks.safetensors")
    norms = load_file(project.folder / "net.safetensors")["conv1.weight"].abs().sum((1, 2, 3)).numpy()
    given, keep = random_keep(0)["conv1"], masks.keep["conv1"]
    assert keep.sum() == 16
    assert (keep | ~given).all()  # nothing that was kept goes
    assert norms[keep & ~given].min() > norms[~keep].max()
    assert made.shrunk.plan.layers["conv1"].zeroed_outputs == ()
    assert variant_parity(project)


def test_constants_under_padding_stay_or_go_as_asked(project: Project) -> None:
    errors, widths = [], []
    for options in (ShrinkOptions(), ShrinkOptions(fold_borders=True), ShrinkOptions(approximate=0.5)):
        made = write_shrunk_variant(project, ShrinkRequest(project.path("weight.safetensors"), options=options))
        errors.append(made.shrunk.parity[0].error)
        widths.append(len(made.shrunk.plan.layers["conv1"].kept_outputs))
        assert variant_parity(project)
    assert widths[0] > widths[1] == widths[2] == 11
    assert errors[0] < 1e-9
    assert errors[1] < 1e-9
    assert 1e-6 < errors[2] < 0.5


def test_what_is_pruned_in_the_checkpoint_is_found_there(project: Project) -> None:
    network = make_network()
    network.load_state_dict(load_file(project.folder / "net.safetensors"))
    prune.ln_structured(network.conv2, "weight", 5, 2, 0)
    with torch.no_grad():
        network.conv2.bias[~network.conv2.weight_mask.flatten(1).any(1)] = 0
    torch.save(network.state_dict(), project.folder / "net.pt")
    settings = project.settings
    changed = settings.model_copy(update={"model": settings.model.model_copy(update={"checkpoint": "net.pt"})})
    own = replace(project, settings=changed)
    made = write_shrunk_variant(own, ShrinkRequest(masks_from="zero-weights"))
    assert made.masks.meaning == "weight"
    assert int((~made.masks.keep["conv2"]).sum()) == 5
    sizes = {size.name: size.channels_after for size in made.shrunk.sizes}
    assert sizes["conv2"] == 19  # what they are constants of, the linear's bias takes over
    assert variant_parity(own)


@pytest.mark.parametrize(
    ("request_fields", "words"),
    [
        ({"revive": True}, "--round-to-revive needs --round-to"),
        ({"options": ShrinkOptions(fold_borders=True, approximate=0.5)}, "--fold-borders is exact and --approximate"),
        ({"masks_file": Path("weight.safetensors"), "masks_from": "zero-weights"}, "name two sources of masks"),
        ({"masks_file": Path("nowhere.safetensors")}, r"nowhere\.safetensors"),
        ({"masks_from": "zero-weights"}, "nothing to shrink by"),
        ({"masks_from": "batch-norm"}, "nothing to shrink by"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(
    project: Project, request_fields: dict, words: str
) -> None:
    with pytest.raises(CoopexportError, match=words):
        write_shrunk_variant(project, ShrinkRequest(**request_fields))
    assert not project.output.exists()


def test_without_masks_the_ways_to_give_some_are_named(project: Project) -> None:
    with pytest.raises(CoopexportError, match=r"set model\.masks in the project file, or pass --masks FILE"):
        write_shrunk_variant(without_line(project, "masks ="), ShrinkRequest())
