"""Numbers to bytes and back without loss: symbols packed to 8 // bits per byte, floats split into byte planes."""

from typing import Sequence

import numpy as np

from jetson.errors import DamagedFileError


def pack_symbols(symbols: np.ndarray, bits: int) -> np.ndarray:
    """Return bytes, 1-D uint8, of 8 // bits of `symbols` each (1-D uint8, below 2^bits; 1, 2, 4 or 8 bits).

    The first symbol lies in the lowest bits; the last byte is filled with zeros.
    """
    if bits == 8:
        return symbols
    per_byte = 8 // bits
    missing = -len(symbols) % per_byte
    if missing:
        symbols = np.concatenate([symbols, np.zeros(missing, np.uint8)])
    # One word per byte to be: its symbols lie 8 bits apart, and are moved together.
    words = np.ascontiguousarray(symbols).view(_word_dtype(per_byte))
    moved: np.ndarray = words.copy()
    for position in range(1, per_byte):
        moved |= words >> words.dtype.type(position * (8 - bits))
    return moved.astype(np.uint8)


def unpack_symbols(packed: np.ndarray, bits: int) -> np.ndarray:
    """Return the symbols, 1-D uint8, of bytes as `pack_symbols` makes them; what fills the last byte included."""
    if bits == 8:
        return packed
    per_byte = 8 // bits
    words: np.ndarray = packed.astype(_word_dtype(per_byte))
    mask = words.dtype.type((1 << bits) - 1)
    spread = words & mask
    for position in range(1, per_byte):
        moved = words >> words.dtype.type(position * bits) & mask
        spread |= moved << words.dtype.type(8 * position)
    symbols: np.ndarray = spread.view(np.uint8)
    return symbols


def pack_bits(symbols: np.ndarray, bits: int) -> np.ndarray:
    """Return bytes, 1-D uint8, that hold `symbols` (1-D uint8) of any number of bits end to end.

    The highest bit of each symbol comes first, in the highest bit that is free; the last byte is filled with zeros.
    """
    return np.packbits(np.unpackbits(symbols[:, np.newaxis], axis=1)[:, 8 - bits :])


def unpack_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Return the first `count` symbols, 1-D uint8, of bytes as `pack_bits` makes them.

    Raises CoopexportError when what fills the last byte is not zero.
    """
    every = np.unpackbits(packed)
    if every[count * bits :].any():
        raise filling_is_not_zero()
    wide = np.zeros((count, 8), np.uint8)
    wide[:, 8 - bits :] = every[: count * bits].reshape(count, bits)
    return np.packbits(wide, axis=1)[:, 0]


def byte_planes(numbers: np.ndarray) -> np.ndarray:
    """Return all lowest bytes of `numbers` (1-D, little-endian), then all next ones, ...: uint8, item size x N."""
    columns = numbers.view(np.uint8).reshape(len(numbers), numbers.dtype.itemsize)
    return np.ascontiguousarray(columns.T)


def join_byte_planes(planes: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the numbers, 1-D of little-endian `dtype`, whose `byte_planes` these are."""
    return np.ascontiguousarray(planes.reshape(dtype.itemsize, -1).T).view(dtype)[:, 0]


def element_count(shape: Sequence[int]) -> int:
    """Return the number of elements of an array of `shape`."""
    count = 1
    for dimension in shape:
        count *= int(dimension)
    return count


def filling_is_not_zero() -> DamagedFileError:
    """Return the error for a last byte whose unused bits are set."""
    return DamagedFileError("the payload is corrupt: the unused bits of its last byte are not zero")


def _word_dtype(size_bytes: int) -> np.dtype:
    return np.dtype("<u{}".format(size_bytes))
