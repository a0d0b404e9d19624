"""The one export of each variant: reused while nothing changed, made again or refused when something did."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from exporter.masks.masks import Masks, read_masks, write_masks
from exporter.onnx_graphs.session import open_session, run
from exporter.project.settings import Project, load_project
from exporter.shrinking.plan import PLAN_FILE, read_shrink_plan
from exporter.variants.layer_graphs import (
    GRAPH_FILE,
    LAYERS_FILE,
    example_inputs,
    existing_variant,
    layer_graph,
    read_layer_graph,
    variants,
)
from exporter.variants.plans import load_variant
from exporter.variants.shrunk_variant import ShrinkRequest, write_shrunk_variant
from jetson.errors import CoopexportError, DamagedFileError, StaleError

PROJECT = """
schema = "coopexport.project/1.0"
[model]
factory = "exporter.models.vgg:vgg16"
arguments = { widths = [8, 8, 12, 12, 16, 16, 16, 16, 16, 16, 16, 16, 16] }
checkpoint = "net.safetensors"
masks = "masks.safetensors"
input_shape = [3, 32, 32]
"""


@pytest.fixture(scope="module")
def exported_folder(tmp_path_factory: pytest.TempPathFactory, settled_vgg: nn.Module) -> Path:
    """A project without data whose two variants are exported. Do not write into it."""
    folder = tmp_path_factory.mktemp("variants")
    (folder / "coopexport.toml").write_text(PROJECT)
    save_file({name: value.clone() for name, value in settled_vgg.state_dict().items()}, folder / "net.safetensors")
    write_masks(folder / "masks.safetensors", Masks({"features.conv4_1": np.arange(16) % 2 == 0}, "channel"))
    project = load_project(folder / "coopexport.toml")
    write_shrunk_variant(project, ShrinkRequest())
    for variant in variants(project):
        layer_graph(project, variant)
    return folder


@pytest.fixture
def project(exported_folder: Path, tmp_path: Path) -> Project:
    """A copy of it to write into."""
    shutil.copytree(exported_folder, tmp_path / "project")
    return load_project(tmp_path / "project" / "coopexport.toml")


def stamp(project: Project, variant: str) -> int:
    return (project.variant_folder(variant) / GRAPH_FILE).stat().st_mtime_ns


def change_checkpoint(project: Project) -> None:
    path = project.path("net.safetensors")
    weights = load_file(path)
    weights["classifier.bias"] += 1
    save_file(weights, path)


def outputs_of(project: Project, variant: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what the stored graph and the PyTorch network of a variant compute."""
    inputs = example_inputs(project)
    stored = layer_graph(project, variant)
    graph = run(open_session(stored.load(), "disabled", weights_folder=stored.folder), [inputs])[0]
    with torch.no_grad():
        return graph, load_variant(project, variant)(torch.from_numpy(inputs)).numpy()


@pytest.mark.parametrize("variant", ["original", "pruned"])
def test_reused_when_nothing_changed(project: Project, variant: str) -> None:
    before = stamp(project, variant)
    first, second = layer_graph(project, variant), layer_graph(project, variant)
    assert first == second
    assert stamp(project, variant) == before
    one, other = outputs_of(project, variant)
    assert np.abs(one - other).max() < 1e-4 * np.ptp(other, axis=0).max()


def test_the_files_are_as_documented(project: Project) -> None:
    for variant in ("original", "pruned"):
        folder = project.variant_folder(variant)
        content = json.loads((folder / LAYERS_FILE).read_text())
        assert content["schema"] == "coopexport.layer-graph/1.1"
        assert content["parity"][0]["check"] == "export"
        assert content["parity"][0]["error"] < 1e-4
        graph = read_layer_graph(folder, variant)
        assert dataclasses.asdict(graph.layers[0]) == {
            **content["layers"][0],
            "shape": tuple(content["layers"][0]["shape"]),
            "aliases": tuple(content["layers"][0]["aliases"]),
        }
        shapes = {layer.name: layer.shape for layer in graph.layers}
        assert shapes["features.conv4_1"] == ((8 if variant == "pruned" else 16), 4, 4)
    assert project.variant_folder("original").joinpath("weights").is_dir()


def test_a_changed_checkpoint_is_exported_again(project: Project) -> None:
    before = layer_graph(project, "original")
    change_checkpoint(project)
    after = layer_graph(project, "original")
    assert after.made_from != before.made_from
    assert after.model_sha256 != before.model_sha256
    one, other = outputs_of(project, "original")
    assert np.abs(one - other).max() < 1e-4 * np.ptp(other, axis=0).max()


def test_another_input_shape_is_exported_again(project: Project) -> None:
    before = layer_graph(project, "original")
    text = (project.folder / "coopexport.toml").read_text()
    (project.folder / "coopexport.toml").write_text(text.replace("[3, 32, 32]", "[3, 48, 32]"))
    changed = load_project(project.folder / "coopexport.toml")
    after = layer_graph(changed, "original")
    assert after.made_from != before.made_from
    assert (before.layers[0].shape, after.layers[0].shape) == ((8, 32, 32), (8, 48, 32))


@pytest.mark.parametrize("source", ["net.safetensors", "masks.safetensors"])
def test_a_pruned_network_older_than_its_sources_is_refused_until_shrunk_again(project: Project, source: str) -> None:
    before = layer_graph(project, "pruned")
    if source == "net.safetensors":
        change_checkpoint(project)
    else:
        write_masks(project.path(source), Masks({"features.conv4_1": np.arange(16) % 4 > 0}, "channel"))
    changed = "checkpoint" if source == "net.safetensors" else "masks"
    with pytest.raises(CoopexportError, match=f"made before {changed} changed; run: coopexport shrink"):
        layer_graph(project, "pruned")
    write_shrunk_variant(project, ShrinkRequest())
    after = layer_graph(project, "pruned")
    assert after.made_from != before.made_from
    one, other = outputs_of(project, "pruned")
    assert np.abs(one - other).max() < 1e-4 * np.ptp(other, axis=0).max()


def as_version_2_0(path: Path) -> None:
    """Rewrite a plan as coopexport 0.1 wrote it: with two hashes of its sources in the place of `made_from`."""
    content = json.loads(path.read_text())
    made_from = content.pop("made_from")
    hashes = {"checkpoint_sha256": made_from["checkpoint"], "masks_sha256": made_from["masks"]}
    path.write_text(json.dumps({**content, **hashes, "schema": "coopexport.shrink-plan/2.0"}))


@pytest.mark.parametrize("source", ["net.safetensors", "masks.safetensors"])
def test_a_plan_of_an_earlier_version_holds_until_what_it_noted_changes(project: Project, source: str) -> None:
    before = layer_graph(project, "pruned")
    as_version_2_0(project.variant_folder("pruned") / PLAN_FILE)
    assert layer_graph(project, "pruned") == before  # not exported again either: it is the same network
    if source == "net.safetensors":
        change_checkpoint(project)
    else:
        write_masks(project.path(source), Masks({"features.conv4_1": np.arange(16) % 4 > 0}, "channel"))
    with pytest.raises(StaleError, match=r"made before (checkpoint|masks) changed; run: coopexport shrink"):
        layer_graph(project, "pruned")


def test_a_plan_of_an_earlier_version_is_of_its_factory_and_arguments(project: Project) -> None:
    as_version_2_0(project.variant_folder("pruned") / PLAN_FILE)
    text = (project.folder / "coopexport.toml").read_text()
    (project.folder / "coopexport.toml").write_text(text.replace("16] }", "16], classes = 10 }"))
    with pytest.raises(StaleError, match="made before model settings changed; run: coopexport shrink"):
        layer_graph(load_project(project.folder / "coopexport.toml"), "pruned")


def test_a_plan_that_does_not_say_what_it_was_made_from_is_malformed(project: Project) -> None:
    path = project.variant_folder("pruned") / PLAN_FILE
    content = json.loads(path.read_text())
    del content["made_from"]
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedFileError, match=r"made_from: Field required; write it anew with: coopexport shrink"):
        layer_graph(project, "pruned")


def test_what_is_shrunk_again_from_the_same_is_the_same(project: Project) -> None:
    folder, before = project.variant_folder("pruned"), layer_graph(project, "pruned")
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    write_shrunk_variant(project, ShrinkRequest())
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == files
    assert layer_graph(project, "pruned") == before


def test_a_pruned_network_of_another_factory_is_refused(project: Project) -> None:
    text = (project.folder / "coopexport.toml").read_text()
    (project.folder / "coopexport.toml").write_text(text.replace("16] }", "16], classes = 10 }"))
    with pytest.raises(CoopexportError, match="made before model settings changed; run: coopexport shrink"):
        layer_graph(load_project(project.folder / "coopexport.toml"), "pruned")


def test_masks_given_on_the_command_line_are_those_that_count(project: Project, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    write_masks(other, Masks({"features.conv4_1": np.arange(16) < 4}, "channel"))
    write_shrunk_variant(project, ShrinkRequest(masks_file=other))
    assert read_shrink_plan(project.variant_folder("pruned")).masks_file == str(other.resolve())
    shapes = {layer.name: layer.shape for layer in layer_graph(project, "pruned").layers}
    assert shapes["features.conv4_1"] == (4, 4, 4)
    write_masks(other, read_masks(project.path("masks.safetensors")))
    with pytest.raises(CoopexportError, match="made before masks changed"):
        layer_graph(project, "pruned")


def test_the_files_of_a_pruned_network_are_enough(project: Project) -> None:
    for name in ("net.safetensors", "masks.safetensors"):
        project.path(name).unlink()
    before = layer_graph(project, "pruned")
    (project.variant_folder("pruned") / GRAPH_FILE).unlink()
    assert layer_graph(project, "pruned") == before
    with pytest.raises(CoopexportError, match=r"net\.safetensors is missing"):
        layer_graph(project, "original")


@pytest.mark.parametrize("damaged", ["graph", "weights"])
@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_a_damaged_graph_is_never_loaded_and_made_again(project: Project, damaged: str, damage: str) -> None:
    graph = layer_graph(project, "original")
    path = graph.folder / GRAPH_FILE if damaged == "graph" else max((graph.folder / "weights").iterdir())
    good = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(good[:-4] + bytes([good[-4] ^ 1]) + good[-3:])
    with pytest.raises(CoopexportError, match=path.name.replace(".", r"\.")):
        graph.load()
    assert layer_graph(project, "original") == graph
    assert path.read_bytes() == good
    onnx.checker.check_model(str(graph.verified_file()))


def test_later_minor_versions_are_read(project: Project) -> None:
    path = project.variant_folder("original") / LAYERS_FILE
    content = json.loads(path.read_text())
    before = layer_graph(project, "original")
    content.update(schema="coopexport.layer-graph/1.8", more=[1])
    for layer in content["layers"]:
        layer["energy_mj"] = 3
    path.write_text(json.dumps(content))
    assert layer_graph(project, "original") == before


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (lambda content: content.update(schema="coopexport.layer-graph/2.0"), "layer-graph/2.0"),
        (lambda content: content["layers"][3].pop("tensor"), "malformed"),
        (lambda content: content.pop("layers"), "malformed"),
        (lambda content: content.update(layers=3), "malformed"),
    ],
)
def test_malformed_layer_files_are_refused(project: Project, edit, word: str) -> None:
    path = project.variant_folder("original") / LAYERS_FILE
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CoopexportError) as caught:
        read_layer_graph(path.parent, "original")
    assert word in str(caught.value)
    assert str(path) in str(caught.value)


def test_variants_that_do_not_exist_name_the_way(project: Project) -> None:
    assert variants(project) == ["original", "pruned"]
    with pytest.raises(CoopexportError, match=r'no variant "prund" \(there are: original, pruned\)'):
        existing_variant(project, "prund")
    shutil.rmtree(project.variant_folder("pruned"))
    assert variants(project) == ["original"]
    with pytest.raises(CoopexportError, match="coopexport shrink"):
        layer_graph(project, "pruned")


def test_example_inputs_are_real_ones_where_there_are_any(project: Project) -> None:
    noise = example_inputs(project)
    assert noise.shape == (16, 3, 32, 32)
    assert np.array_equal(noise, example_inputs(project))
    images = np.random.default_rng(1).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    np.savez(project.path("c.npz"), images=images, labels=np.zeros(20))
    text = (project.folder / "coopexport.toml").read_text()
    (project.folder / "coopexport.toml").write_text(
        text + '[preprocessing]\nscale = 0.5\n[data]\ncalibration = "c.npz"\n'
    )
    inputs = example_inputs(load_project(project.folder / "coopexport.toml"))
    assert np.array_equal(inputs, images[:16].transpose(0, 3, 1, 2).astype(np.float32) * 0.5)
