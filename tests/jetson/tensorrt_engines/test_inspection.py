"""The inspector's account of an engine, in the keys of every version."""

import json

import pytest
import tensorrt_graphs
from tensorrt_case import RTX, build, device_memory, tensorrt
from tensorrt_doubles.installing import VERSIONS

from jetson.errors import CoopexportError
from jetson.tensorrt_engines.inspection import describe_layers
from jetson.tensorrt_engines.runtime import load_engine


@pytest.mark.parametrize("version", [*VERSIONS, RTX])
def test_layers_are_told_with_kernel_and_dtype(monkeypatch, version):
    with device_memory(monkeypatch), tensorrt(version) as library:
        graph = tensorrt_graphs.half()
        runner = load_engine(library, build(library, version, graph, precision="fp16").data)
        found = describe_layers(library, runner.engine)
        assert [(one.name, one.kind) for one in found] == [(node.name, node.op_type) for node in graph.graph.node]
        assert [one.dtypes for one in found] == [["float16"], ["float16"], ["float32"]]
        assert found[1].tactic == "double_conv"
        assert "/conv" in found[1].graph_layers
        runner.close()


class Account:
    """An engine whose inspector says what it is told to."""

    def __init__(self, text):
        self.text = text

    def create_engine_inspector(self):
        return self

    def get_engine_information(self, format):
        return self.text


def layers_of(content):
    with tensorrt("10.3") as library:
        return describe_layers(library, Account(json.dumps(content) if isinstance(content, dict) else content))


def test_names_alone_are_all_that_some_engines_tell():
    (found,) = layers_of({"Layers": ["conv1 + relu1"], "Bindings": []})
    assert found == ("conv1 + relu1", None, None, None, None)


@pytest.mark.parametrize(
    ("output", "dtype"),
    [
        ({"Format/Datatype": "Half"}, "float16"),
        ({"Format/Datatype": "Row major linear FP16 format"}, "float16"),
        ({"Format/Datatype": "Channel major FP32 format where channel % 4 == 0"}, "float32"),
        ({"Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}, "int8"),
        ({"Format": "Row major linear FP32 format (kLINEAR)", "DataType": "Half"}, "float16"),
        ({"Format": "kLINEAR", "Datatype": "UInt8"}, "uint8"),
        ({"Format/Datatype": "Unknown words"}, "Unknown words"),
    ],
)
def test_dtypes_are_read_in_both_styles(output, dtype):
    (found,) = layers_of({"Layers": [{"Name": "conv", "LayerType": "CaskConvolution", "Outputs": [output]}]})
    assert found.dtypes == [dtype]
    assert found.tactic is None


@pytest.mark.parametrize("content", ["", "no JSON", {"Bindings": []}, {"Layers": 3}, {"Layers": [{"Kind": "conv"}]}])
def test_an_unreadable_account_is_an_error(content):
    with pytest.raises(CoopexportError, match=r"TensorRT 10\.3\.0 gives no readable account"):
        layers_of(content)
