"""Inputs and outputs of a loaded engine, by either of TensorRT's two interfaces.

Bindings by index are all that 8.2 has, and gone in 10; tensors by name came with 8.5.
"""

from typing import Any, List, NamedTuple, Optional, Tuple

from jetson.tensorrt_engines.tensor_info import DYNAMIC, TensorInfo, dtype_name

Shape = Tuple[int, ...]


class IOTensor(NamedTuple):
    """One input or output. `position`: in the list of addresses; `shapes`: min and max shape of an input.

    `shapes` is None for outputs: theirs follow from the inputs.
    """

    info: TensorInfo
    is_input: bool
    position: int
    shapes: Optional[Tuple[Shape, Shape]]


def has_tensors(engine: Any) -> bool:
    """Tell whether an engine speaks of tensors by name (8.5 on), not of bindings only."""
    return hasattr(engine, "num_io_tensors")


def io_tensors(module: Any, engine: Any) -> List[IOTensor]:
    """Return all inputs and outputs of an engine, in its own order."""
    if has_tensors(engine):
        return [_of_tensor(module, engine, index) for index in range(engine.num_io_tensors)]
    return [_of_binding(engine, index) for index in range(engine.num_bindings)]


def set_input_shape(context: Any, tensor: IOTensor, shape: Shape) -> bool:
    """Tell a context the shape of a dynamic input; False when it takes none such."""
    if hasattr(context, "set_input_shape"):
        return bool(context.set_input_shape(tensor.info.name, shape))
    return bool(context.set_binding_shape(tensor.position, shape))


def shape_now(context: Any, tensor: IOTensor) -> Shape:
    """Return the shape that a tensor has for the input shapes set last."""
    if hasattr(context, "get_tensor_shape"):
        return _sizes(context.get_tensor_shape(tensor.info.name))
    return _sizes(context.get_binding_shape(tensor.position))


def _of_tensor(module: Any, engine: Any, index: int) -> IOTensor:
    name = engine.get_tensor_name(index)
    tensor = TensorInfo(name, dtype_name(engine.get_tensor_dtype(name)), _sizes(engine.get_tensor_shape(name)))
    is_input = engine.get_tensor_mode(name) == module.TensorIOMode.INPUT
    shapes = None
    if is_input:
        shapes = _range(tensor, engine.get_tensor_profile_shape(name, 0) if DYNAMIC in tensor.shape else None)
    return IOTensor(tensor, is_input, index, shapes)


def _of_binding(engine: Any, index: int) -> IOTensor:
    tensor = TensorInfo(
        engine.get_binding_name(index),
        dtype_name(engine.get_binding_dtype(index)),
        _sizes(engine.get_binding_shape(index)),
    )
    is_input = bool(engine.binding_is_input(index))
    shapes = None
    if is_input:
        shapes = _range(tensor, engine.get_profile_shape(0, index) if DYNAMIC in tensor.shape else None)
    return IOTensor(tensor, is_input, index, shapes)


def _range(tensor: TensorInfo, profile: Any) -> Tuple[Shape, Shape]:
    """Return min and max shape: the profile's first and last, or the one that a static tensor has."""
    if profile is None:
        return tensor.shape, tensor.shape
    min_shape, _, max_shape = profile
    return _sizes(min_shape), _sizes(max_shape)


def _sizes(dims: Any) -> Shape:
    return tuple(int(size) for size in dims)
