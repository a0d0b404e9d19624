"""calibration.json: nothing is measured twice, and nothing that no longer holds is used."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from pydantic import TypeAdapter

from calibration.ranges import calibration_file, clip_range
from exporter.encoding.specification import ClipRange
from exporter.project.settings import SplitSection
from exporter.variants.layer_graphs import LayerGraph
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes

INPUTS = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
TENSORS = ["a", "b"]


@pytest.fixture
def graph(tmp_path: Path) -> LayerGraph:
    return write_graph(tmp_path, 3.0)


def write_graph(folder: Path, factor: float) -> LayerGraph:
    """Write a graph with the inner tensors a = ReLU(x) and b = factor * a."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Mul", ["a", "factor"], ["b"]),
        helper.make_node("Neg", ["b"], ["y"]),
    ]
    ends = ([value("x", TensorProto.FLOAT, ["batch", 4])], [value("y", TensorProto.FLOAT, ["batch", 4])])
    weights = [helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])]
    model = helper.make_model(
        helper.make_graph(nodes, "g", *ends, weights), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    content = model.SerializeToString(deterministic=True)
    (folder / "model.onnx").write_bytes(content)
    return LayerGraph("original", folder, {}, sha256_of_bytes(content), ())


def clip_ranges(
    graph: LayerGraph, tensors: list[str], inputs: np.ndarray, settings: SplitSection
) -> dict[str, ClipRange]:
    """Return the ranges as they are for these inputs, which are known by their bytes."""
    made_from = {"graph": graph.model_sha256, "calibration data": sha256_of_bytes(inputs.tobytes())}
    return calibration_file.clip_ranges(graph, tensors, made_from, lambda: inputs, settings)


class Counted:
    """Counts the sessions that calibration opens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sessions = 0
        real = clip_range.open_session

        def open_session(model: onnx.ModelProto, *options: Any, **more: Any) -> Any:
            self.sessions += 1
            return real(model, *options, **more)

        monkeypatch.setattr(clip_range, "open_session", open_session)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def test_the_same_again_runs_nothing(graph: LayerGraph, counted: Counted) -> None:
    first = clip_ranges(graph, TENSORS, INPUTS, SplitSection())
    assert counted.sessions == 1
    content = (graph.folder / "calibration.json").read_bytes()
    again = clip_ranges(graph, TENSORS, INPUTS, SplitSection())
    assert again == first
    assert clip_ranges(graph, ["b"], INPUTS.copy(order="F"), SplitSection()) == {"b": first["b"]}
    assert counted.sessions == 1
    assert (graph.folder / "calibration.json").read_bytes() == content


def test_the_file_says_what_it_holds_for(graph: LayerGraph) -> None:
    found = clip_ranges(graph, TENSORS, INPUTS, SplitSection(percentile=99.5))
    content = json.loads((graph.folder / "calibration.json").read_text())
    assert content["schema"] == "coopexport.calibration/2.1"
    assert content["variant"] == "original"
    assert {(item["method"], item["percentile"]) for item in content["ranges"].values()} == {("percentile", 99.5)}
    assert content["made_from"] == {
        "graph": graph.model_sha256,
        "calibration data": sha256_of_bytes(INPUTS.tobytes()),
        "format": "coopexport.calibration/2.1",
    }
    assert TypeAdapter(dict[str, ClipRange]).validate_python(content["ranges"]) == found


@pytest.mark.parametrize("changed", ["method", "percentile", "bits", "data", "one value", "fewer", "graph"])
def test_what_has_changed_is_measured_again(graph: LayerGraph, counted: Counted, changed: str) -> None:
    first = clip_ranges(graph, TENSORS, INPUTS, SplitSection(percentile=99))
    settings, inputs = SplitSection(percentile=99), INPUTS
    if changed == "bits":
        first = clip_ranges(graph, TENSORS, INPUTS, SplitSection(clip="mse", bits=2))
        counted.sessions = 1
        settings = SplitSection(clip="mse", bits=4)
    elif changed == "method":
        settings = SplitSection(clip="minmax", percentile=99)
    elif changed == "percentile":
        settings = SplitSection(percentile=90)
    elif changed == "data":
        inputs = INPUTS[::-1] * 2
    elif changed == "one value":
        inputs = INPUTS.copy()
        inputs[7, 1] = 9
    elif changed == "fewer":
        inputs = INPUTS[:-1]
    else:
        graph = write_graph(graph.folder, -5.0)
    again = clip_ranges(graph, TENSORS, inputs, settings)
    assert counted.sessions == 2
    assert again != first
    assert again == clip_range.calibrate(graph.load(), TENSORS, inputs, calibration_file.clip_settings(settings))


def test_another_percentile_changes_nothing_for_minmax(graph: LayerGraph, counted: Counted) -> None:
    first = clip_ranges(graph, TENSORS, INPUTS, SplitSection(clip="minmax", percentile=99))
    assert clip_ranges(graph, TENSORS, INPUTS, SplitSection(clip="minmax", percentile=90)) == first
    assert counted.sessions == 1


def test_only_new_tensors_are_measured(graph: LayerGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    real = clip_range.calibrate

    def calibrate(model: onnx.ModelProto, tensors: list[str], *rest: Any) -> dict[str, ClipRange]:
        measured.extend(tensors)
        return real(model, tensors, *rest)

    monkeypatch.setattr(calibration_file, "calibrate", calibrate)
    one = clip_ranges(graph, ["a"], INPUTS, SplitSection())
    both = clip_ranges(graph, ["b", "a", "b"], INPUTS, SplitSection())
    assert measured == ["a", "b"]
    assert list(both) == ["b", "a"]
    assert both["a"] == one["a"]
    assert set(json.loads((graph.folder / "calibration.json").read_text())["ranges"]) == {"a", "b"}


def test_nothing_is_written_when_a_tensor_is_refused(graph: LayerGraph) -> None:
    silent = write_graph(graph.folder, 0.0)
    with pytest.raises(CoopexportError, match=r"tensor 'b' is -?0\.0 everywhere"):
        clip_ranges(silent, TENSORS, INPUTS, SplitSection())
    assert not (graph.folder / "calibration.json").exists()


def test_later_minor_versions_are_read(graph: LayerGraph, counted: Counted) -> None:
    first = clip_ranges(graph, TENSORS, INPUTS, SplitSection())
    path = graph.folder / "calibration.json"
    content = json.loads(path.read_text())
    content["schema"] = "coopexport.calibration/2.3"
    content["ranges"]["a"]["histogram"] = [1, 2, 3]
    path.write_text(json.dumps(content))
    assert clip_ranges(graph, TENSORS, INPUTS, SplitSection()) == first
    assert counted.sessions == 1


GOOD_RANGE = dataclasses.asdict(ClipRange((0.0,), (1.0,), "minmax", None, 1, (0.0,), (1.0,)))


@pytest.mark.parametrize("ranges", [None, [], {"a": []}, {"a": {"low": 0.0}}, {"a": {**GOOD_RANGE, "low": "x"}}])
def test_a_malformed_file_is_refused_in_one_line(graph: LayerGraph, ranges: Any) -> None:
    clip_ranges(graph, TENSORS, INPUTS, SplitSection())
    path = graph.folder / "calibration.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "ranges": ranges}))
    with pytest.raises(CoopexportError, match=r"calibration\.json: ranges.*delete it") as refusal:
        clip_ranges(graph, TENSORS, INPUTS, SplitSection())
    assert "\n" not in str(refusal.value)
