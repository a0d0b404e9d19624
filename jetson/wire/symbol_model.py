"""Static probabilities of quantised symbols, fitted offline and held by both sides of a cut.

A symbol is coded with the frequencies of its context: the classes of its left and its upper neighbour. With
one class there is one context, and the model is of order 0. Frequencies are integers that sum to 2^15, so
that every implementation divides the same numbers and gives the same bytes.

As a file, little-endian: magic "cxsm", version (1 byte, 1), bits (1 byte), number of classes (1 byte), the
class of each symbol (2^bits bytes), then the frequencies (uint16), context by context in the order
class of left * number of classes + class of up.
"""

import hashlib
import struct
from typing import NamedTuple

import numpy as np

from jetson.errors import CoopexportError

PROBABILITY_BITS = 15
FREQUENCY_TOTAL = 1 << PROBABILITY_BITS
MAXIMUM_BITS = 8
MAXIMUM_CLASSES = 16
_MAGIC = b"cxsm"
_VERSION = 1
_HEADER = struct.Struct("<4sBBB")  # magic, version, bits, number of classes


class SymbolModel(NamedTuple):
    """Probabilities of symbols of `bits` bits, given the classes of their left and upper neighbour.

    `classes`: uint8, one per symbol (2^bits), below `class_count`. `frequencies`: uint16, class_count^2 x
    2^bits, each at least 1, each row of sum 2^15; its row is class of left * class_count + class of up.
    `fingerprint`: SHA-256 of the file form. Make one with `symbol_model`, which checks all of that.
    Models are equal when their fingerprints are.
    """

    bits: int
    classes: np.ndarray
    frequencies: np.ndarray
    fingerprint: bytes

    @property
    def class_count(self) -> int:
        """Number of classes of neighbours; 1: a model of order 0."""
        return round(float(np.sqrt(len(self.frequencies))))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SymbolModel) and self.fingerprint == other.fingerprint

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def symbol_model(bits: int, classes: np.ndarray, frequencies: np.ndarray) -> SymbolModel:
    """Return the model with copies of these tables; raises CoopexportError for tables that are no model.

    `classes`: 2^bits integers; `frequencies`: class_count^2 x 2^bits integers (see SymbolModel).
    """
    if bits not in range(1, MAXIMUM_BITS + 1):
        raise CoopexportError("a symbol model is for 1 to {} bits, not {}".format(MAXIMUM_BITS, bits))
    symbol_count = 1 << bits
    classes, frequencies = np.asarray(classes), np.asarray(frequencies)
    if classes.shape != (symbol_count,) or classes.dtype.kind not in "ui":
        raise _no_model("classes are {} {}, {} integers are needed".format(classes.dtype, classes.shape, symbol_count))
    if frequencies.ndim != 2 or frequencies.shape[1] != symbol_count or frequencies.dtype.kind not in "ui":
        raise _no_model(
            "frequencies are {} {}, contexts x {} integers are needed".format(
                frequencies.dtype, frequencies.shape, symbol_count
            )
        )
    contexts = len(frequencies)
    if contexts not in [count * count for count in range(1, MAXIMUM_CLASSES + 1)]:
        raise _no_model("{} contexts are no square of 1 to {} classes".format(contexts, MAXIMUM_CLASSES))
    class_count = [count * count for count in range(MAXIMUM_CLASSES + 1)].index(contexts)
    if int(classes.min()) < 0 or int(classes.max()) >= class_count:
        raise _no_model("a symbol's class is outside 0 to {}".format(class_count - 1))
    if int(frequencies.min()) < 1 or int(frequencies.max()) > FREQUENCY_TOTAL:
        raise _no_model("a frequency is outside 1 to {}".format(FREQUENCY_TOTAL))
    sums = frequencies.sum(axis=1, dtype=np.int64)
    if (sums != FREQUENCY_TOTAL).any():
        context = int(np.argmax(sums != FREQUENCY_TOTAL))
        raise _no_model(
            "the frequencies of context {} sum to {}, not to {}".format(context, int(sums[context]), FREQUENCY_TOTAL)
        )
    own_classes, own_frequencies = classes.astype(np.uint8), frequencies.astype(np.uint16)
    own_classes.setflags(write=False)
    own_frequencies.setflags(write=False)
    fingerprint = hashlib.sha256(_serialise(bits, own_classes, own_frequencies)).digest()
    return SymbolModel(int(bits), own_classes, own_frequencies, fingerprint)


def model_to_bytes(model: SymbolModel) -> bytes:
    """Return the file form of `model`: the same bytes for the same tables, everywhere."""
    return _serialise(model.bits, model.classes, model.frequencies)


def model_from_bytes(data: bytes) -> SymbolModel:
    """Return the model that `data` is the file form of; raises CoopexportError when it is none."""
    if len(data) < _HEADER.size:
        raise _no_model("{} bytes are less than its header".format(len(data)))
    magic, version, bits, class_count = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise _no_model("it does not begin with 'cxsm'")
    if version != _VERSION:
        raise CoopexportError(
            "the symbol model is of version {}, this side reads {}: update the older side".format(version, _VERSION)
        )
    if not 1 <= bits <= MAXIMUM_BITS or not 1 <= class_count <= MAXIMUM_CLASSES:
        raise _no_model("it says {} bits and {} classes".format(bits, class_count))
    symbol_count, contexts = 1 << bits, class_count * class_count
    size_bytes = _HEADER.size + symbol_count + 2 * contexts * symbol_count
    if len(data) != size_bytes:
        raise _no_model("it has {} bytes, by its header it should have {}".format(len(data), size_bytes))
    classes = np.frombuffer(data, np.uint8, symbol_count, _HEADER.size)
    frequencies = np.frombuffer(data, np.dtype("<u2"), contexts * symbol_count, _HEADER.size + symbol_count)
    return symbol_model(bits, classes, frequencies.reshape(contexts, symbol_count))


def cumulative_frequencies(model: SymbolModel) -> np.ndarray:
    """Return where each symbol's interval of [0, 2^15] begins and the last one ends.

    int64, contexts x (2^bits + 1), from 0 to 2^15.
    """
    cumulative = np.zeros((len(model.frequencies), (1 << model.bits) + 1), np.int64)
    np.cumsum(model.frequencies, axis=1, dtype=np.int64, out=cumulative[:, 1:])
    return cumulative


def contexts_of(symbols: np.ndarray, model: SymbolModel) -> np.ndarray:
    """Return the row of `model.frequencies` for each of `symbols`, uint8 planes x height x width; intp, same shape.

    Neighbours outside of the plane count as symbol 0.
    """
    classes = model.classes[symbols]
    left, up = np.full_like(classes, model.classes[0]), np.full_like(classes, model.classes[0])
    left[:, :, 1:] = classes[:, :, :-1]
    up[:, 1:, :] = classes[:, :-1, :]
    contexts: np.ndarray = left.astype(np.intp) * model.class_count + up
    return contexts


def _serialise(bits: int, classes: np.ndarray, frequencies: np.ndarray) -> bytes:
    class_count = round(float(np.sqrt(len(frequencies))))
    header = _HEADER.pack(_MAGIC, _VERSION, bits, class_count)
    return header + classes.tobytes() + frequencies.astype("<u2").tobytes()


def _no_model(reason: str) -> CoopexportError:
    return CoopexportError("the symbol model is corrupt: {}; fit it again, or copy it again".format(reason))
