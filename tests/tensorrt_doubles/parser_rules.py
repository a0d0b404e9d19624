"""What TensorRT's ONNX parser refuses, and what dtypes it makes, as far as our graphs can meet it.

Seen on TensorRT-RTX 1.7.1 (the words are its own), read in the parser's sources for older versions.
"""

from collections import namedtuple

from tensorrt_doubles import onnx_reader as onnx

# TensorRT's name of the ONNX element types that it has.
_NAMES = {onnx.FLOAT: "FLOAT", onnx.FLOAT16: "HALF", onnx.INT8: "INT8", onnx.INT32: "INT32", onnx.BOOL: "BOOL"}
_NAMES.update({onnx.UINT8: "UINT8", onnx.INT64: "INT64", onnx.BFLOAT16: "BF16", onnx.DOUBLE: "FLOAT"})
_FLOATS = ("FLOAT", "HALF", "BF16")
# The importer converts the other operands of these itself.
_CONVERTING = ("Clip", "Resize", "Upsample", "Pad", "Reshape", "Expand", "Slice", "Gather", "QuantizeLinear")
_KNOWN_UNSUPPORTED = (
    "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "ConvInteger", "DynamicQuantizeLinear",
    "MatMulInteger", "QLinearConv", "QLinearMatMul", "Det",
)  # fmt: skip
_BOOLEAN = ("Greater", "Less", "Equal", "And", "Or", "Not", "Xor", "GreaterOrEqual", "LessOrEqual", "IsNaN", "IsInf")
_INTEGER = ("Shape", "Size", "ArgMax", "ArgMin", "NonZero")

Problem = namedtuple("Problem", "code desc func node operator name")
Findings = namedtuple("Findings", "problems dtypes warnings")


def type_name(elem_type, version):
    """Return TensorRT's name of an ONNX element type in a version (its numbers), None where it has none."""
    name = _NAMES.get(elem_type)
    if name == "INT64" and version[0] == 8:
        return "INT32"
    if name == "UINT8" and version[:2] < (8, 5) and version[0] == 8:
        return None
    return None if name == "BF16" and version[0] == 8 else name


class Rules:
    """The rules of one version: `version` its numbers, `typed` strongly typed, `operators` what it imports."""

    def __init__(self, version, typed, operators):
        self.version, self.typed, self.operators = version, typed, operators
        self.old = version[0] == 8

    def check(self, model):
        """Return Findings: problems, dtype by tensor name, warnings. TensorRT 8 stops at the first problem."""
        dtypes, warnings, problems = {}, [], []
        for value in model.inputs:
            dtypes[value.name] = type_name(value.elem_type, self.version)
            if dtypes[value.name] is None:
                desc = "Failed to convert ONNX date type to TensorRT data type: {}".format(value.name)
                problems.append(Problem("UNSUPPORTED_NODE", desc, "importInput", -1, "", ""))
        for tensor in model.initializers.values():
            dtypes[tensor.name] = type_name(tensor.elem_type, self.version)
        if problems:
            return Findings(problems, dtypes, warnings)
        sinks = {value.name for value in model.outputs}
        for node in model.nodes:
            problem = self._problem(node, model, dtypes, sinks, warnings)
            if problem is not None:
                code, desc, func = problem
                problems.append(Problem(code, desc, func, node.index, node.operator, node.name))
                if self.old:
                    break
            for name in node.outputs:
                # Nothing is said of what comes out of a refused node: only the next node without an importer is.
                dtypes[name] = None if problem else self._output(node, model, dtypes)
        return Findings(problems, dtypes, warnings)

    def _problem(self, node, model, dtypes, sinks, warnings):
        operator = node.operator
        if operator in _KNOWN_UNSUPPORTED and not self.old:
            return "UNSUPPORTED_NODE", "false", "notImplemented"
        if operator not in self.operators:
            desc = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
            return "INVALID_NODE", desc, "importFallbackPluginImporter"
        kinds = [dtypes.get(name) for name in node.inputs if name]
        if operator == "Cast":
            return self._cast_problem(node, kinds, sinks)
        if operator == "QuantizeLinear":
            zero = self._zero_point(node, model)
            if zero is not None and not zero.all_zero:
                return "INVALID_NODE", "Non-zero zero point is not supported.", "quantize"
            if zero is None or zero.elem_type == onnx.UINT8:
                warnings.append("QuantizeLinear with zero point of UINT8 is taken as INT8")
            return None
        if operator == "DequantizeLinear":
            if kinds[0] == "UINT8":
                return "UNSUPPORTED_NODE", "Found unsupported input type of UINT8", "dequantize"
            if kinds[0] == "INT32":
                return "INVALID_NODE", "input has type Int32 but must have type FP8 or Int8", "dequantize"
            return None
        if "UINT8" in kinds and operator != "Identity":
            return "INVALID_NODE", "{} does not take type UInt8".format(operator), "checkType"
        floats = {kind for kind in kinds if kind in _FLOATS}
        if self.typed and len(floats) > 1 and operator not in _CONVERTING:
            desc = "Invalid Node - {}: inputs have types {}".format(node.name, " and ".join(sorted(floats)))
            return "INVALID_NODE", desc, "checkLayer"
        return None

    def _cast_problem(self, node, kinds, sinks):
        to = type_name(node.attributes.get("to"), self.version)
        if to is None:
            desc = 'convertDtype(onnxType, &newType) && "Unsupported data type for the Cast operator!"'
            return "INVALID_NODE", desc, "importCast"
        if self.version[:2] == (8, 5):
            pair = {to, kinds[0]}
            if "UINT8" in pair and not pair & {"FLOAT", "HALF"}:
                return "UNSUPPORTED_NODE", "Cast to or from UINT8 takes FP32 or FP16 only", "importCast"
        if to == "UINT8" and node.outputs[0] not in sinks:
            desc = "legalUINT8: TensorRT does not support UINT8 types for intermediate tensors."
            return "UNSUPPORTED_NODE", desc, "importCast"
        return None

    def _zero_point(self, node, model):
        return model.initializers.get(node.inputs[2]) if len(node.inputs) > 2 else None

    def _output(self, node, model, dtypes):
        operator = node.operator
        if operator == "Cast":
            return type_name(node.attributes.get("to"), self.version)
        if operator == "QuantizeLinear":
            return "INT8"
        if operator == "DequantizeLinear":
            return dtypes.get(node.inputs[1])
        if operator == "Constant":
            tensor = node.attributes.get("value")
            return type_name(tensor.elem_type, self.version) if tensor is not None else "FLOAT"
        if operator in _BOOLEAN:
            return "BOOL"
        if operator in _INTEGER:
            return "INT32" if self.old else "INT64"
        if operator == "Where":
            return dtypes.get(node.inputs[1])
        if operator == "ConstantOfShape":
            tensor = node.attributes.get("value")
            return "FLOAT" if tensor is None else type_name(tensor.elem_type, self.version)
        return dtypes.get(node.inputs[0]) if node.inputs else "FLOAT"
