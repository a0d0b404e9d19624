"""Static rANS in plain Python integers: the reference for rans.c, and what runs where no compiler is.

Duda 2013, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression
rate of arithmetic coding"; two interleaved states as in Giesen 2014, "Interleaved entropy coders". States
are of 32 bits and at least 2^16, probabilities of 15 bits; whenever a state would leave its range, 16 bits
go to the stream. Symbols take the two states in turns, in row-major order.

Coded bytes, little-endian: the state of the first symbol, the other state (4 bytes each), then the 16-bit
words in the order in which they are read. Both states end at 2^16, where the encoder began.
"""

import functools
import struct
from typing import List, NamedTuple, Tuple

import numpy as np

from jetson.wire.symbol_model import (
    FREQUENCY_TOTAL,
    PROBABILITY_BITS,
    SymbolModel,
    contexts_of,
    cumulative_frequencies,
)

LOWEST_STATE = 1 << 16
STATES_BYTES = 8
# What decode() returns when it fails; the same numbers as in rans.c.
ENDS_EARLY, BAD_STATE, DOES_NOT_END = 1, 2, 3
_STATES = struct.Struct("<II")
_SLOT_MASK = FREQUENCY_TOTAL - 1
# A state that is not below its frequency times this would overflow 32 bits, and sheds 16 bits first.
_SHED_SHIFT = 32 - PROBABILITY_BITS


class _Tables(NamedTuple):
    """Per context: the symbol of every slot (2^15 bytes), frequency and first slot of every symbol.

    `left_contexts`, `up_contexts`: what a neighbour adds to the context's number, by its symbol.
    """

    symbols: List[bytes]
    frequencies: List[List[int]]
    begins: List[List[int]]
    left_contexts: List[int]
    up_contexts: bytes


@functools.lru_cache(maxsize=16)
def _tables(model: SymbolModel) -> _Tables:
    every = np.arange(1 << model.bits, dtype=np.uint8)
    return _Tables(
        [np.repeat(every, row).tobytes() for row in model.frequencies],
        model.frequencies.tolist(),
        cumulative_frequencies(model).tolist(),
        [int(number) * model.class_count for number in model.classes],
        model.classes.tobytes().ljust(256, b"\0"),
    )


def encode(symbols: np.ndarray, model: SymbolModel) -> bytes:
    """Return the code of `symbols`, uint8 planes x height x width, each below 2^bits."""
    contexts = contexts_of(symbols, model).ravel()
    flat = symbols.ravel()
    frequencies = model.frequencies[contexts, flat][::-1].tolist()
    begins = cumulative_frequencies(model)[contexts, flat][::-1].tolist()
    state = other = LOWEST_STATE
    words = []
    for frequency, begin in zip(frequencies, begins):  # noqa: B905  strict= is of Python 3.10
        if state >= frequency << _SHED_SHIFT:
            words.append(state & 0xFFFF)
            state >>= 16
        quotient, remainder = divmod(state, frequency)
        state, other = other, (quotient << PROBABILITY_BITS) + remainder + begin
    return _STATES.pack(other, state) + np.array(words[::-1], np.dtype("<u2")).tobytes()


def decode(coded: bytes, shape: Tuple[int, int, int], model: SymbolModel) -> Tuple[int, np.ndarray]:
    """Return (0, symbols), uint8 planes x height x width, or (the reason's number, what there is so far).

    `coded` is any bytes; never more than the symbols asked for are decoded.
    """
    planes, height, width = shape if model.class_count > 1 else (1, 1, shape[0] * shape[1] * shape[2])
    decoded = bytearray()
    if len(coded) < STATES_BYTES:
        return ENDS_EARLY, _partly(decoded, shape)
    state, other = _STATES.unpack_from(coded)
    if state < LOWEST_STATE or other < LOWEST_STATE:
        return BAD_STATE, _partly(decoded, shape)
    words = np.frombuffer(coded, np.dtype("<u2"), (len(coded) - STATES_BYTES) // 2, STATES_BYTES).tolist()
    words.reverse()
    tables = _tables(model)
    outside = bytes(width)
    for row in range(planes * height):
        above = outside if row % height == 0 else decoded[-width:]
        left = tables.left_contexts[0]
        for up in above.translate(tables.up_contexts):
            context = left + up
            slot = state & _SLOT_MASK
            symbol = tables.symbols[context][slot]
            state = tables.frequencies[context][symbol] * (state >> PROBABILITY_BITS) + slot
            state -= tables.begins[context][symbol]
            if state < LOWEST_STATE:
                if not words:
                    return ENDS_EARLY, _partly(decoded, shape)
                state = state << 16 | words.pop()
            decoded.append(symbol)
            left = tables.left_contexts[symbol]
            state, other = other, state
    if words or len(coded) % 2 or state != LOWEST_STATE or other != LOWEST_STATE:
        return DOES_NOT_END, _partly(decoded, shape)
    return 0, np.frombuffer(decoded, np.uint8).reshape(shape)


def _partly(decoded: bytearray, shape: Tuple[int, int, int]) -> np.ndarray:
    symbols = np.zeros(shape, np.uint8)
    symbols.reshape(-1)[: len(decoded)] = np.frombuffer(decoded, np.uint8)
    return symbols
