"""The doubles are as strict as what they stand for: TensorRT-RTX's is held against the real one, graph by graph."""

import re
from importlib import util

import numpy as np
import onnx
import pytest
import tensorrt_graphs
from tensorrt_doubles import onnx_reader
from tensorrt_doubles.host_memory import HostMemory, Misuse
from tensorrt_doubles.installing import VERSIONS, installed, make_module
from tensorrt_doubles.strict_classes import Surface
from tensorrt_doubles.world import Segfault

GRAPHS = tensorrt_graphs.judged_graphs()

real = pytest.mark.skipif(
    util.find_spec("tensorrt_rtx") is None, reason="left out: TensorRT-RTX exists for Linux on x86-64 only"
)


def judgement(module, logger, graph):
    """Return dtypes of the outputs, or code, node and operator of each error."""
    builder = module.Builder(logger)
    network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = module.OnnxParser(network, logger)
    if parser.parse(graph.SerializeToString()):
        return [network.get_output(index).dtype.name for index in range(network.num_outputs)]
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    return [(error.code().name, error.node(), error.node_operator()) for error in errors]


@real
@pytest.mark.parametrize("name", GRAPHS)
def test_the_double_of_rtx_judges_as_rtx(name):
    import tensorrt_rtx

    real_one = judgement(tensorrt_rtx, tensorrt_rtx.Logger(tensorrt_rtx.Logger.INTERNAL_ERROR), GRAPHS[name])
    module = make_module("rtx-1.7")
    assert judgement(module, quiet(module), GRAPHS[name]) == real_one


@real
def test_every_name_of_the_double_of_rtx_is_real():
    import tensorrt_rtx

    surface = Surface("rtx-1.7")
    for name in ("Builder", "IBuilderConfig", "OnnxParser", "ICudaEngine", "IExecutionContext", "Runtime", "ILogger"):
        missing = {member for member in surface.members(name) if not hasattr(getattr(tensorrt_rtx, name), member)}
        assert missing <= {"min_severity"}, name
    numbers = surface.numbers("NetworkDefinitionCreationFlag")["STRONGLY_TYPED"]
    assert numbers == int(tensorrt_rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    builder = tensorrt_rtx.Builder(tensorrt_rtx.Logger())
    network = builder.create_network(1)
    parser = tensorrt_rtx.OnnxParser(network, tensorrt_rtx.Logger())
    assert {name for name in surface.operators() if not parser.supports_operator(name)} == set()


def quiet(module):
    class Quiet(module.ILogger):
        def __init__(self):
            module.ILogger.__init__(self)
            self.texts = []

        def log(self, severity, msg):
            self.texts.append((severity.name, msg))

    return Quiet()


@pytest.mark.parametrize(
    ("version", "owner", "name"),
    [
        ("8.2", "IBuilderConfig", "set_memory_pool_limit"),
        ("8.2", "ICudaEngine", "num_io_tensors"),
        ("8.2", "DataType", "UINT8"),
        ("8.6", "NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
        ("8.6", "ParserError", "node_name"),
        ("10.3", "IBuilderConfig", "max_workspace_size"),
        ("10.3", "IExecutionContext", "execute_async_v2"),
        ("10.16", "ICudaEngine", "num_bindings"),
        ("11.1", "BuilderFlag", "FP16"),
        ("11.4", "NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"),
        ("11.4", "Builder", "platform_has_fast_fp16"),
        ("rtx-1.7", "BuilderFlag", "INT8"),
    ],
)
def test_a_name_that_the_version_lacks_is_no_attribute(version, owner, name):
    with pytest.raises(AttributeError):
        getattr(getattr(make_module(version), owner), name)


def test_a_class_that_the_version_lacks_is_no_attribute():
    for version, name in (("8.6", "IProgressMonitor"), ("11.4", "ComputeCapability"), ("8.2", "MemoryPoolType")):
        assert not hasattr(make_module(version), name)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_double_does_not_model_says_so(version):
    module = make_module(version)
    builder = module.Builder(quiet(module))
    with pytest.raises(NotImplementedError, match=r"Builder\.reset"):
        builder.reset()
    with pytest.raises(AttributeError, match="no attribute 'max_batches'"):
        builder.max_batches = 1


@pytest.mark.parametrize("version", [*VERSIONS, "rtx-1.7"])
def test_numbers_in_place_of_names_are_refused(version):
    module = make_module(version)
    builder = module.Builder(quiet(module))
    config = builder.create_builder_config()
    for call in (config.set_flag, config.clear_flag):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            call(int(module.BuilderFlag.TF32))
    with pytest.raises(TypeError):
        config.set_flag(module.BuilderFlag.TF32, True)
    with pytest.raises(TypeError):
        config.set_flag(flags=module.BuilderFlag.TF32)
    with pytest.raises(TypeError):
        builder.create_network(module.BuilderFlag.TF32)
    number = int(module.DataType.FLOAT)
    assert number != module.DataType.FLOAT
    with pytest.raises(TypeError, match="cannot be iterated"):
        list(module.BuilderFlag)


def test_numbers_of_flags_differ_by_version():
    numbers = {version: int(make_module(version).BuilderFlag.TF32) for version in VERSIONS}
    assert len(set(numbers.values())) > 1
    assert int(make_module("10.3").NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 1
    assert int(make_module("11.1").NetworkDefinitionCreationFlag.STRONGLY_TYPED) == 0


def test_a_parser_whose_network_is_gone_is_a_segfault():
    module = make_module("10.3")
    logger = quiet(module)
    builder = module.Builder(logger)
    parser = module.OnnxParser(builder.create_network(2), logger)
    with pytest.raises(Segfault):
        parser.parse(tensorrt_graphs.head().SerializeToString())


def test_only_the_first_logger_counts():
    module = make_module("8.5")
    first, second = quiet(module), quiet(module)
    module.Builder(first)
    runtime = module.Runtime(second)
    assert runtime.deserialize_cuda_engine(b"ftrt") is None
    assert not second.texts
    assert [severity for severity, _ in first.texts] == ["WARNING", "ERROR"]
    assert "differs from one already provided" in first.texts[0][1]


def test_a_logger_that_does_not_initialise_its_base_is_refused():
    module = make_module("10.3")

    class Careless(module.ILogger):
        def __init__(self):
            pass

    with pytest.raises(TypeError, match="incompatible"):
        module.Builder(Careless())


def test_a_parser_parses_once():
    module = make_module("10.13")
    logger = quiet(module)
    network = module.Builder(logger).create_network(2)
    parser = module.OnnxParser(network, logger)
    data = tensorrt_graphs.head().SerializeToString()
    assert parser.parse(data)
    assert not parser.parse(data)
    assert parser.num_errors == 0


def test_without_explicit_batch_the_parser_of_8_refuses():
    module = make_module("8.6")
    logger = quiet(module)
    network = module.Builder(logger).create_network()
    parser = module.OnnxParser(network, logger)
    assert not parser.parse(tensorrt_graphs.tail(symbols=onnx.TensorProto.INT32).SerializeToString())
    assert "explicit batch" in parser.get_error(0).desc()


def test_a_double_is_taken_back():
    with installed("8.2") as double:
        import tensorrt

        assert tensorrt is double
    assert util.find_spec("tensorrt") is None or __import__("tensorrt") is not double


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_are_read_as_onnx_reads_them(name):
    graph = GRAPHS[name].graph
    found = onnx_reader.read_model(GRAPHS[name].SerializeToString())
    assert [(one.operator, one.name, one.inputs, one.outputs) for one in found.nodes] == [
        (one.op_type, one.name, list(one.input), list(one.output)) for one in graph.node
    ]
    for ends, read in ((graph.input, found.inputs), (graph.output, found.outputs)):
        assert [(end.name, end.type.tensor_type.elem_type) for end in ends] == [one[:2] for one in read]
        sizes = [tuple(size.dim_value or -1 for size in end.type.tensor_type.shape.dim) for end in ends]
        assert sizes == [one.shape for one in read]
    assert {item.name: not np.any(onnx.numpy_helper.to_array(item)) for item in graph.initializer} == {
        key: value.all_zero for key, value in found.initializers.items()
    }


class TestHostMemory:
    """Every misuse is noticed, also where its exception is swallowed."""

    def misuses(self, memory, call, said):
        with pytest.raises(Misuse, match=re.escape(said)):
            call()
        with pytest.raises(AssertionError, match=re.escape(said)):
            memory.check_clean()

    def test_double_free(self):
        memory = HostMemory()
        address = memory.allocate(4)
        memory.free(address)
        self.misuses(memory, lambda: memory.free(address), "freed twice")

    def test_an_address_inside(self):
        memory = HostMemory()
        address = memory.allocate(4)
        self.misuses(memory, lambda: memory.free(address + 1), "never allocated")

    def test_a_leak(self):
        memory = HostMemory()
        memory.allocate(4)
        with pytest.raises(AssertionError, match="1 allocations leak"):
            memory.check_clean()

    def test_use_after_free(self):
        memory = HostMemory()
        address = memory.allocate(4)
        memory.free(address)
        self.misuses(memory, lambda: memory.read(address, 1), "in no live allocation")

    def test_a_copy_that_is_too_long(self):
        memory = HostMemory()
        address, stream = memory.allocate(4), memory.make_stream()
        self.misuses(memory, lambda: memory.copy_in(address, np.zeros(5, np.uint8), stream), "past an end")

    def test_memory_freed_under_waiting_work(self):
        memory = HostMemory()
        address, stream = memory.allocate(4), memory.make_stream()
        memory.copy_in(address, np.zeros(4, np.uint8), stream)
        self.misuses(memory, lambda: memory.free(address), "have work")

    def test_copies_wait_for_their_stream(self):
        memory = HostMemory()
        address, stream = memory.allocate(4), memory.make_stream()
        found = np.zeros(4, np.uint8)
        memory.copy_in(address, np.arange(4, dtype=np.uint8), stream)
        memory.copy_out(found, address, stream)
        assert not found.any()
        memory.synchronize(stream)
        assert list(found) == [0, 1, 2, 3]
        memory.free(address)
        memory.destroy_stream(stream)
        memory.check_clean()
