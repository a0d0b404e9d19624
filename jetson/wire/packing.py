"""How symbols lie in what leaves a head and in what a tail takes: one by one, in bytes, or in int32.

    packing     leaves the head                                          goes into the tail
    none        uint8, one symbol each, in the feature's shape           the same
    bytes       uint8, N x count, 8 / bits symbols each (first lowest)   the same
    words       int32, N x count, four such bytes each, little-endian    int32, one symbol each, in the feature's shape
    integers    int32, one symbol each, in the feature's shape           the same

Each sample is packed by itself. TensorRT 8.2 has no uint8, therefore the int32 forms; and to take words apart in the
graph would need integer division, which rounds differently from one runtime to the next: its tails take one symbol to
an int32.
"""

from typing import Sequence, Tuple

import numpy as np

from jetson.wire.byte_layout import element_count, pack_symbols, unpack_symbols

PACKINGS = ("none", "bytes", "words", "integers")
# Widths of which a byte holds a whole number.
PACKABLE_BITS = (1, 2, 4, 8)
_ONE_BY_ONE, _INT32 = ("none", "integers"), ("words", "integers")
_BYTES_PER_WORD = 4


def packed_dtype(packing: str) -> str:
    """Return NumPy's name for the dtype of symbols packed so: that of what leaves the head and goes into the tail."""
    return "int32" if packing in _INT32 else "uint8"


def packed_shape(shape: Sequence[int], bits: int, packing: str) -> Tuple[int, ...]:
    """Return the shape of what leaves the head for a feature of `shape`, both without the batch dimension."""
    if packing in _ONE_BY_ONE:
        return tuple(shape)
    size_bytes = -(-element_count(shape) * bits // 8)
    return (size_bytes,) if packing == "bytes" else (-(-size_bytes // _BYTES_PER_WORD),)


def tail_shape(shape: Sequence[int], bits: int, packing: str) -> Tuple[int, ...]:
    """Return the shape of what goes into the tail for a feature of `shape`, both without the batch dimension."""
    return tuple(shape) if packing == "words" else packed_shape(shape, bits, packing)


def pack_bits(symbols: np.ndarray, bits: int, packing: str) -> np.ndarray:
    """Return `symbols` (N x ..., uint8, each below 2^bits) as they leave the head: N x `packed_shape`."""
    if packing in _ONE_BY_ONE:
        return symbols.astype(packed_dtype(packing), copy=False)
    packed = np.stack([pack_symbols(one.reshape(-1), bits) for one in symbols])
    if packing == "bytes":
        return packed
    padding = -packed.shape[1] % _BYTES_PER_WORD
    return np.pad(packed, ((0, 0), (0, padding)), "constant").view("<i4").astype(np.int32)


def unpack_bits(packed: np.ndarray, bits: int, packing: str, count: int) -> np.ndarray:
    """Return the symbols, N x `count`, in what left the head: uint8, or, where they lie one by one, as they are.

    `packed`: N x ... of `packed_dtype`, N at least 1; `count`: symbols of one sample.
    """
    rows = packed.reshape(len(packed), -1)
    if packing in _ONE_BY_ONE:
        return rows
    if packing == "words":
        rows = rows.astype("<i4", order="C").view(np.uint8)
    return np.stack([unpack_symbols(one, bits)[:count] for one in rows])
