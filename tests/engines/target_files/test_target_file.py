"""The self-contained file: nothing left to resolve, and not one bit of a result changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from small_graphs import (
    CLASSES,
    FEATURE_SHAPE,
    SIDE,
    make_model,
    small_halves,
    small_inputs,
    small_network,
    small_specification,
)

from engines.target_files.target_file import describe_values, target_file
from engines.targets.lookup import find_target
from exporter.bundles.bundle import read_golden, read_split
from exporter.encoding.specification import encode
from exporter.layers.candidates import layer_name
from exporter.onnx_graphs.session import open_session, run
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes

HALVES = small_halves()
CPU = find_target("cpu")
REPOSITORY = Path(__file__).resolve().parents[3]
IMAGE = {"x": ["batch", 3]}
RESULT = {"y": ["batch", 3]}


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("role", ["head", "tail"])
def test_nothing_is_left_to_resolve(role: str, batch: int) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(getattr(HALVES, role))
    model.graph.value_info.append(helper.make_tensor_value_info("feature", TensorProto.FLOAT, ["batch", 4, 6, 6]))
    before = model.SerializeToString(deterministic=True)
    made = target_file(model, CPU, (batch, batch, batch), role)
    assert model.SerializeToString(deterministic=True) == before
    assert len(made.functions) == 0
    assert [(opset.domain, opset.version) for opset in made.opset_import] == [("", 13)]
    assert {node.domain for node in made.graph.node} == {""}
    assert made.ir_version <= 8
    assert not made.graph.value_info
    for value in (*made.graph.input, *made.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        assert dimensions[0].dim_value == batch
        assert all(dimension.dim_value > 0 and not dimension.dim_param for dimension in dimensions)
    onnx.checker.check_model(made, full_check=True)


def test_identity_describes_what_goes_in_and_out() -> None:
    head = target_file(HALVES.head, CPU, (2, 2, 2), "head")
    assert describe_values(head.graph.input) == [{"name": "images", "dtype": "float32", "shape": [2, 3, SIDE, SIDE]}]
    assert describe_values(head.graph.output) == [{"name": "symbols_0", "dtype": "uint8", "shape": [2, *FEATURE_SHAPE]}]
    tail = target_file(HALVES.tail, CPU, (2, 2, 2), "tail")
    assert describe_values(tail.graph.input) == [{"name": "symbols_0", "dtype": "uint8", "shape": [2, *FEATURE_SHAPE]}]
    assert describe_values(tail.graph.output) == [{"name": "scores", "dtype": "float32", "shape": [2, CLASSES]}]


HEAD = open_session(HALVES.head, "disabled"), open_session(target_file(HALVES.head, CPU, (1, 1, 1), "head"), "disabled")
TAIL = open_session(HALVES.tail, "disabled"), open_session(target_file(HALVES.tail, CPU, (1, 1, 1), "tail"), "disabled")
PLAIN_HEAD = make_model(
    list(HALVES.head.graph.node)[:2],
    {"images": ["batch", 3, SIDE, SIDE]},
    {"feature": ["batch", *FEATURE_SHAPE]},
    list(HALVES.head.graph.initializer),
)
FEATURE = open_session(PLAIN_HEAD, "disabled")


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-30, 1.0, 1e4, 1e38]), st.booleans())
def test_results_are_the_same_bits(seed: int, factor: float, with_nan: bool) -> None:
    with np.errstate(over="ignore"):
        inputs = small_inputs(1, seed) * np.float32(factor)
    if with_nan:
        inputs[0, 1, 2, 3] = np.nan
    symbols, symbols_of_file = (run(session, [inputs])[0] for session in HEAD)
    assert symbols.dtype == symbols_of_file.dtype == np.uint8
    assert np.array_equal(symbols, symbols_of_file)
    assert np.array_equal(symbols, encode(small_specification(), run(FEATURE, [inputs])[0]))
    scores, scores_of_file = (run(session, [symbols])[0] for session in TAIL)
    assert np.array_equal(scores.view(np.uint32), scores_of_file.view(np.uint32))


@pytest.mark.parametrize("role", ["head", "tail"])
@pytest.mark.parametrize("layer", ["conv4_1", "pool3"])
def test_bundle_and_file_compute_the_same_bits(split_project: Path, layer: str, role: str) -> None:
    folder = split_project / "out" / "pruned"
    bundle = read_split(folder, layer)
    golden = read_golden(folder, bundle.golden)
    model = onnx.load(str(folder / getattr(bundle, role).file))
    given_name, expected_name = {"head": ("inputs", "symbols_0"), "tail": ("symbols_0", "outputs")}[role]
    made = target_file(model, CPU, (1, 1, 1), role)
    assert not any(tensor.external_data for tensor in made.graph.initializer)
    found = run(open_session(made, "disabled"), [golden[given_name]])[0]
    bundled = run(open_session(model, "disabled"), [golden[given_name]])[0]
    assert found.tobytes() == bundled.tobytes() == golden[expected_name].tobytes()


@pytest.mark.parametrize("role", ["head", "tail"])
def test_an_open_batch_stays_open_and_takes_any(role: str) -> None:
    made = target_file(getattr(HALVES, role), CPU, (1, 2, 8), role)
    for value in (*describe_values(made.graph.input), *describe_values(made.graph.output)):
        assert value["shape"][0] == -1
        assert all(size > 0 for size in value["shape"][1:])
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in (*made.graph.input, *made.graph.output)} == {
        "batch"
    }
    session = open_session(made, "disabled")
    inputs = small_inputs(8) if role == "head" else np.zeros((8, *FEATURE_SHAPE), np.uint8)
    together = session.run(None, {made.graph.input[0].name: inputs})[0]
    alone = [session.run(None, {made.graph.input[0].name: inputs[index : index + 1]})[0] for index in range(8)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-5)


@pytest.mark.parametrize("batches", [(0, 1, 1), (2, 1, 2), (1, 3, 2)])
def test_batches_out_of_order_are_refused(batches: tuple[int, int, int]) -> None:
    with pytest.raises(CoopexportError, match="in the order min, opt, max"):
        target_file(HALVES.head, CPU, batches, "head")


def test_nodes_are_named_after_the_function_that_they_came_out_of() -> None:
    made = target_file(HALVES.head, CPU, (1, 1, 1), "head")
    assert [layer_name(node) for node in made.graph.node] == ["conv1", "act1", *["FeatureEncode"] * 7]
    assert all(node.name.startswith(f"/FeatureEncode/{node.op_type}") for node in made.graph.node[2:])
    assert len({node.name for node in made.graph.node}) == len(made.graph.node)


def test_constants_are_initialisers() -> None:
    """Older parsers take bounds and scales from nowhere else."""
    made = target_file(HALVES.head, CPU, (1, 1, 1), "head")
    assert "Constant" not in {node.op_type for node in made.graph.node}
    (clip,) = (node for node in made.graph.node if node.op_type == "Clip")
    assert set(clip.input[1:]) <= {tensor.name for tensor in made.graph.initializer}


def test_the_same_graph_gives_the_same_bytes_in_another_process() -> None:
    script = (
        f"import sys; sys.path[:0] = [{str(REPOSITORY)!r}, {str(Path(__file__).parents[1])!r}]\n"
        "from small_graphs import small_halves\n"
        "from engines.target_files.target_file import target_file\n"
        "from engines.targets.lookup import find_target\n"
        "from jetson.files.atomic_files import sha256_of_bytes\n"
        "file = target_file(small_halves().head, find_target('cpu'), (1, 1, 1), 'head')\n"
        "print(sha256_of_bytes(file.SerializeToString(deterministic=True)))\n"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    here = target_file(HALVES.head, CPU, (1, 1, 1), "head").SerializeToString(deterministic=True)
    assert printed.strip() == sha256_of_bytes(here)


def test_an_opset_that_the_target_does_not_read_is_refused() -> None:
    model = small_network()
    model.opset_import[0].version = 17
    assert target_file(model, find_target("xavier-nx"), (1, 1, 1), "net").opset_import[0].version == 17
    for name, newest in (("nano", 13), ("nano-cpu", 15)):
        with pytest.raises(
            CoopexportError, match=f"net is of opset 17, and {name}@4.6.1 reads no newer one than {newest}"
        ):
            target_file(model, find_target(name), (1, 1, 1), "net")


def foreign_node(name: str, source: str = "x", result: str = "y") -> onnx.NodeProto:
    return helper.make_node("Magic", [source], [result], name=name, domain="com.example")


def test_foreign_operators_are_refused_by_name() -> None:
    model = make_model([foreign_node("trick")], IMAGE, RESULT, domains=("com.example",))
    with pytest.raises(CoopexportError, match=r"my\.onnx .* com\.example\.Magic \(trick\)"):
        target_file(model, CPU, (1, 1, 1), "my.onnx")


def test_foreign_operator_without_a_name_is_called_by_its_output() -> None:
    model = make_model([foreign_node("")], IMAGE, RESULT, domains=("com.example",))
    with pytest.raises(CoopexportError, match=r"com\.example\.Magic \(y\)"):
        target_file(model, CPU, (1, 1, 1), "my.onnx")


def test_foreign_operator_inside_a_branch_is_refused_too() -> None:
    def branch(node: onnx.NodeProto) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, ["batch", 3])
        return helper.make_graph([node], "branch", [], [value])

    nodes = [
        helper.make_node("Constant", [], ["condition"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True])),
        helper.make_node(
            "If",
            ["condition"],
            ["y"],
            then_branch=branch(foreign_node("inner", result="then")),
            else_branch=branch(helper.make_node("Relu", ["x"], ["else"])),
        ),
    ]
    with pytest.raises(CoopexportError, match=r"com\.example\.Magic \(inner\)"):
        target_file(make_model(nodes, IMAGE, RESULT, domains=("com.example",)), CPU, (1, 1, 1), "my.onnx")


def test_a_function_that_is_not_there_is_refused() -> None:
    model = small_halves().head
    del model.functions[:]
    with pytest.raises(CoopexportError, match=r"ai\.coopexport\.FeatureEncode"):
        target_file(model, CPU, (1, 1, 1), "head")


def test_another_fixed_batch_is_refused() -> None:
    assert (
        target_file(small_network(batch=3), CPU, (3, 3, 3), "net")
        .graph.input[0]
        .type.tensor_type.shape.dim[0]
        .dim_value
        == 3
    )
    with pytest.raises(CoopexportError, match=r"'images' is fixed to batch 3; asked for: 1"):
        target_file(small_network(batch=3), CPU, (1, 1, 1), "net")


def test_sizes_that_stay_open_are_refused_by_name() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    for inputs, outputs, name in (
        ({"x": ["batch", "width"]}, RESULT, "x"),
        (IMAGE, {"y": ["batch", "width"]}, "y"),
        (IMAGE, {"y": []}, "y"),
    ):
        with pytest.raises(CoopexportError, match=f"my.onnx: '{name}' has no fixed size"):
            target_file(make_model([node], inputs, outputs), CPU, (1, 1, 1), "my.onnx")


def test_an_invalid_graph_is_refused_in_one_line() -> None:
    model = make_model([helper.make_node("Relu", ["nowhere"], ["y"])], IMAGE, RESULT)
    with pytest.raises(CoopexportError, match=r"my\.onnx is not a valid ONNX graph: .*nowhere"):
        target_file(model, CPU, (1, 1, 1), "my.onnx")
