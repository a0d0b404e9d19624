"""The message: header, checksum, tensor table, coded tensors. Little-endian throughout.

    offset  bytes  meaning
    0       2      magic "cx"
    2       1      version of this layout (1)
    3       1      codec (jetson.wire.codecs)
    4       1      number of tensors (1 to 16)
    5       4      CRC-32 of all the other bytes
    9       ...    per tensor: dtype (1), number of dimensions (1), dimensions and length of the
                   coded bytes, each as a LEB128 varint of at most 9 bytes
    ...     ...    the coded bytes of each tensor in row-major order, in the order of the table

One tensor of shape N x C x H x W below 128 in each dimension costs 9 + 2 + 4 bytes and its length's
varint; every number from 128 on costs one byte more, from 16384 on two.

The receiver passes what it expects: shapes and dtypes are compared before anything is allocated, so a
malicious sender can make it hold at most one message and one set of expected tensors.
The CRC finds accidents, not attackers: authenticity is the connection's job.
"""

import struct
import zlib
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from jetson.errors import CoopexportError
from jetson.wire.codecs import codec_code, codec_name, compress, decompress

MAXIMUM_TENSORS = 16
_MAGIC = b"cx"
_VERSION = 1
_HEADER = struct.Struct("<2sBBB")  # magic, version, codec, number of tensors
_CHECKSUM = struct.Struct("<I")
_TABLE_OFFSET = _HEADER.size + _CHECKSUM.size
_MAXIMUM_DIMENSIONS = 8
_MAXIMUM_VARINT_BYTES = 9  # 63 bits: more than any length or dimension there is
_DTYPES = ("uint8", "float32", "int32")  # the index is the number on the wire


class TensorSpecification(NamedTuple):
    """What one tensor of a message must be: dtype (`uint8`, `float32`, `int32`) and shape."""

    dtype: str
    shape: Tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the decoded tensor."""
        size = np.dtype(self.dtype).itemsize
        for dimension in self.shape:
            size *= dimension
        return int(size)


def pack(tensors: Sequence[np.ndarray], codec: str) -> bytes:
    """Return the message that carries `tensors`, coded with `codec`.

    `tensors`: 1 to 16 arrays of dtype uint8, float32 or int32 with at most 8 dimensions, in any byte
    and memory order. Raises CoopexportError when the codec or a tensor does not fit the format.
    """
    if not 1 <= len(tensors) <= MAXIMUM_TENSORS:
        raise CoopexportError("a message holds 1 to {} tensors, not {}".format(MAXIMUM_TENSORS, len(tensors)))
    header = _HEADER.pack(_MAGIC, _VERSION, codec_code(codec), len(tensors))
    table = bytearray()
    bodies = []
    for index, tensor in enumerate(tensors):
        if tensor.dtype.name not in _DTYPES or tensor.ndim > _MAXIMUM_DIMENSIONS:
            raise CoopexportError(
                "tensor {} is {} with {} dimensions; a message takes {} with at most {}".format(
                    index, tensor.dtype, tensor.ndim, ", ".join(_DTYPES), _MAXIMUM_DIMENSIONS
                )
            )
        body = compress(codec, tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes())
        table.append(_DTYPES.index(tensor.dtype.name))
        table.append(tensor.ndim)
        for number in tensor.shape + (len(body),):
            table += _varint(number)
        bodies.append(body)
    checked = bytes(table) + b"".join(bodies)
    return header + _CHECKSUM.pack(zlib.crc32(checked, zlib.crc32(header))) + checked


def unpack(message: bytes, expected: Sequence[TensorSpecification]) -> List[np.ndarray]:
    """Return the tensors of `message`, which must be exactly as `expected`.

    Raises CoopexportError when the message is truncated, corrupt, of another version, or holds
    other tensors than expected. The arrays returned own their memory.
    """
    codec, count = _read_header(message)
    if count != len(expected):
        raise CoopexportError(
            "the payload holds {} tensors, {} were expected: head and tail are not of the same cut".format(
                count, len(expected)
            )
        )
    lengths, offset = _read_table(message, expected)
    if offset + sum(lengths) != len(message):
        raise CoopexportError("the payload is corrupt: the tensor table does not add up to its length")
    tensors = []
    for specification, length in zip(expected, lengths):  # noqa: B905  strict= is of Python 3.10
        data = decompress(codec, message[offset : offset + length], specification.size_bytes)
        offset += length
        flat = np.frombuffer(data, dtype=np.dtype(specification.dtype).newbyteorder("<"))
        tensors.append(flat.astype(specification.dtype).reshape(specification.shape))
    return tensors


def _read_header(message: bytes) -> Tuple[str, int]:
    """Check magic, version and checksum; return the codec's name and the number of tensors."""
    if len(message) < _TABLE_OFFSET:
        raise CoopexportError(
            "the payload is truncated: {} bytes, its header alone has {}".format(len(message), _TABLE_OFFSET)
        )
    magic, version, code, count = _HEADER.unpack_from(message)
    if magic != _MAGIC:
        raise CoopexportError("the payload does not begin with 'cx': it is no message of coopexport")
    if version != _VERSION:
        raise CoopexportError(
            "the payload is of message version {}, this side speaks {}: update the older side".format(version, _VERSION)
        )
    (checksum,) = _CHECKSUM.unpack_from(message, _HEADER.size)
    view = memoryview(message)  # slices of it are no copies
    if zlib.crc32(view[_TABLE_OFFSET:], zlib.crc32(view[: _HEADER.size])) != checksum:
        raise CoopexportError("the payload is corrupt or truncated: its checksum does not match; send it again")
    return codec_name(code), count


def _read_table(message: bytes, expected: Sequence[TensorSpecification]) -> Tuple[List[int], int]:
    """Return the length of each tensor's coded bytes and the offset of the first."""
    offset = _TABLE_OFFSET
    lengths = []
    for index, specification in enumerate(expected):
        code, offset = _read_byte(message, offset)
        dimensions, offset = _read_byte(message, offset)
        if dimensions > _MAXIMUM_DIMENSIONS or code >= len(_DTYPES):
            raise CoopexportError("the payload is corrupt: tensor {} has no valid type".format(index))
        numbers = []
        for _ in range(dimensions + 1):
            number, offset = _read_varint(message, offset)
            numbers.append(number)
        found = TensorSpecification(_DTYPES[code], tuple(numbers[:-1]))
        if found != TensorSpecification(specification.dtype, tuple(specification.shape)):
            raise CoopexportError(
                "tensor {} of the payload is {} {}, expected was {} {}: head and tail are not of the same cut".format(
                    index, found.dtype, found.shape, specification.dtype, specification.shape
                )
            )
        lengths.append(numbers[-1])
    return lengths, offset


def _read_byte(message: bytes, offset: int) -> Tuple[int, int]:
    """Return the byte at `offset` and the offset after it."""
    if offset >= len(message):
        raise CoopexportError("the payload is truncated inside its tensor table")
    return message[offset], offset + 1


def _varint(number: int) -> bytes:
    """Return `number`, which is not negative, as LEB128: seven bits per byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(message: bytes, offset: int) -> Tuple[int, int]:
    """Return the number that begins at `offset` and the offset after it."""
    number = 0
    for position in range(_MAXIMUM_VARINT_BYTES):
        byte, offset = _read_byte(message, offset)
        number |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return number, offset
    raise CoopexportError("the payload is corrupt: a number in its tensor table does not end")
