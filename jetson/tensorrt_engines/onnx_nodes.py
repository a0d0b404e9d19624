"""What TensorRT does not tell of an ONNX file, read without the onnx package: devices have none.

TensorRT 8's parser names a node by its index only, and every version looks for weights outside of the file relative
to the working directory. Read here is just that, as the protobuf encoding (protobuf.dev, "Encoding") and onnx.proto
define it: ModelProto.graph = 7, GraphProto.node = 1 and .initializer = 5, NodeProto.output = 2, .name = 3 and
.op_type = 4, TensorProto.data_type = 2 (10 is float16), .name = 8 and .data_location = 14 (1 is outside).
"""

from typing import Iterator, List, NamedTuple, Tuple, Union

_GRAPH, _NODE, _OUTPUT, _NAME, _OPERATOR = 7, 1, 2, 3, 4
_INITIALIZER, _TENSOR_NAME, _DATA_LOCATION, _OUTSIDE = 5, 8, 14, 1
_DATA_TYPE, _FLOAT16 = 2, 10


class NodeName(NamedTuple):
    """`operator`: "Conv"; `name`: the node's own, or its first output's where it has none."""

    operator: str
    name: str


def node_names(onnx_bytes: bytes) -> List[NodeName]:
    """Return the names of the nodes of the main graph, in the file's order; empty for what is not an ONNX file."""
    try:
        return [_node_name(node) for node in _parts(onnx_bytes, _NODE)]
    except (IndexError, ValueError):
        return []


def weights_outside(onnx_bytes: bytes) -> List[str]:
    """Return the names of the weights that are in other files; empty for what is not an ONNX file."""
    try:
        tensors = [dict(_fields(tensor)) for tensor in _parts(onnx_bytes, _INITIALIZER)]
    except (IndexError, ValueError):
        return []
    outside = [tensor for tensor in tensors if tensor.get(_DATA_LOCATION) == _OUTSIDE]
    return [bytes(tensor.get(_TENSOR_NAME, b"")).decode("utf-8", "replace") for tensor in outside]


def has_half_weights(onnx_bytes: bytes) -> bool:
    """Tell whether a weight of the main graph is float16; False for what is not an ONNX file."""
    try:
        return any(dict(_fields(tensor)).get(_DATA_TYPE) == _FLOAT16 for tensor in _parts(onnx_bytes, _INITIALIZER))
    except (IndexError, ValueError):
        return False


def _parts(onnx_bytes: bytes, wanted: int) -> Iterator[memoryview]:
    """Yield the messages in one field of the main graph."""
    for number, graph in _fields(memoryview(onnx_bytes)):
        if number == _GRAPH and isinstance(graph, memoryview):
            for field, value in _fields(graph):
                if field == wanted and isinstance(value, memoryview):
                    yield value


def _node_name(node: memoryview) -> NodeName:
    texts = {_OUTPUT: "", _NAME: "", _OPERATOR: ""}
    for number, value in _fields(node):
        if number in texts and isinstance(value, memoryview) and not texts[number]:
            texts[number] = bytes(value).decode("utf-8", "replace")
    return NodeName(texts[_OPERATOR], texts[_NAME] or texts[_OUTPUT])


def _fields(message: memoryview) -> Iterator[Tuple[int, Union[int, memoryview]]]:
    """Yield number and value of a message's fields; raises ValueError for what is none."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("no protobuf message")
        if position + length > len(message):
            raise ValueError("a protobuf message that ends early")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> Tuple[int, int]:
    """Return the number that starts at `position`, and the position behind it."""
    number = shift = 0
    while True:
        byte = message[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
