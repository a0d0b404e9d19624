"""Networks, their tensors, and the parser that fills them."""

from tensorrt_doubles import onnx_reader
from tensorrt_doubles.parser_rules import Problem, Rules, type_name
from tensorrt_doubles.strict_classes import check_type
from tensorrt_doubles.world import borrow


class Dims:
    """Sizes of a shape: indexed, measured, turned into a tuple."""

    def __init__(self, sizes):
        self._sizes = tuple(int(size) for size in sizes)

    def __len__(self):
        return len(self._sizes)

    def __getitem__(self, index):
        return self._sizes[index]

    def __eq__(self, other):
        return tuple(self) == tuple(other)

    def __hash__(self):
        return hash(self._sizes)

    def __repr__(self):
        return repr(self._sizes)


class ITensor:
    """A tensor of a network."""

    def __init__(self, name, dtype, shape):
        self._name, self._dtype, self._shape = name, dtype, shape
        self._graph_dtype = dtype

    name = property(lambda self: self._name)
    dtype = property(lambda self: getattr(self._m.DataType, self._dtype))
    shape = property(lambda self: self._m.Dims(self._shape))


_KINDS = {
    "Conv": "CONVOLUTION",
    "Relu": "ACTIVATION",
    "Clip": "ACTIVATION",
    "Gemm": "MATRIX_MULTIPLY",
    "MatMul": "MATRIX_MULTIPLY",
    "Round": "UNARY",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
    "Flatten": "SHUFFLE",
    "Reshape": "SHUFFLE",
    "Constant": "CONSTANT",
    "Identity": "IDENTITY",
}
_KINDS.update({name: "ELEMENTWISE" for name in ("Add", "Sub", "Mul", "Div", "Max", "Min")})


class ILayer:
    """A layer of a network: one node of the graph. A cast is a layer of its own from 8.6 on, an identity before."""

    def __init__(self, node, inputs, outputs):
        self._node, self._inputs, self._outputs = node, inputs, outputs
        self._precision = self._output_type = None

    name = property(lambda self: self._node.name)
    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    @property
    def type(self):
        kinds = self._m.LayerType
        if self._node.operator == "Cast":
            return kinds.CAST if hasattr(kinds, "CAST") else kinds.IDENTITY
        return getattr(kinds, _KINDS.get(self._node.operator, "PLUGIN_V2"))

    def get_input(self, index):
        return self._inputs[index] if index < len(self._inputs) else None

    def get_output(self, index):
        return self._outputs[index] if index < len(self._outputs) else None

    def output_type_is_set(self, index):
        return self._output_type is not None or self._is_old_cast()

    def get_output_type(self, index):
        if self._output_type is not None:
            return self._output_type
        return getattr(self._m.DataType, self._outputs[index]._graph_dtype)

    def set_output_type(self, index, dtype):
        check_type("set_output_type", index, int)
        check_type("set_output_type", dtype, self._m.DataType)
        self._output_type = dtype

    def _set_precision(self, dtype):
        check_type("precision", dtype, self._m.DataType)
        self._precision = dtype

    precision = property(lambda self: self._precision or self._m.DataType.FLOAT, _set_precision)

    def _is_old_cast(self):
        return self._node.operator == "Cast" and self.type == self._m.LayerType.IDENTITY


class INetworkDefinition:
    """A network. `_typed`: strongly typed; `_explicit`: with explicit batch."""

    def __init__(self, world, typed, explicit):
        self._world, self._typed, self._explicit = world, typed, explicit
        self._inputs, self._outputs, self._layers = [], [], []
        self._onnx, self._model, self._dtypes = b"", None, {}

    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))
    num_layers = property(lambda self: len(self._layers))

    def get_input(self, index):
        check_type("get_input", index, int)
        return self._inputs[index]

    def get_output(self, index):
        check_type("get_output", index, int)
        return self._outputs[index]

    def get_layer(self, index):
        check_type("get_layer", index, int)
        return self._layers[index]

    def _fill(self, data, model, dtypes):
        """Take over a graph that the parser accepts."""
        module = self._m
        self._onnx, self._model, self._dtypes = data, model, dtypes
        self._inputs = [module.ITensor(item.name, dtypes[item.name], item.shape) for item in model.inputs]
        self._outputs = [
            module.ITensor(item.name, dtypes.get(item.name) or "FLOAT", item.shape) for item in model.outputs
        ]
        tensors = {tensor.name: tensor for tensor in self._inputs}
        for node in model.nodes:
            for name in node.outputs:
                tensors[name] = module.ITensor(name, dtypes.get(name) or "FLOAT", ())
                # What 8 tells of a half tensor in between, before it has built: the type of no graph.
                if self._world.old and tensors[name]._dtype == "HALF" and node.operator != "Cast":
                    tensors[name]._dtype = "FLOAT"
            inputs = [tensors[name] for name in node.inputs if name in tensors]
            self._layers.append(module.ILayer(node, inputs, [tensors[name] for name in node.outputs]))

    def _holds(self, kind):
        return kind in self._dtypes.values()


class ParserError:
    """One finding of the parser."""

    def __init__(self, problem):
        self._problem = problem

    def code(self):
        return getattr(self._m.ErrorCode, self._problem.code)

    def desc(self):
        return self._problem.desc

    def file(self):
        return "/parsers/onnx/onnxOpImporters.cpp"

    def func(self):
        return self._problem.func

    def line(self):
        return 1

    def node(self):
        return self._problem.node

    def node_name(self):
        return self._problem.name

    def node_operator(self):
        return self._problem.operator

    def local_function_stack(self):
        return []

    def local_function_stack_size(self):
        return 0


class OnnxParser:
    """Keeps a bare pointer to its network, as the real one does."""

    def __init__(self, network, logger):
        check_type("OnnxParser", network, self._m.INetworkDefinition)
        self._world = network._world
        self._world.use_logger(logger, self._m.ILogger)
        self._network = borrow(network)
        self._problems = []
        self._used = False

    num_errors = property(lambda self: len(self._problems))

    def parse(self, model, path=None):
        check_type("parse", model, bytes, bytearray, memoryview)
        network = self._network()
        if self._used:
            return False
        self._used = True
        try:
            graph = onnx_reader.read_model(model)
        except onnx_reader.NoModel:
            return self._fail("MODEL_DESERIALIZE_FAILED", "Failed to parse ONNX model from buffer", "parse")
        if not network._explicit:
            text = "This version of the ONNX parser only supports TensorRT INetworkDefinitions with an explicit batch"
            return self._fail("INVALID_VALUE", text + " dimension.", "parse")
        if graph.functions and not self._world.old:
            raise NotImplementedError("the double does not model local functions: inline them")
        rules = Rules((10, 99) if self._world.is_rtx else self._world.numbers, network._typed, self._operators())
        findings = rules.check(graph)
        for text in findings.warnings:
            self._world.log("WARNING", text)
        self._problems = findings.problems
        for problem in findings.problems:
            where = "{} [{}]".format(problem.name, problem.operator)
            self._world.log("ERROR", "In node {} with name {}: {}".format(problem.node, where, problem.desc))
        if findings.problems:
            return False
        for end in graph.outputs:
            if type_name(end.elem_type, self._world.numbers) is None and end.name not in findings.dtypes:
                return self._fail("UNSUPPORTED_GRAPH", "output {} has no data type".format(end.name), "parseGraph")
        network._fill(bytes(model), graph, findings.dtypes)
        return True

    def get_error(self, index):
        check_type("get_error", index, int)
        self._network()
        return self._m.ParserError(self._problems[index])

    def clear_errors(self):
        self._problems = []

    def supports_operator(self, op_name):
        check_type("supports_operator", op_name, str)
        return op_name in self._operators()

    def _operators(self):
        return self._world.surface.operators()

    def _fail(self, code, desc, func):
        self._problems = [Problem(code, desc, func, -1, "", "")]
        self._world.log("ERROR", desc)
        return False
