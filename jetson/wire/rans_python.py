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
    ACTIVITIES,
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
_MAX_ACTIVITY = 3 * 255
_SLOT_MASK = FREQUENCY_TOTAL - 1
# A state that is not below its frequency times this would overflow 32 bits, and sheds 16 bits first.
_SHED_SHIFT = 32 - PROBABILITY_BITS


class _Tables(NamedTuple):
    """Per context: the symbol of every slot (2^15 bytes), frequency and first slot of every symbol.

    `of_prediction`, `of_activity`: what each prediction and each activity, before it is limited, adds to the
    context's number.
    """

    symbols: List[bytes]
    frequencies: List[List[int]]
    begins: List[List[int]]
    of_prediction: List[int]
    of_activity: List[int]


@functools.lru_cache(maxsize=64)  # up to 6 MB each
def _tables(model: SymbolModel) -> _Tables:
    every = np.arange(1 << model.bits, dtype=np.uint8)
    return _Tables(
        [np.repeat(every, row).tobytes() for row in model.frequencies],
        model.frequencies.tolist(),
        cumulative_frequencies(model).tolist(),
        [int(number) * model.activity_class_count for number in model.classes],
        model.activity_classes[np.minimum(np.arange(_MAX_ACTIVITY + 1), ACTIVITIES - 1)].tolist(),
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
    planes, height, width = shape
    decoded = bytearray()
    if len(coded) < STATES_BYTES:
        return ENDS_EARLY, _partly(decoded, shape)
    state, other = _STATES.unpack_from(coded)
    if state < LOWEST_STATE or other < LOWEST_STATE:
        return BAD_STATE, _partly(decoded, shape)
    words = np.frombuffer(coded, np.dtype("<u2"), (len(coded) - STATES_BYTES) // 2, STATES_BYTES).tolist()
    words.reverse()
    tables = _tables(model)
    for row in range(planes * height):
        # The row above between two symbols 0, as what lies outside counts.
        above = b"\0" + bytes(decoded[-width:] if row % height else width) + b"\0"
        left = 0
        for up_left, up, up_right in zip(above, above[1:], above[2:]):  # noqa: B905  the shortest ends it
            low, high = (left, up) if left < up else (up, left)
            prediction = low if up_left >= high else high if up_left <= low else left + up - up_left
            activity = abs(left - up_left) + abs(up - up_left) + abs(up - up_right)
            context = tables.of_prediction[prediction] + tables.of_activity[activity]
            slot = state & _SLOT_MASK
            symbol = tables.symbols[context][slot]
            state = tables.frequencies[context][symbol] * (state >> PROBABILITY_BITS) + slot
            state -= tables.begins[context][symbol]
            if state < LOWEST_STATE:
                if not words:
                    return ENDS_EARLY, _partly(decoded, shape)
                state = state << 16 | words.pop()
            decoded.append(symbol)
            left = symbol
            state, other = other, state
    if words or len(coded) % 2 or state != LOWEST_STATE or other != LOWEST_STATE:
        return DOES_NOT_END, _partly(decoded, shape)
    return 0, np.frombuffer(decoded, np.uint8).reshape(shape)


def _partly(decoded: bytearray, shape: Tuple[int, int, int]) -> np.ndarray:
    symbols = np.zeros(shape, np.uint8)
    symbols.reshape(-1)[: len(decoded)] = np.frombuffer(decoded, np.uint8)
    return symbols
