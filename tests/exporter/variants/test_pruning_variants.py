"""Variants of pruning in two steps: which are listed, in which order, and what makes one stale."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pruning_variants import write_two_steps
from safetensors.torch import load_file, save_file

from exporter.project.freshness import digest
from exporter.project.settings import Project, load_project
from exporter.variants.layer_graphs import existing_variant, graph_inputs, layer_graph, trained_records, variants
from exporter.variants.plans import load_variant
from exporter.variants.record import VARIANT_FILE
from jetson.errors import CoopexportError

ALL = [
    "original", "step1", "step1-control-1", "step1-control-2",
    "conv4_1-6", "conv4_1-3", "conv4_1-1", "conv4_3-6", "conv4_3-3", "conv4_3-1",
]  # fmt: skip


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, fresh_project: Path) -> Path:
    """A project with the variants of two steps. Do not write into it."""
    folder = Path(shutil.copytree(fresh_project, tmp_path_factory.mktemp("registered") / "project"))
    write_two_steps(load_project(folder / "coopexport.toml"))
    return folder


@pytest.fixture
def two_steps(registered: Path, tmp_path: Path) -> Project:
    """A copy of it to write into."""
    return load_project(Path(shutil.copytree(registered, tmp_path / "project")) / "coopexport.toml")


def test_complete_variants_are_listed_in_order(two_steps: Project) -> None:
    assert variants(two_steps) == ALL
    assert [record.variant for record in trained_records(two_steps)] == ALL[1:]
    (two_steps.variant_folder("conv4_1-3") / VARIANT_FILE).unlink()
    pruned = shutil.copytree(two_steps.variant_folder("step1"), two_steps.variant_folder("pruned"))
    (pruned / VARIANT_FILE).unlink()
    assert variants(two_steps) == ["original", "pruned", *(name for name in ALL[1:] if name != "conv4_1-3")]


def test_a_renamed_folder_is_named(two_steps: Project) -> None:
    two_steps.variant_folder("step1").rename(two_steps.output / "mine")
    with pytest.raises(CoopexportError, match=r"mine/variant\.json is of variant step1"):
        variants(two_steps)


def test_the_nearest_of_many_are_named(two_steps: Project) -> None:
    with pytest.raises(CoopexportError, match=r'"conv4_1-4" \(there are 10, the nearest: conv4_1-') as caught:
        existing_variant(two_steps, "conv4_1-4")
    assert "control" not in str(caught.value)
    (two_steps.variant_folder("conv4_3-1") / VARIANT_FILE).unlink()
    with pytest.raises(CoopexportError, match="it is not complete, run: coopexport prune two-step"):
        existing_variant(two_steps, "conv4_3-1")


def test_a_variant_is_the_network_of_its_plan(two_steps: Project) -> None:
    network = load_variant(two_steps, "conv4_1-3")
    assert [network.get_submodule(f"features.{name}").out_channels for name in ("conv4_1", "conv4_2", "conv5_1")] == [
        3, 8, 6,
    ]  # fmt: skip
    shapes = {layer.name: layer.shape for layer in layer_graph(two_steps, "conv4_1-3").layers}
    assert shapes["features.conv4_1"] == (3, 4, 4)
    hashes = {digest(graph_inputs(two_steps, name)) for name in ALL}
    assert len(hashes) == len(ALL)


def test_a_variant_of_another_checkpoint_is_refused(two_steps: Project) -> None:
    path = two_steps.path(two_steps.settings.model.checkpoint)
    weights = load_file(path)
    weights["classifier.bias"] += 1
    save_file(weights, path)
    with pytest.raises(
        CoopexportError, match="conv4_1-3 was made before checkpoint changed; run: coopexport prune two-step"
    ):
        layer_graph(two_steps, "conv4_1-3")
    path.unlink()  # a source that is gone proves nothing: the variant's own files are enough
    assert layer_graph(two_steps, "conv4_1-3").variant == "conv4_1-3"


def test_a_variant_of_another_factory_is_refused(two_steps: Project) -> None:
    file = two_steps.folder / "coopexport.toml"
    text = file.read_text()
    assert "classes = 10" in text
    file.write_text(text.replace("classes = 10", "classes = 10, input_channels = 3"))
    with pytest.raises(
        CoopexportError, match="step1 was made before model settings changed; run: coopexport prune two-step"
    ):
        layer_graph(load_project(file), "step1")
