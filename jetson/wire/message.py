"""The message, version 4: what goes over the link for one request. Little-endian throughout.

    offset  bytes  meaning
    0       1      0xC0 + version of this layout (4)
    1       1      fingerprint of what both sides agreed on (jetson.wire.specification)
    2       3      the low 24 bits of the CRC-32 of all the other bytes, begun with the full digest of the
                   message format: they find every single wrong bit in up to 9.6 MB
    5       ...    length of each tensor's coded bytes but the last one's, as a LEB128 varint of at most 9 bytes
    ...     ...    the coded bytes of each tensor, in the order of the message format

Shapes, dtypes, codecs and symbol models do not travel: both sides hold them, and a fingerprint that is
another says that they do not hold the same. One tensor costs 5 bytes here, and rANS at most 3 more.

Whatever a message says, the receiver allocates by its own specifications, so a malicious sender can make it
hold at most one message and a few times one set of expected tensors. The CRC finds accidents, not
attackers: authenticity is the connection's job.
"""

import zlib
from typing import List, Sequence, Tuple, Union

import numpy as np

from jetson.errors import DamagedFileError, InputError
from jetson.wire.codecs import decode, encode
from jetson.wire.specification import FINGERPRINT_BYTES, MessageFormat, TensorSpecification, message_format_of

_VERSION = 4
_FIRST_BYTE = 0xC0  # no ASCII: text, HTTP for one, is not taken for a message
_VERSION_1_MAGIC = b"cx"
_HEADER_BYTES = 1 + FINGERPRINT_BYTES
_CHECKSUM_BYTES = 3
_TABLE_OFFSET = _HEADER_BYTES + _CHECKSUM_BYTES
_MAXIMUM_VARINT_BYTES = 9  # 63 bits: more than any length there is


def encode_message(
    tensors: Sequence[np.ndarray], specifications: Sequence[TensorSpecification], contract: bytes = b""
) -> bytes:
    """Return the message that carries `tensors`, coded as `specifications` say.

    `tensors`: 1 to 16 arrays of the dtypes and shapes specified, in any byte and memory order. `contract`:
    more that both sides agree on, such as the hash of the cut. Raises CoopexportError when a specification
    cannot be carried, or a tensor is not as specified.
    """
    message_format = message_format_of(specifications, contract)
    if len(tensors) != len(message_format.specifications):
        raise InputError(
            "{} tensors were given, {} are specified: head and tail are not of the same cut".format(
                len(tensors), len(message_format.specifications)
            )
        )
    bodies = []
    for index, (tensor, specification) in enumerate(zip(tensors, message_format.specifications)):  # noqa: B905  of 3.10
        # Not dtype.name, which takes longer than all the rest of the header.
        if tensor.dtype.newbyteorder("=") != specification.dtype or tensor.shape != specification.shape:
            raise InputError(
                "tensor {} is {} {}, specified is {} {}: head and tail are not of the same cut".format(
                    index, tensor.dtype.name, tensor.shape, specification.dtype, specification.shape
                )
            )
        bodies.append(encode(tensor, specification))
    table = b"".join([_varint(len(body)) for body in bodies[:-1]])
    header = bytes([_FIRST_BYTE + _VERSION]) + message_format.fingerprint
    checked = table + b"".join(bodies)
    return header + _checksum(message_format, header, checked) + checked


def decode_message(
    message: bytes, specifications: Sequence[TensorSpecification], contract: bytes = b""
) -> List[np.ndarray]:
    """Return the tensors of `message`, any bytes-like object, which was packed with the same arguments.

    Raises CoopexportError when the message is truncated, corrupt, of another version, or was packed with
    other specifications or another `contract`. The arrays own their memory and can be written to.
    """
    message_format = message_format_of(specifications, contract)
    view = memoryview(message)  # slices of it are not copies
    _check_header(view, message_format)
    lengths, offset = _read_table(view, len(message_format.specifications))
    tensors = []
    for specification, length in zip(message_format.specifications, lengths):  # noqa: B905  strict= is of Python 3.10
        tensors.append(decode(bytes(view[offset : offset + length]), specification))
        offset += length
    return tensors


def _check_header(view: memoryview, message_format: MessageFormat) -> None:
    """Raise DamagedFileError unless magic, version, fingerprint and checksum are right."""
    if len(view) < _TABLE_OFFSET:
        raise DamagedFileError(
            "the payload is truncated: {} bytes, its header alone has {}".format(len(view), _TABLE_OFFSET)
        )
    first, fingerprint = view[0], bytes(view[1:_HEADER_BYTES])
    version = 1 if view[:2] == _VERSION_1_MAGIC and view[2] == 1 else first - _FIRST_BYTE
    if not 0 < version < 16:
        raise DamagedFileError("the payload does not begin as a message of coopexport does")
    if version != _VERSION:
        raise DamagedFileError(
            "the payload is of message version {}, this side speaks {}: update the older side".format(version, _VERSION)
        )
    if fingerprint != message_format.fingerprint:
        raise DamagedFileError(
            "the payload was made for {}, this side expects {}: head and tail are not of the same cut, or it is "
            "corrupt".format(fingerprint.hex(), message_format.fingerprint.hex())
        )
    if _checksum(message_format, view[:_HEADER_BYTES], view[_TABLE_OFFSET:]) != view[_HEADER_BYTES:_TABLE_OFFSET]:
        raise DamagedFileError("the payload is corrupt or truncated: its checksum does not match", fix="send it again")


def _checksum(
    message_format: MessageFormat, header: Union[bytes, memoryview], checked: Union[bytes, memoryview]
) -> bytes:
    return zlib.crc32(checked, zlib.crc32(header, message_format.seed)).to_bytes(4, "little")[:_CHECKSUM_BYTES]


def _read_table(view: memoryview, count: int) -> Tuple[List[int], int]:
    """Return the length of each tensor's coded bytes and the offset of the first; they add up to the message."""
    offset = _TABLE_OFFSET
    lengths = []
    for _ in range(count - 1):
        length, offset = _read_varint(view, offset)
        lengths.append(length)
    last = len(view) - offset - sum(lengths)
    if last < 0:
        raise DamagedFileError("the payload is corrupt: the tensor table does not add up to its length")
    return lengths + [last], offset


def _varint(number: int) -> bytes:
    """Return `number`, which is not negative, as LEB128: seven bits per byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(view: memoryview, offset: int) -> Tuple[int, int]:
    """Return the number that begins at `offset` and the offset after it."""
    number = 0
    for position in range(_MAXIMUM_VARINT_BYTES):
        if offset >= len(view):
            raise DamagedFileError("the payload is truncated inside its tensor table")
        byte = view[offset]
        offset += 1
        number |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return number, offset
    raise DamagedFileError("the payload is corrupt: a number in its tensor table does not end")
