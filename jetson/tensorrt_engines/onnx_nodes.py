"""Operators and names of an ONNX file's nodes, without the onnx package: devices have none.

TensorRT 8's parser names a node by its index only. Read here is just what names it, as the protobuf encoding defines
it (developers.google.com, "Encoding"): ModelProto.graph = 7, GraphProto.node = 1, NodeProto.output = 2, .name = 3,
.op_type = 4 (onnx.proto).
"""

from typing import Iterator, List, NamedTuple, Tuple, Union

_GRAPH, _NODE, _OUTPUT, _NAME, _OPERATOR = 7, 1, 2, 3, 4


class NodeName(NamedTuple):
    """`operator`: "Conv"; `name`: the node's own, or its first output's where it has none."""

    operator: str
    name: str


def node_names(onnx_bytes: bytes) -> List[NodeName]:
    """Return the names of the nodes of the main graph, in the file's order; empty for what is no ONNX file."""
    try:
        view = memoryview(onnx_bytes)
        graphs = [value for number, value in _fields(view) if number == _GRAPH and isinstance(value, memoryview)]
        nodes = [value for graph in graphs for number, value in _fields(graph) if number == _NODE]
        return [_node_name(node) for node in nodes if isinstance(node, memoryview)]
    except (IndexError, ValueError):
        return []


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
