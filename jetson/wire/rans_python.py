"""Static rANS in plain Python integers: the reference for rans.c, and what runs where no compiler is.

Duda 2013, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression
rate of arithmetic coding". One state of 32 bits, probabilities of 15 bits; whenever the state would leave
its range, 16 bits go to the stream. Symbols are coded from the last to the first, in row-major order.

The encoder begins with state 1, and the range begins at 2^16 only once a word has gone to the stream: no
bits are spent on a first state. The decoder takes a word whenever its state is below 2^16 and one is left.

Coded bytes, little-endian: the state, then the words in the order in which they are read. The state has as
many bytes as it needs: all, where there are at most 4; else 3 of an odd number and 4 of an even one, since
it is at least 2^16 when there are words.
"""

import functools
from typing import List, NamedTuple, Tuple

import numpy as np

from jetson.wire.contexts import context_map, contexts_of, cumulative_frequencies, tables_of_planes
from jetson.wire.symbol_model import ACTIVITIES, FREQUENCY_TOTAL, PROBABILITY_BITS, SymbolModel

LOWEST_STATE = 1 << 16
FIRST_STATE = 1
STATE_BYTES = 4
# What decode() returns when it fails; the same numbers as in rans.c.
BAD_STATE, DOES_NOT_END = 1, 2
_MAX_ACTIVITY = 3 * 255
_SLOT_MASK = FREQUENCY_TOTAL - 1
# A state that is not below its frequency times this would overflow 32 bits, and sheds 16 bits first.
_SHED_SHIFT = 32 - PROBABILITY_BITS


class _Tables(NamedTuple):
    """Per context: the symbol of every slot (2^15 bytes), frequency and first slot of every symbol.

    `of_prediction`, `of_activity`: of each table what each prediction and each activity, before it is limited,
    adds to the context's number.
    """

    symbols: List[bytes]
    frequencies: List[List[int]]
    begins: List[List[int]]
    of_prediction: List[List[int]]
    of_activity: List[List[int]]


@functools.lru_cache(maxsize=64)  # 32 KiB and more for each context
def _tables(model: SymbolModel) -> _Tables:
    every = np.arange(1 << model.bits, dtype=np.uint8)
    cumulative = cumulative_frequencies(model)
    frequencies = np.diff(cumulative)
    of = context_map(model)
    return _Tables(
        [np.repeat(every, row).tobytes() for row in frequencies],
        frequencies.tolist(),
        cumulative.tolist(),
        of.of_prediction.tolist(),
        of.of_activity[:, np.minimum(np.arange(_MAX_ACTIVITY + 1), ACTIVITIES - 1)].tolist(),
    )


def encode(symbols: np.ndarray, model: SymbolModel) -> bytes:
    """Return the code of `symbols`, uint8 planes x height x width, each below 2^bits."""
    contexts = contexts_of(symbols, model).ravel()
    flat = symbols.ravel()
    cumulative = cumulative_frequencies(model)
    begins = cumulative[contexts, flat]
    frequencies = (cumulative[contexts, flat.astype(np.intp) + 1] - begins)[::-1].tolist()
    begins = begins[::-1].tolist()
    state = FIRST_STATE
    words = []
    for frequency, begin in zip(frequencies, begins):  # noqa: B905  strict= is of Python 3.10
        if state >= frequency << _SHED_SHIFT:
            words.append(state & 0xFFFF)
            state >>= 16
        quotient, remainder = divmod(state, frequency)
        state = (quotient << PROBABILITY_BITS) + remainder + begin
    return state.to_bytes((state.bit_length() + 7) // 8, "little") + np.array(words[::-1], np.dtype("<u2")).tobytes()


def decode(coded: bytes, shape: Tuple[int, int, int], model: SymbolModel) -> Tuple[int, np.ndarray]:
    """Return (0, symbols), uint8 planes x height x width, or (the reason's number, symbols that mean nothing).

    `coded` is any bytes; never more than the symbols asked for are decoded.
    """
    planes, height, width = shape
    decoded = bytearray()
    state_bytes = len(coded) if len(coded) <= STATE_BYTES else STATE_BYTES - len(coded) % 2
    if state_bytes and not coded[state_bytes - 1]:
        return BAD_STATE, np.zeros(shape, np.uint8)
    state = int.from_bytes(coded[:state_bytes], "little")
    words = [coded[index] | coded[index + 1] << 8 for index in range(len(coded) - 2, state_bytes - 1, -2)]
    tables = _tables(model)
    of_planes = tables_of_planes(model, planes).tolist()
    for row in range(planes * height):
        of_prediction = tables.of_prediction[of_planes[row // height]]
        of_activity = tables.of_activity[of_planes[row // height]]
        # The row above between two symbols 0, as what lies outside counts.
        above = b"\0" + bytes(decoded[-width:] if row % height else width) + b"\0"
        left = 0
        for up_left, up, up_right in zip(above, above[1:], above[2:]):  # noqa: B905  the shortest ends it
            low, high = (left, up) if left < up else (up, left)
            prediction = low if up_left >= high else high if up_left <= low else left + up - up_left
            activity = abs(left - up_left) + abs(up - up_left) + abs(up - up_right)
            context = of_prediction[prediction] + of_activity[activity]
            slot = state & _SLOT_MASK
            symbol = tables.symbols[context][slot]
            state = tables.frequencies[context][symbol] * (state >> PROBABILITY_BITS) + slot
            state -= tables.begins[context][symbol]
            if state < LOWEST_STATE and words:
                state = state << 16 | words.pop()
            decoded.append(symbol)
            left = symbol
    return DOES_NOT_END if words or state != FIRST_STATE else 0, np.frombuffer(decoded, np.uint8).reshape(shape)
