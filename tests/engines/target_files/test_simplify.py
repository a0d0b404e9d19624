"""onnx-simplifier: what it makes is taken where it computes the same, and left where it does not, with the reason."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_graphs import FEATURE_SHAPE, make_model, small_halves, small_inputs, small_network, small_specification

from engines.target_files import simplify as module
from engines.target_files.simplify import Simplified, simplify
from engines.target_files.target_file import target_file
from engines.targets.lookup import find_target
from exporter.bundles.bundle import CutTensorRecord, read_golden, read_split
from exporter.bundles.golden import golden_tail_inputs
from exporter.onnx_graphs.session import open_session, run
from jetson.errors import CoopexportError

pytest.importorskip("onnxsim")
PLAIN = find_target("cpu")
TARGET = dataclasses.replace(PLAIN, simplify=True)
VERSION = f"onnxsim {metadata.version('onnxsim')}"
SYMBOLS = CutTensorRecord(name="feature", shape=FEATURE_SHAPE, encoding=small_specification(), codec="raw")
STATIC = (1, 1, 1)


def network(batches: tuple[int, int, int] = STATIC) -> onnx.ModelProto:
    """Return the small network behind nodes that compute nothing."""
    model = small_network()
    two, half = (numpy_helper.from_array(np.float32(value), name) for value, name in ((2, "two"), (0.5, "half")))
    model.graph.initializer.extend([two, half])
    model.graph.node.append(helper.make_node("Mul", ["two", "half"], ["one"], name="one"))
    model.graph.node.append(helper.make_node("Mul", ["scores", "one"], ["result"], name="scaled"))
    model.graph.output[0].name = "result"
    return target_file(model, PLAIN, batches, "net")


def simplified_by(
    simplifier: Callable[[onnx.ModelProto], onnx.ModelProto], model: onnx.ModelProto | None = None
) -> Simplified:
    return simplify(model or network(), TARGET, STATIC, [small_inputs(16)], simplifier=simplifier)


def test_it_is_off_unless_a_target_asks() -> None:
    model = network()
    result = simplify(model, PLAIN, STATIC, [small_inputs(16)])
    assert result.model is model
    assert result.flags == {}


@pytest.mark.parametrize("batches", [(3, 3, 3), (1, 2, 5)])
def test_the_real_one_leaves_out_what_computes_nothing(batches: tuple[int, int, int]) -> None:
    model = network(batches)
    inputs = small_inputs(16)
    result = simplify(model, TARGET, batches, [inputs])
    assert result.flags == {"simplified": VERSION}
    assert len(result.model.graph.node) < len(model.graph.node)
    assert result.model.graph.input == model.graph.input
    assert result.model.graph.output == model.graph.output
    assert result.model.ir_version <= 8
    assert not result.model.graph.value_info
    again = simplify(model, TARGET, batches, [inputs])
    assert again.model.SerializeToString(deterministic=True) == result.model.SerializeToString(deterministic=True)
    one, other = (run(open_session(item, "disabled"), [inputs[:15]])[0] for item in (model, result.model))
    np.testing.assert_allclose(other, one, rtol=1e-5)


def test_the_real_one_keeps_the_symbols_of_a_bundle(split_project: Path) -> None:
    folder = split_project / "out" / "pruned"
    bundle = read_split(folder, "conv4_1")
    golden = read_golden(folder, bundle.golden)
    for role, inputs, tensors in (
        ("head", [golden["inputs"]], bundle.tensors),
        ("tail", golden_tail_inputs(golden), ()),
    ):
        model = target_file(onnx.load(str(folder / getattr(bundle, role).file)), PLAIN, STATIC, role)
        result = simplify(model, TARGET, STATIC, inputs, tensors)
        assert result.flags == {"simplified": VERSION}


def scaled_by(factor: float) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    """Return a simplifier that multiplies the classifier's weights."""

    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        for tensor in changed.graph.initializer:
            if tensor.name == "w":
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), "w"))
        return changed

    return change


@pytest.mark.parametrize(
    ("factor", "reason"),
    [
        (1.0, None),
        (1 + 1e-5, None),
        (1.01, "output 0 changed by"),
        (np.nan, "outputs are not finite"),
        (0, "changed by"),
    ],
)
def test_other_numbers_switch_it_off(factor: float, reason: str | None) -> None:
    model = network()
    result = simplified_by(scaled_by(factor), model)
    if reason is None:
        assert result.flags == {"simplified": VERSION}
    else:
        assert result.model is model
        assert result.flags["simplified"] is False
        assert reason in result.flags["simplify_reason"]


@pytest.mark.parametrize(("shift", "is_taken"), [(0.0, True), (1e-7, True), (0.02, False), (1.0, False)])
def test_other_symbols_switch_it_off(shift: float, is_taken: bool) -> None:
    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        for tensor in changed.graph.initializer:
            if tensor.name == "symbols_0.low":
                tensor.CopyFrom(numpy_helper.from_array(np.float32(-shift), tensor.name))
        return changed

    head = target_file(small_halves().head, PLAIN, STATIC, "head")
    result = simplify(head, TARGET, STATIC, [small_inputs(16)], [SYMBOLS], simplifier=change)
    assert bool(result.flags["simplified"]) == is_taken
    assert is_taken or "of the symbols of output 0 changed" in result.flags["simplify_reason"]
    if shift == 1.0:  # without their encoding, integers must be the same
        plain = simplify(head, TARGET, STATIC, [small_inputs(16)], simplifier=change)
        assert plain.flags["simplify_reason"] == "output 0 holds integers, and some changed"


@pytest.mark.parametrize(("step", "is_taken"), [(1, True), (2, False)])
def test_few_symbols_may_be_off_by_one_and_none_by_two(step: int, is_taken: bool) -> None:
    count = 2000
    nodes = [
        helper.make_node("Add", ["x", "shift"], ["s"]),
        helper.make_node("Cast", ["s"], ["y"], to=TensorProto.UINT8),
    ]

    def shifted_by(values: np.ndarray) -> onnx.ModelProto:
        weights = [numpy_helper.from_array(values, "shift")]
        model = make_model(nodes, {"x": [1, count]}, {"y": [1, count]}, weights, output_type=TensorProto.UINT8)
        return target_file(model, PLAIN, STATIC, "head")

    shift = np.zeros((2, count), np.float32)
    shift[1, 7] = step
    before, after = (shifted_by(values) for values in shift)
    tensor = SYMBOLS.model_copy(update={"shape": (count,)})
    inputs = [np.full((4, count), 5, np.float32)]
    result = simplify(before, TARGET, STATIC, inputs, [tensor], simplifier=lambda _: after)
    assert bool(result.flags["simplified"]) == is_taken
    assert is_taken or "by at most 2" in result.flags["simplify_reason"]


def edited(edit: Callable[[onnx.ModelProto], object]) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        edit(changed)
        return changed

    return change


def fix_batch(model: onnx.ModelProto) -> None:
    """Put a constant where the batch was, as folding an example's shapes would."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 144], np.int64), "shape"))
    flatten = next(node for node in model.graph.node if node.op_type == "Flatten")
    flatten.CopyFrom(helper.make_node("Reshape", [flatten.input[0], "shape"], list(flatten.output)))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda m: setattr(m.graph.input[0], "name", "image"), "the graph's inputs changed"),
        (lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", TensorProto.FLOAT16), "outputs changed"),
        (lambda m: setattr(m.opset_import[0], "version", 17), "operator sets changed"),
        (lambda m: m.opset_import.append(helper.make_opsetid("com.microsoft", 1)), "operator sets changed"),
        (lambda m: setattr(m, "ir_version", 11), "IR version went from 8 to 11"),
        (lambda m: m.graph.node.pop(), "ONNX Runtime cannot load"),
    ],
)
def test_another_graph_than_the_builder_expects_switches_it_off(edit: Callable, reason: str) -> None:
    flags = simplified_by(edited(edit)).flags
    assert flags["simplified"] is False
    assert reason in flags["simplify_reason"]


def test_a_batch_that_was_folded_in_switches_it_off() -> None:
    inputs = [small_inputs(16)]
    result = simplify(network((1, 2, 4)), TARGET, (1, 2, 4), inputs, simplifier=edited(fix_batch))
    assert result.flags["simplified"] is False
    assert "batch 4 does not run" in result.flags["simplify_reason"]
    assert simplify(network(), TARGET, STATIC, inputs, simplifier=edited(fix_batch)).flags == {"simplified": VERSION}


def test_folded_scales_switch_it_off() -> None:
    weights = [
        numpy_helper.from_array(np.arange(4, dtype=np.int8).reshape(1, 4), "q"),
        numpy_helper.from_array(np.float32(0.1), "s"),
    ]
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["w"]), helper.make_node("Add", ["x", "w"], ["y"])]
    model = target_file(make_model(nodes, {"x": [1, 4]}, {"y": [1, 4]}, weights), PLAIN, STATIC, "net")

    def fold(changed: onnx.ModelProto) -> None:
        del changed.graph.node[0]
        value = numpy_helper.to_array(weights[0]).astype(np.float32) * np.float32(0.1)
        changed.graph.initializer.append(numpy_helper.from_array(value, "w"))

    inputs = [np.random.default_rng(0).random((16, 4), np.float32)]
    result = simplify(model, TARGET, STATIC, inputs, simplifier=edited(fold))
    assert result.flags["simplify_reason"] == "QuantizeLinear or DequantizeLinear nodes changed"
    unfolded = simplify(model, TARGET, STATIC, inputs)
    assert unfolded.flags == {"simplified": VERSION}
    assert [node.op_type for node in unfolded.model.graph.node] == ["DequantizeLinear", "Add"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.abort()", r"failed \(signal 6\)"),
        ("def simplify(model): raise RuntimeError('no such shape')", "RuntimeError: no such shape"),
        ("def simplify(model): return model, False", "its own check found other outputs"),
        ("def simplify(model):\n    import sys\n    sys.exit(0)", r"failed \(exit code 0\)"),
    ],
)
def test_a_simplifier_that_crashes_switches_itself_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    """In its own process, with another package of that name."""
    (tmp_path / "onnxsim.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    model = network()
    result = simplify(model, TARGET, STATIC, [small_inputs(16)])
    assert result.model is model
    assert result.flags["simplified"] is False
    assert re.search(reason, result.flags["simplify_reason"])


def test_one_that_takes_too_long_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxsim.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.5)
    flags = simplify(network(), TARGET, STATIC, [small_inputs(16)]).flags
    assert flags == {"simplified": False, "simplify_reason": "onnx-simplifier took more than 0.5 s"}


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.metadata, "version", version)
    with pytest.raises(CoopexportError, match=r"coopexport\[simplify\]"):
        simplify(network(), TARGET, STATIC, [small_inputs(16)])
