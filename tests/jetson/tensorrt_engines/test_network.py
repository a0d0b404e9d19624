"""From ONNX file to network: every refusal names its node, and nothing changes its dtype unseen."""

import onnx
import pytest
import tensorrt_graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorrt_case import RTX, build, settings_for, symbols_of, tensorrt
from tensorrt_doubles.installing import VERSIONS
from tensorrt_graphs import declared

from jetson.errors import CoopexportError
from jetson.tensorrt_engines.build import build_engine
from jetson.tensorrt_engines.network import parse_network
from jetson.tensorrt_engines.onnx_nodes import node_names, weights_outside
from jetson.tensorrt_engines.tensor_info import TensorInfo, check_io_tensors

GRAPHS = tensorrt_graphs.judged_graphs()
EVERY = [*VERSIONS, RTX]


def two_unknown():
    nodes = [
        tensorrt_graphs.node("Relu", ["x"], ["a"], name="/features/relu"),
        tensorrt_graphs.node("Swirl", ["a"], ["b"], name="/features/swirl"),
        tensorrt_graphs.node("Twist", ["b"], ["y"]),
    ]
    return tensorrt_graphs.model(nodes, [("x", 1, [1, 3])], [("y", 1, [1, 3])])


@pytest.mark.parametrize("version", EVERY)
def test_a_refused_node_is_named_with_its_layer(version):
    """TensorRT 8 gives its index only, and stops at the first."""
    with tensorrt(version) as library, pytest.raises(CoopexportError) as refusal:
        build(library, version, two_unknown())
    said = str(refusal.value)
    assert "cannot read the graph: node 1 (Swirl /features/swirl): " in said
    assert "Plugin not found" in said
    # A node without a name is known by what it makes.
    assert ("node 2 (Twist y)" in said) == (not version.startswith("8"))
    assert len(said.splitlines()) == 1


def test_many_refusals_are_counted():
    nodes = [tensorrt_graphs.node("Swirl", ["x"], [f"y{index}"], name=f"n{index}") for index in range(30)]
    graph = tensorrt_graphs.model(nodes, [("x", 1, [1, 3])], [("y29", 1, [1, 3])])
    with tensorrt("10.3") as library, pytest.raises(CoopexportError, match=r"node 19 .*and 10 more"):
        build(library, "10.3", graph)


@pytest.mark.parametrize("version", EVERY)
def test_a_description_of_one_word_is_completed_from_the_log(version):
    with tensorrt(version) as library, pytest.raises(CoopexportError) as refusal:
        build(library, version, GRAPHS["BitShift"])
    assert "(BitShift y)" in str(refusal.value)
    assert version.startswith("8") or "In node 0 with name" in str(refusal.value)


@pytest.mark.parametrize("version", EVERY)
@pytest.mark.parametrize("data", [b"", onnx.ModelProto(ir_version=8).SerializeToString()], ids=["empty", "no graph"])
def test_a_network_without_outputs_is_a_failure(version, data):
    with tensorrt(version) as library, pytest.raises(CoopexportError, match="no network comes out of it"):
        build_engine(library, data, settings_for(version))


@pytest.mark.parametrize("version", EVERY)
def test_garbage_is_a_failure(version):
    with tensorrt(version) as library, pytest.raises(CoopexportError, match="Failed to parse ONNX model"):
        build_engine(library, b"\xff" * 100, settings_for(version))


@pytest.mark.parametrize("version", EVERY)
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("float64", r"input 'x' \(float32, 1x3\) of what the graph declares as 'x' \(float64, 1x3\)"),
        ("QuantizeLinear to uint8", r"output 'y' \(int8, 1x3\) of .* \(uint8, 1x3\)"),
        ("declared uint8, is float", r"output 'y' \(float32, 1x3\) of .* \(uint8, 1x3\)"),
    ],
)
def test_a_dtype_that_the_parser_changes_is_refused(version, name, what):
    graph = GRAPHS[name]
    ends = declared(graph.graph.input), declared(graph.graph.output)
    with tensorrt(version) as library, pytest.raises(CoopexportError, match=what):
        build_engine(library, graph.SerializeToString(), settings_for(version), *ends)


def test_int64_becomes_int32_in_8_and_is_refused_there():
    graph = GRAPHS["Cast to int64"]
    ends = declared(graph.graph.input), declared(graph.graph.output)
    with tensorrt("8.6") as library, pytest.raises(CoopexportError, match=r"int32, 1x3\) of .*int64"):
        build_engine(library, graph.SerializeToString(), settings_for("8.6"), *ends)
    with tensorrt("10.3") as library:
        assert build_engine(library, graph.SerializeToString(), settings_for("10.3"), *ends).data


@pytest.mark.parametrize("version", EVERY)
def test_uint8_is_at_the_ends_only_and_not_at_all_in_8_2(version):
    with tensorrt(version) as library:
        if version == "8.2":
            with pytest.raises(CoopexportError, match=r"node 5 .Cast /encode/cast.*Unsupported data type"):
                build(library, version, tensorrt_graphs.head())
            with pytest.raises(CoopexportError, match="Failed to convert ONNX date type"):
                build(library, version, tensorrt_graphs.tail())
        else:
            assert build(library, version, tensorrt_graphs.head()).data
            with pytest.raises(CoopexportError, match="UINT8 types for intermediate tensors"):
                build(library, version, GRAPHS["uint8 between"])
        assert build(library, version, tensorrt_graphs.head(symbols=symbols_of(version))).data


@pytest.mark.parametrize("version", EVERY)
@pytest.mark.parametrize("name", ["QuantizeLinear, zero point 128", "DequantizeLinear of an int32 bias"])
def test_asymmetric_quantisation_is_refused(version, name):
    with tensorrt(version) as library, pytest.raises(CoopexportError, match=r"zero point|must have type"):
        build(library, version, GRAPHS[name])


@pytest.mark.parametrize("version", EVERY)
def test_mixed_dtypes_are_refused_where_the_graph_is_strongly_typed(version):
    with tensorrt(version) as library:
        if version.startswith("8"):
            assert build(library, version, GRAPHS["half and float added"], precision="fp16").data
        else:
            with pytest.raises(CoopexportError, match="FLOAT and HALF"):
                build(library, version, GRAPHS["half and float added"])


@pytest.mark.parametrize("version", EVERY)
def test_the_network_lives_as_long_as_its_parser(version):
    """With a temporary network the real parser reads freed memory; the double raises Segfault."""
    with tensorrt(version) as library:
        parsed = parse_network(library, tensorrt_graphs.head(symbols=6).SerializeToString())
        assert parsed.parser.num_errors == 0
        assert parsed.strongly_typed == (not version.startswith("8"))
        assert [str(end) for end in parsed.inputs + parsed.outputs] == [
            "'images' (float32, 1x3x6x6)",
            "'wire' (int32, 1x4x6x6)",
        ]


def test_any_size_that_is_no_number_is_dynamic():
    found = [TensorInfo("x", "float32", (-1, 3))]
    for batch in (0, -1, None, "batch"):
        check_io_tensors("TensorRT", "input", found, [{"name": "x", "dtype": "float32", "shape": [batch, 3]}])
    with pytest.raises(CoopexportError, match=r"makes input 'x' \(float32, \?x3\) of .* 1x3\)"):
        check_io_tensors("TensorRT", "input", found, [{"name": "x", "dtype": "float32", "shape": [1, 3]}])
    with pytest.raises(CoopexportError, match=r"makes input 'x' .* declares as nothing"):
        check_io_tensors("TensorRT", "input", found, [])
    with pytest.raises(CoopexportError, match="makes input nothing of"):
        check_io_tensors("TensorRT", "input", [], [{"name": "x", "dtype": "float32", "shape": [1, 3]}])


@pytest.mark.parametrize("name", GRAPHS)
def test_node_names_are_read_as_onnx_reads_them(name):
    nodes = GRAPHS[name].graph.node
    found = node_names(GRAPHS[name].SerializeToString())
    assert found == [(node.op_type, node.name or node.output[0]) for node in nodes]


@pytest.mark.parametrize("version", EVERY)
def test_weights_outside_of_the_file_are_refused(version):
    """TensorRT looks for them in the working directory and follows links; onnx and ONNX Runtime do not."""
    graph = tensorrt_graphs.head(symbols=6)
    onnx.external_data_helper.set_external_data(graph.graph.initializer[0], "../weights.bin")
    graph.graph.initializer[0].ClearField("raw_data")
    with tensorrt(version) as library, pytest.raises(CoopexportError, match=r"weights in other files \(kernel\)"):
        build(library, version, graph)


@given(st.binary(max_size=200))
def test_node_names_of_anything_raise_nothing(data):
    assert isinstance(node_names(data), list)
    assert isinstance(weights_outside(data), list)


@settings(max_examples=50)
@given(st.data())
def test_node_names_of_a_damaged_graph_raise_nothing(data):
    content = bytearray(tensorrt_graphs.tail().SerializeToString())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    assert isinstance(node_names(bytes(content[: data.draw(st.integers(0, len(content)))])), list)
