"""Codecs: one tensor to bytes and back, exactly, with memory bounded by what is expected.

`raw` copies; symbols of fewer than 8 bits are packed. `zlib-huffman` is DEFLATE (RFC 1951) restricted to
Huffman coding: for quantised features the search for repeats costs time and gains nothing; symbols of 1, 2
or 4 bits are packed before, and wider numbers split into byte planes, each with codes of its own. `rans`
and `rans-context` are arithmetic-grade coding with probabilities that both sides hold (jetson.wire.rans).
"""

import zlib

import numpy as np

from jetson.errors import DamagedFileError, InputError
from jetson.wire.byte_layout import (
    byte_planes,
    filling_is_not_zero,
    join_byte_planes,
    pack_bits,
    pack_symbols,
    unpack_bits,
    unpack_symbols,
)
from jetson.wire.rans import rans_decode, rans_encode
from jetson.wire.specification import TensorSpecification

# Raw DEFLATE without the zlib wrapper: the message has its own checksum, and 6 bytes count here.
_RAW_DEFLATE_WINDOW = -15


def encode(tensor: np.ndarray, specification: TensorSpecification) -> bytes:
    """Return the coded bytes of `tensor`, which has the dtype (in any byte order) and shape specified.

    Raises CoopexportError for a symbol that has more bits than specified.
    """
    bits, codec = specification.bits, specification.codec
    flat = np.ascontiguousarray(tensor, np.dtype(specification.dtype).newbyteorder("<")).ravel()
    is_symbols = specification.dtype == "uint8"
    if is_symbols and bits < 8 and flat.size and int(flat.max()) >> bits:
        raise InputError(
            "a symbol is {}, specified are {} bits: head and tail are not of the same cut".format(int(flat.max()), bits)
        )
    if codec in ("rans", "rans-context"):
        assert specification.model is not None  # the message format is checked
        return rans_encode(flat.reshape(specification.shape), specification.model)
    if is_symbols and bits in (1, 2, 4):
        flat = pack_symbols(flat, bits)
    elif is_symbols and bits < 8 and codec == "raw":
        flat = pack_bits(flat, bits)
    if codec == "raw":
        return flat.tobytes()
    return _deflate(byte_planes(flat))


def decode(coded: bytes, specification: TensorSpecification) -> np.ndarray:
    """Return the tensor that `coded`, any bytes-like object, holds; it owns its memory.

    Never allocates more than a few times what is specified. Raises CoopexportError when `coded` is corrupt, too short
    or too long.
    """
    bits, codec = specification.bits, specification.codec
    dtype = np.dtype(specification.dtype)
    count = specification.element_count
    if codec in ("rans", "rans-context"):
        assert specification.model is not None  # the message format is checked
        return rans_decode(coded, specification.shape, specification.model)
    is_symbols = specification.dtype == "uint8"
    is_packed_here = is_symbols and (bits in (1, 2, 4) or (bits < 8 and codec == "raw"))
    size_bytes = -(-count * bits // 8) if is_packed_here else specification.size_bytes
    data = coded if codec == "raw" else _inflate(coded, size_bytes)
    if len(data) != size_bytes:
        more = "more than " if len(data) > size_bytes else ""
        raise DamagedFileError(
            "the payload is corrupt: it decodes to {}{} bytes, {} were expected".format(
                more, min(len(data), size_bytes), size_bytes
            )
        )
    if count == 0:
        return np.zeros(specification.shape, dtype)
    numbers = np.frombuffer(data, np.uint8)
    if is_packed_here and bits in (1, 2, 4):
        symbols = unpack_symbols(numbers, bits)
        if symbols[count:].any():
            raise filling_is_not_zero()
        return symbols[:count].reshape(specification.shape)
    if is_packed_here:
        return unpack_bits(numbers, bits, count).reshape(specification.shape)
    if is_symbols and bits < 8 and int(numbers.max()) >> bits:
        raise DamagedFileError("the payload is corrupt: a symbol has more than {} bits".format(bits))
    little = dtype.newbyteorder("<")
    ordered = numbers.view(little) if codec == "raw" else join_byte_planes(numbers, little)
    return ordered.astype(dtype).reshape(specification.shape)


def _deflate(planes: np.ndarray) -> bytes:
    """Return one DEFLATE stream of `planes`, uint8 P x N, with a block boundary, thus new codes, between planes."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, _RAW_DEFLATE_WINDOW, 9, zlib.Z_HUFFMAN_ONLY)
    parts = []
    for index, plane in enumerate(planes):
        if index:
            parts.append(compressor.flush(zlib.Z_BLOCK))
        parts.append(compressor.compress(plane.tobytes()))
    parts.append(compressor.flush())
    return b"".join(parts)


def _inflate(coded: bytes, size_bytes: int) -> bytes:
    """Return what DEFLATE makes of `coded`: `size_bytes` + 1 bytes where the stream is longer than allowed."""
    decompressor = zlib.decompressobj(_RAW_DEFLATE_WINDOW)
    try:
        # One byte more than allowed: enough to notice a longer stream without unpacking it.
        decoded = decompressor.decompress(coded, size_bytes + 1)
    except zlib.error as error:
        raise DamagedFileError("the payload is corrupt: {}".format(error)) from None
    if len(decoded) <= size_bytes and (not decompressor.eof or decompressor.unused_data):
        raise DamagedFileError("the payload is corrupt: its coded bytes do not end where they should")
    return decoded
