"""Precision for TensorRT 8, which does not keep the graph's own dtypes.

A strongly typed network (TensorRT 10 on) computes in the dtypes that the graph has. TensorRT 8 takes a flag as leave to
compute in a lower precision wherever that is faster, also in the layers that the graph keeps in float32: these are told
to stay, layer by layer.
"""

from typing import Any, Dict, List

from jetson.engines.build_settings import BuildSettings
from jetson.tensorrt_engines.library import Library
from jetson.tensorrt_engines.network import Network

# Kinds of layers that compute, and whose precision therefore is a choice; by name, as not every version has all.
_COMPUTING = (
    "ACTIVATION",
    "CONVOLUTION",
    "DECONVOLUTION",
    "ELEMENTWISE",
    "FULLY_CONNECTED",
    "LRN",
    "MATRIX_MULTIPLY",
    "NORMALIZATION",
    "PARAMETRIC_RELU",
    "POOLING",
    "REDUCE",
    "SCALE",
    "SOFTMAX",
    "UNARY",
)


def set_precision(library: Library, parsed: Network, config: Any, settings: BuildSettings) -> Dict[str, Any]:
    """Allow TensorRT 8 the precisions that the graph holds, and keep it to float32 where the graph does.

    Returns what was set: `precision_flags`, and `kept_in_fp32`, a number of layers; nothing for a typed network.
    With int8 and half in one graph, layers that are float32 there may come out in half.
    """
    if parsed.strongly_typed or settings.precision == "fp32":
        return {"precision_flags": [], "kept_in_fp32": 0}
    dtypes = _dtypes(library, parsed.network)
    flags = ["FP16"] if settings.precision == "fp16" else ["INT8"]
    half = library.module.DataType.HALF
    if settings.precision == "int8" and any(dtype == half for dtype in dtypes):
        flags.append("FP16")  # mixed: what is not quantised may be half in the graph
    # Not with Q/DQ: a layer between them is float32 in the graph, and has to become int8.
    float32_count = _keep_in_float32(library, parsed.network, dtypes) if settings.precision == "fp16" else 0
    for name in flags:
        config.set_flag(getattr(library.module.BuilderFlag, name))
    if float32_count:
        # Not OBEY: where float32 cannot be had at all (on the DLA), the builder then says so and goes on.
        config.set_flag(library.module.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
    return {"precision_flags": flags, "kept_in_fp32": float32_count}


def _keep_in_float32(library: Library, network: Any, dtypes: List[Any]) -> int:
    """Ask for float32 in every computing layer whose output is float32 in the graph; returns how many there are."""
    kinds = [getattr(library.module.LayerType, name, None) for name in _COMPUTING]
    float32_count = 0
    for index, dtype in enumerate(dtypes):
        layer = network.get_layer(index)
        if dtype == library.module.DataType.FLOAT and any(layer.type == kind for kind in kinds):
            layer.precision = dtype
            layer.set_output_type(0, dtype)
            float32_count += 1
    return float32_count


def _dtypes(library: Library, network: Any) -> List[Any]:
    """Return the dtype of each layer's first output as the graph has it.

    Followed from inputs, weights and casts: before a build, TensorRT 8 need not know the dtype of a tensor in between.
    """
    known = {}
    for index in range(network.num_inputs):
        known[network.get_input(index).name] = network.get_input(index).dtype
    found = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        dtype = _dtype(library, layer, known)
        found.append(dtype)
        for position in range(layer.num_outputs):
            known[layer.get_output(position).name] = dtype
    return found


def _dtype(library: Library, layer: Any, known: Dict[str, Any]) -> Any:
    kinds = library.module.LayerType
    output = layer.get_output(0)
    if layer.output_type_is_set(0):  # how 8.2 and 8.5 write a cast
        return layer.get_output_type(0)
    if layer.type in (kinds.CONSTANT, getattr(kinds, "CAST", None)):
        return output.dtype
    if layer.type == kinds.QUANTIZE:
        return library.module.DataType.INT8
    if layer.type == kinds.DEQUANTIZE:
        return library.module.DataType.FLOAT
    inputs = [layer.get_input(position) for position in range(layer.num_inputs)]
    dtypes = [known[tensor.name] for tensor in inputs if tensor is not None and tensor.name in known]
    return dtypes[0] if dtypes and output.dtype == library.module.DataType.FLOAT else output.dtype
