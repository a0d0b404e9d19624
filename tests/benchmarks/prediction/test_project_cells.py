"""A project's cells are its bundles' graphs; what its table lacks is predicted, from rows of today's graphs only."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.latency.table import latest
from benchmarks.prediction.kernels import kernels_of
from benchmarks.prediction.predict import CellKey
from benchmarks.prediction.project_cells import predicted_rows, project_cells
from benchmarks.prediction.project_coding import coding_cells
from benchmarks.prediction.project_layers import layer_times, network_times
from exporter.bundles.bundle import read_feature_codec, read_golden, read_split, read_whole
from exporter.bundles.golden import golden_head_outputs
from exporter.layers.names import display_name
from exporter.project.settings import Project, load_project
from exporter.variants.layer_graphs import read_layer_graph
from jetson.errors import CoopexportError, DamagedFileError, InputError


@dataclass(frozen=True)
class Row:
    target: str
    variant: str
    layer: str
    part: str
    source_sha256: str | None
    p50_ms: float
    codec: str
    run: str
    precision: str = "fp32"
    batch: int = 1


@pytest.fixture(scope="module")
def project(split_project: Path) -> Project:
    return load_project(split_project / "coopexport.toml")


@pytest.fixture(scope="module")
def rows(project: Project) -> list[Row]:
    return [
        Row(row.target, row.variant, row.layer, row.part, row.source_sha256, row.p50_ms, row.codec, row.run)
        for row in latest(project.output / "latency.sqlite")
    ]


HIDDEN = ("pruned", "conv4_1", "head")


def test_cells_are_the_bundles_graphs(project: Project) -> None:
    cells = {cell.key: cell for cell in project_cells(project)}
    parts = [(layer, part) for layer in ("conv4_1", "pool3") for part in ("head", "tail")]
    assert set(cells) == {
        CellKey(variant, layer, part, "fp32", 1)
        for variant in ("original", "pruned")
        for layer, part in [*parts, ("whole", "whole")]
    }
    for key, cell in cells.items():
        folder = project.variant_folder(key.variant)
        if key.part == "whole":
            record = read_whole(folder).model
            # What the layers' own table counts, up to the last of them.
            total = max(layer.macs_before for layer in read_layer_graph(folder, key.variant).layers)
            assert sum(kernel.macs for kernel in cell.kernels) == total
        else:
            bundle = read_split(folder, key.layer)
            record = bundle.head if key.part == "head" else bundle.tail
        assert cell.source_sha256 == record.sha256
        # Read by itself, without what is known of the whole network, the graph says the same.
        assert cell.kernels == kernels_of(onnx.load(str(folder / record.file), load_external_data=False))
    head, tail = (
        cells[CellKey("pruned", "pool3", "head", "fp32", 1)],
        cells[CellKey("pruned", "pool3", "tail", "fp32", 1)],
    )
    assert head.kernels[-1].kind == "encoding"
    assert tail.kernels[0].kind == "decoding"


def test_a_bundle_of_another_graph_is_read_by_itself(finished_project: Path) -> None:
    project = load_project(finished_project / "coopexport.toml")
    own, other = project.variant_folder("pruned"), project.variant_folder("original")
    expected = [
        cell.kernels for cell in project_cells(project) if (cell.key.variant, cell.key.layer) == ("original", "pool3")
    ]
    for path in (*other.glob("pool3.*"), *(other / "weights").iterdir()):  # wider, and its tensors have the same names
        shutil.copy(path, own / path.relative_to(other))
    found = [cell for cell in project_cells(project) if cell.key.layer == "pool3"]
    assert [cell.kernels for cell in found] == [*expected, *expected]


def test_what_is_coded_is_what_a_message_holds(project: Project) -> None:
    cells = project_cells(project)
    found = coding_cells(project, cells)
    halves = [cell for cell in cells if cell.key.part != "whole"]
    assert [(cell.key.layer, cell.source_sha256) for cell in found] == [
        (cell.key.layer, cell.source_sha256) for cell in halves
    ]
    for cell, half in zip(found, halves, strict=True):
        folder = project.variant_folder(cell.key.variant)
        bundle = read_split(folder, cell.key.layer)
        codec = read_feature_codec(folder, bundle)
        (symbols,) = codec.symbols(golden_head_outputs(read_golden(folder, bundle.golden)))
        messages = [len(codec.encode([one[None]])) for one in symbols]
        assert cell.work.symbols == symbols[0].size
        assert min(messages) / 2 < cell.work.payload_bytes < 2 * max(messages)
        (model,) = [tensor.model for tensor in codec.tensors]
        assert cell.work.contexts == (0 if model is None else sum(len(table.frequencies) for table in model.tables))
        graph = onnx.load(
            str(folder / (bundle.head if half.key.part == "head" else bundle.tail).file), load_external_data=False
        )
        weights = [item for item in graph.graph.initializer if len(item.dims) >= 2]
        assert cell.work.weight_bytes >= sum(4 * int(np.prod(item.dims)) for item in weights)
        assert cell.key.part == {"head": "encode", "tail": "decode"}[half.key.part]
        assert cell.codec == bundle.codec
    of_four = coding_cells(project, project_cells(project, batch=4))
    assert [cell.work.symbols for cell in of_four] == [4 * cell.work.symbols for cell in found]
    assert of_four[0].work.contexts == found[0].work.contexts


def test_what_has_a_form_in_a_precision_is_all_there_is(project: Project) -> None:
    assert project_cells(project, "fp16") == ()


def test_a_part_that_was_not_measured_is_predicted(project: Project, rows: list[Row]) -> None:
    known = [row for row in rows if (row.variant, row.layer, row.part) != HIDDEN]
    (made,) = predicted_rows(project, known, "cpu").made
    assert (made.key.variant, made.key.layer, made.key.part) == HIDDEN
    assert made.origin == "predicted" and made.ms > 0 and made.cells == 9
    assert made.source_sha256 == read_split(project.variant_folder("pruned"), "conv4_1").head.sha256
    assert predicted_rows(project, rows, "cpu").made == ()


def test_rows_of_other_graphs_and_targets_are_no_measurements(project: Project, rows: list[Row]) -> None:
    is_hidden = [(row.variant, row.layer, row.part) == HIDDEN for row in rows]
    known = [row for row, hidden in zip(rows, is_hidden, strict=True) if not hidden]
    (hidden_row,) = [row for row, hidden in zip(rows, is_hidden, strict=True) if hidden]
    expected = predicted_rows(project, known, "cpu")
    for other in (
        replace(hidden_row, source_sha256="0" * 64, p50_ms=1000.0),
        replace(hidden_row, source_sha256=None, p50_ms=1000.0),
        replace(hidden_row, target="rtx-ada", p50_ms=1000.0),
    ):
        assert predicted_rows(project, [*known, other], "cpu") == expected
    assert predicted_rows(project, rows, "rtx-ada").made == ()


def test_too_few_rows_give_reasons_and_no_numbers(project: Project, rows: list[Row]) -> None:
    found = predicted_rows(project, [row for row in rows if row.layer == "pool3"], "cpu")
    assert found.made == ()
    reasons = {(key.layer, key.part): reason for key, reason in found.refused.items()}
    assert set(reasons) == {
        ("whole", "whole"), *(("conv4_1", part) for part in ("head", "encode", "decode", "tail"))
    }  # fmt: skip
    for (_, part), reason in reasons.items():
        counted = (
            ": 2 at 1 cut; " if part in ("encode", "decode") else ": 4 of heads, tails and whole networks, at 1 cut; "
        )
        assert counted in reason


def test_layer_times_rise_to_the_whole_networks(project: Project, rows: list[Row]) -> None:
    planted = {("pool3", "head"): 1.0, ("conv4_1", "head"): 2.0, ("whole", "whole"): 4.0}
    told = [
        replace(row, p50_ms=planted.get((row.layer, row.part), row.p50_ms) if row.variant == "pruned" else row.p50_ms)
        for row in rows
    ]
    found = layer_times(project, "pruned", told, "cpu")
    layers = read_layer_graph(project.variant_folder("pruned"), "pruned").layers
    short = {layer.name: display_name(layers, layer) for layer in layers}
    assert {item.layer: item.feature_bytes for item in found} == {layer.name: layer.feature_bytes for layer in layers}
    assert (np.diff([item.ms for item in found]) >= -1e-9).all()
    measured = {short[item.layer]: item.ms for item in found if item.origin == "measured"}
    assert list(measured) == ["pool3", "conv4_1"]
    assert 0 < measured["pool3"] <= 1.0 < measured["conv4_1"] <= 2.0  # less what encodes at the cut
    assert found[-1].ms == pytest.approx(4.0)


def test_networks_are_timed_with_the_error_of_layers_left_out(project: Project, rows: list[Row]) -> None:
    found = network_times(project, ["original", "pruned", "nobody"], rows, "cpu")
    assert found["nobody"] == "variant nobody is not split; run: coopexport split --all"
    pruned = found["pruned"]
    assert not isinstance(pruned, str)
    layers = read_layer_graph(project.variant_folder("pruned"), "pruned").layers
    plain = layer_times(project, "pruned", rows, "cpu")
    assert [item.layer for item in pruned.times] == [
        display_name(layers, next(layer for layer in layers if layer.name == item.layer)) for item in plain
    ]
    assert [item.ms for item in pruned.times] == [item.ms for item in plain]
    assert pruned.errors == ()  # one of two cuts left out, the other one and whole networks are too little
    assert network_times(project, ["pruned"], [], "cpu")["pruned"].startswith("too few times were measured")


def test_what_cannot_be_known_is_refused(project: Project, rows: list[Row], finished_project: Path) -> None:
    with pytest.raises(CoopexportError, match="variant nobody is not split; run: coopexport split --all"):
        layer_times(project, "nobody", rows, "cpu")
    with pytest.raises(InputError, match="too few times were measured"):
        layer_times(project, "original", [], "cpu")
    other = load_project(finished_project / "coopexport.toml")
    with (other.variant_folder("pruned") / "pool3.head.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(DamagedFileError, match=r"pool3\.head\.onnx"):
        project_cells(other)
