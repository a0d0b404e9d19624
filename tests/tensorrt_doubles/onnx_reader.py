"""An ONNX file as the doubles need it, read without the onnx package: Python 3.6 on a device has none.

Field numbers as in onnx.proto. Enough for graphs without subgraphs; weights only where a rule asks for their values.
"""

import struct
from collections import namedtuple

Node = namedtuple("Node", "index operator name domain inputs outputs attributes")
Value = namedtuple("Value", "name elem_type shape")
Tensor = namedtuple("Tensor", "name elem_type dims all_zero")
Model = namedtuple("Model", "nodes inputs outputs initializers functions")

FLOAT, UINT8, INT8, UINT16, INT16, INT32, INT64, STRING, BOOL, FLOAT16, DOUBLE, BFLOAT16 = (
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16,
)  # fmt: skip


class NoModel(ValueError):
    """The bytes are not an ONNX file."""


def read_model(data):
    """Return the Model in `data`; raises NoModel. Zero bytes are an empty model, as for protobuf itself."""
    try:
        fields = list(_fields(memoryview(data)))
        graphs = [value for number, value in fields if number == 7]
        functions = [_text(dict(_fields(value)).get(1, b"")) for number, value in fields if number == 25]
        if not graphs:
            return Model([], [], [], {}, functions)
        return _graph(graphs[-1], functions)
    except (IndexError, ValueError, struct.error, TypeError) as error:
        raise NoModel(str(error)) from None


def _graph(data, functions):
    nodes, inputs, outputs, initializers = [], [], [], {}
    for number, value in _fields(data):
        if number == 1:
            nodes.append(_node(value, len(nodes)))
        elif number == 5:
            tensor = _tensor(value)
            initializers[tensor.name] = tensor
        elif number == 11:
            inputs.append(_value(value))
        elif number == 12:
            outputs.append(_value(value))
    inputs = [item for item in inputs if item.name not in initializers]
    return Model(nodes, inputs, outputs, initializers, functions)


def _node(data, index):
    texts = {1: [], 2: [], 3: [""], 4: [""], 7: [""]}
    attributes = {}
    for number, value in _fields(data):
        if number in texts:
            texts[number].append(_text(value))
        elif number == 5:
            name, content = _attribute(value)
            attributes[name] = content
    return Node(index, texts[4][-1], texts[3][-1], texts[7][-1], texts[1], texts[2], attributes)


def _attribute(data):
    """Return name and value of an attribute: a number, a Tensor, or None for the kinds that no rule asks for."""
    name, content = "", None
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 3:
            content = value
        elif number == 5:
            content = _tensor(value)
    return name, content


def _tensor(data):
    dims, elem_type, name, zero = [], 0, "", True
    for number, value in _fields(data):
        if number == 1:
            dims += list(_packed(value)) if isinstance(value, memoryview) else [value]
        elif number == 2:
            elem_type = value
        elif number == 8:
            name = _text(value)
        elif number in (4, 5, 7, 9, 10, 11):
            zero = zero and not (any(bytes(value)) if isinstance(value, memoryview) else value)
    return Tensor(name, elem_type, tuple(dims), zero)


def _value(data):
    name, elem_type, shape = "", 0, ()
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2:
            for kind, tensor in _fields(value):
                if kind == 1:
                    parts = dict(_fields(tensor))
                    elem_type = parts.get(1, 0)
                    shape = tuple(_dimension(item) for key, item in _fields(parts.get(2, memoryview(b""))) if key == 1)
    return Value(name, elem_type, shape)


def _dimension(data):
    value = dict(_fields(data)).get(1)
    return value if isinstance(value, int) and value < 1 << 63 else -1


def _text(value):
    return bytes(value).decode("utf-8")


def _packed(data):
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value


def _fields(message):
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if kind == 2:
            length, position = _varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise NoModel("wire type {}".format(kind))
        if position + length > len(message):
            raise NoModel("cut short")
        yield key >> 3, message[position : position + length]
        position += length


def _varint(message, position):
    number = shift = 0
    while True:
        byte = message[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position
        if shift > 63:
            raise NoModel("a number too long")
