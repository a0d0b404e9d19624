"""Static probabilities of quantised symbols, fitted offline and held by both sides of a cut.

A symbol is coded with the frequencies of its context, which its neighbours to the left, above, above left
and above right decide. As in LOCO-I (Weinberger, Seroussi, Sapiro 2000, "The LOCO-I lossless image
compression algorithm") they give a prediction, the median of left, up and left + up - up_left, and an
activity, |left - up_left| + |up - up_left| + |up - up_right|, at most 255. The classes of the two are the
context; with one class of each there is one context, and the model is of order 0. Frequencies are integers
that sum to 2^15, so that every implementation divides the same numbers and gives the same bytes.

As a file, little-endian: magic "cxsm", version (1 byte, 1), bits (1 byte), number of classes of predictions
and of activities (1 byte each), the class of each symbol as a prediction (2^bits bytes), the class of each
activity (256 bytes), then the frequencies (uint16), context by context in the order class of the prediction
* number of classes of activities + class of the activity.
"""

import hashlib
import struct
from typing import NamedTuple, Optional, Tuple

import numpy as np

from jetson.errors import DamagedFileError, InputError

PROBABILITY_BITS = 15
FREQUENCY_TOTAL = 1 << PROBABILITY_BITS
MAXIMUM_BITS = 8
MAXIMUM_CLASSES = 16
ACTIVITIES = 256
_MAGIC = b"cxsm"
_VERSION = 1
_HEADER = struct.Struct("<4sBBBB")  # magic, version, bits, numbers of classes


class SymbolModel(NamedTuple):
    """Probabilities of symbols of `bits` bits in contexts that their neighbours decide.

    `classes`: uint8, 2^bits, the class of each prediction; `activity_classes`: uint8, 256, the class of each
    activity; numbered from 0 on without gaps. `frequencies`: uint16, contexts x 2^bits, each at least 1, each
    row of sum 2^15; its row is class of the prediction * activity_class_count + class of the activity.
    `fingerprint`: SHA-256 of the file form. Make one with `symbol_model`, which checks all of that.
    Models are equal when their fingerprints are.
    """

    bits: int
    classes: np.ndarray
    activity_classes: np.ndarray
    frequencies: np.ndarray
    fingerprint: bytes

    @property
    def context_count(self) -> int:
        """Number of contexts; 1: a model of order 0."""
        return len(self.frequencies)

    @property
    def activity_class_count(self) -> int:
        """Number of classes of activities."""
        return int(self.activity_classes.max()) + 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SymbolModel) and self.fingerprint == other.fingerprint

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def symbol_model(
    bits: int, classes: np.ndarray, frequencies: np.ndarray, activity_classes: Optional[np.ndarray] = None
) -> SymbolModel:
    """Return the model with copies of these tables; raises CoopexportError for tables that are not a model's.

    `classes`: 2^bits integers; `activity_classes`: 256 integers, all 0 where not given; `frequencies`:
    contexts x 2^bits integers (see SymbolModel).
    """
    if bits not in range(1, MAXIMUM_BITS + 1):
        raise InputError("a symbol model is for 1 to {} bits, not {}".format(MAXIMUM_BITS, bits))
    symbol_count = 1 << bits
    if activity_classes is None:
        activity_classes = np.zeros(ACTIVITIES, np.uint8)
    own_classes = _own_classes("classes", classes, symbol_count)
    own_activity_classes = _own_classes("activity classes", activity_classes, ACTIVITIES)
    frequencies = np.asarray(frequencies)
    contexts = (int(own_classes.max()) + 1) * (int(own_activity_classes.max()) + 1)
    if frequencies.shape != (contexts, symbol_count) or frequencies.dtype.kind not in "ui":
        raise _no_model(
            "frequencies are {} {}, {} contexts x {} integers are needed".format(
                frequencies.dtype, frequencies.shape, contexts, symbol_count
            )
        )
    if int(frequencies.min()) < 1 or int(frequencies.max()) > FREQUENCY_TOTAL:
        raise _no_model("a frequency is outside 1 to {}".format(FREQUENCY_TOTAL))
    sums = frequencies.sum(axis=1, dtype=np.int64)
    if (sums != FREQUENCY_TOTAL).any():
        context = int(np.argmax(sums != FREQUENCY_TOTAL))
        raise _no_model(
            "the frequencies of context {} sum to {}, not to {}".format(context, int(sums[context]), FREQUENCY_TOTAL)
        )
    own_frequencies = frequencies.astype(np.uint16)
    own_frequencies.setflags(write=False)
    unnamed = SymbolModel(int(bits), own_classes, own_activity_classes, own_frequencies, b"")
    return unnamed._replace(fingerprint=hashlib.sha256(model_to_bytes(unnamed)).digest())


def model_to_bytes(model: SymbolModel) -> bytes:
    """Return the file form of `model`: the same bytes for the same tables, everywhere."""
    class_counts = int(model.classes.max()) + 1, model.activity_class_count
    header = _HEADER.pack(_MAGIC, _VERSION, model.bits, *class_counts)
    frequencies = model.frequencies.astype("<u2").tobytes()
    return header + model.classes.tobytes() + model.activity_classes.tobytes() + frequencies


def model_from_bytes(data: bytes) -> SymbolModel:
    """Return the model that `data` is the file form of; raises CoopexportError when it is none."""
    if len(data) < _HEADER.size:
        raise _no_model("{} bytes are less than its header".format(len(data)))
    magic, version, bits, class_count, activity_class_count = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise _no_model("it does not begin with 'cxsm'")
    if version != _VERSION:
        raise DamagedFileError(
            "the symbol model is of version {}, this side reads {}: update the older side".format(version, _VERSION)
        )
    counts = class_count, activity_class_count
    if not 1 <= bits <= MAXIMUM_BITS or not all(1 <= count <= MAXIMUM_CLASSES for count in counts):
        raise _no_model("it says {} bits, {} and {} classes".format(bits, class_count, activity_class_count))
    symbol_count, contexts = 1 << bits, class_count * activity_class_count
    tables_offset = _HEADER.size + symbol_count + ACTIVITIES
    size_bytes = tables_offset + 2 * contexts * symbol_count
    if len(data) != size_bytes:
        raise _no_model("it has {} bytes, by its header it should have {}".format(len(data), size_bytes))
    classes = np.frombuffer(data, np.uint8, symbol_count, _HEADER.size)
    activity_classes = np.frombuffer(data, np.uint8, ACTIVITIES, _HEADER.size + symbol_count)
    if (int(classes.max()) + 1, int(activity_classes.max()) + 1) != counts:
        raise _no_model("its classes are not those that its header says")
    frequencies = np.frombuffer(data, np.dtype("<u2"), contexts * symbol_count, tables_offset)
    return symbol_model(bits, classes, frequencies.reshape(contexts, symbol_count), activity_classes)


def cumulative_frequencies(model: SymbolModel) -> np.ndarray:
    """Return where each symbol's interval of [0, 2^15] begins and the last one ends.

    int64, contexts x (2^bits + 1), from 0 to 2^15.
    """
    cumulative = np.zeros((len(model.frequencies), (1 << model.bits) + 1), np.int64)
    np.cumsum(model.frequencies, axis=1, dtype=np.int64, out=cumulative[:, 1:])
    return cumulative


def predictions_and_activities(symbols: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return what the neighbours of each of `symbols`, uint8 planes x height x width, say: two int16 arrays like it.

    Neighbours outside of the plane count as symbol 0.
    """
    planes, height, width = symbols.shape
    framed = np.zeros((planes, height + 1, width + 2), np.int16)
    framed[:, 1:, 1:-1] = symbols
    left, up = framed[:, 1:, :-2], framed[:, :-1, 1:-1]
    up_left, up_right = framed[:, :-1, :-2], framed[:, :-1, 2:]
    predictions = np.clip(left + up - up_left, np.minimum(left, up), np.maximum(left, up))
    activities = np.abs(left - up_left) + np.abs(up - up_left) + np.abs(up - up_right)
    return predictions, np.minimum(activities, ACTIVITIES - 1)


def contexts_of(symbols: np.ndarray, model: SymbolModel) -> np.ndarray:
    """Return the row of `model.frequencies` for each of `symbols`, uint8 planes x height x width; intp, same shape."""
    predictions, activities = predictions_and_activities(symbols)
    first = model.classes.astype(np.intp) * model.activity_class_count
    contexts: np.ndarray = first[predictions] + model.activity_classes[activities]
    return contexts


def _own_classes(name: str, classes: np.ndarray, count: int) -> np.ndarray:
    """Return a copy of `classes` that cannot be written to; raises CoopexportError for what are not classes."""
    classes = np.asarray(classes)
    if classes.shape != (count,) or classes.dtype.kind not in "ui":
        raise _no_model("{} are {} {}, {} integers are needed".format(name, classes.dtype, classes.shape, count))
    if int(classes.min()) < 0 or int(classes.max()) >= MAXIMUM_CLASSES:
        raise _no_model("one of its {} is outside 0 to {}".format(name, MAXIMUM_CLASSES - 1))
    own = classes.astype(np.uint8)
    own.setflags(write=False)
    return own


def _no_model(reason: str) -> DamagedFileError:
    return DamagedFileError("the symbol model is corrupt: {}".format(reason), fix="fit it again, or copy it again")
