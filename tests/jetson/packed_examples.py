"""Symbols as a head packs them, put together bit by bit: written otherwise than the code under test."""

import numpy as np

PACKINGS = ("none", "bytes", "words", "integers")
WIDTHS = [(bits, packing) for bits in range(1, 9) for packing in PACKINGS
          if packing in ("none", "integers") or bits in (1, 2, 4, 8)]  # fmt: skip


def packed_by_hand(symbols, bits, packing):
    """Return `symbols`, N x ..., as docs/formats.md says that they leave a head."""
    if packing in ("none", "integers"):
        return np.array(symbols.tolist(), np.int32 if packing == "integers" else np.uint8).reshape(symbols.shape)
    single_bits = np.array([[int(one) >> place & 1 for one in sample.ravel() for place in range(bits)]
                            for sample in symbols], np.uint8)  # fmt: skip
    in_bytes = np.packbits(single_bits, axis=1, bitorder="little")
    if packing == "bytes":
        return in_bytes
    rows = [row.tobytes() + bytes(-len(row) % 4) for row in in_bytes]
    return np.array([[int.from_bytes(row[place : place + 4], "little", signed=True) for place in range(0, len(row), 4)]
                     for row in rows], np.int32)  # fmt: skip


def taken_by_hand(symbols, bits, packing):
    """Return what the tail takes for `symbols`: of words one symbol to an int32."""
    return packed_by_hand(symbols, bits, "integers" if packing == "words" else packing)
