"""Static probabilities of quantised symbols, fitted offline and held by both sides of a cut.

A model has one table or several, and says for every channel which one it uses; one channel stands for all.

A symbol is coded with the frequencies of its context in the table of its channel. Its neighbours to the left,
above, above left and above right decide which context. As in LOCO-I (Weinberger, Seroussi, Sapiro 2000, "The
LOCO-I lossless image compression algorithm") they give a prediction, the median of left, up and left + up -
up_left, and an activity, |left - up_left| + |up - up_left| + |up - up_right|, at most 255. The classes of the
two are the context; with one class of each there is one context, and the table is of order 0. Frequencies are
integers that sum to 2^15, so that every implementation divides the same numbers and gives the same bytes.

As a file, little-endian: magic "cxsm", version (1 byte), bits (1 byte), then in version 1 the only table.
A table is its number of classes of predictions and of activities (1 byte each), the class of each symbol as a
prediction (2^bits bytes), the class of each activity (256 bytes), then the frequencies (uint16), context by
context in the order class of the prediction * number of classes of activities + class of the activity.
Version 2, written where there is more than one table: the number of tables (1 byte) and of channels (2
bytes), the table of each channel (1 byte each), then the tables, each without the classes of predictions or
of activities where there is but one.
"""

import hashlib
import struct
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np

from jetson.errors import DamagedFileError, InputError

PROBABILITY_BITS = 15
FREQUENCY_TOTAL = 1 << PROBABILITY_BITS
MAXIMUM_BITS = 8
MAXIMUM_CLASSES = 16
MAXIMUM_TABLES = 255
MAXIMUM_CHANNELS = 65535
MAXIMUM_CONTEXTS = 1024  # of all tables: in Python each takes 32 KiB
ACTIVITIES = 256
_MAGIC = b"cxsm"
_VERSIONS = (1, 2)
_HEADER = struct.Struct("<4sBB")  # magic, version, bits
_CHANNELS = struct.Struct("<BH")  # numbers of tables and channels


class SymbolTable(NamedTuple):
    """Frequencies of symbols in contexts that their neighbours decide.

    `classes`: uint8, 2^bits, the class of each prediction; `activity_classes`: uint8, 256, the class of each
    activity; numbered from 0 on without gaps. `frequencies`: uint16, contexts x 2^bits, each at least 1, each
    row of sum 2^15; its row is class of the prediction * activity_class_count + class of the activity.
    """

    classes: np.ndarray
    activity_classes: np.ndarray
    frequencies: np.ndarray

    @property
    def context_count(self) -> int:
        """Number of contexts; 1: a table of order 0."""
        return len(self.frequencies)

    @property
    def activity_class_count(self) -> int:
        """Number of classes of activities."""
        return int(self.activity_classes.max()) + 1


class SymbolModel(NamedTuple):
    """Probabilities of symbols of `bits` bits: `tables`, and the table of each channel (uint8).

    One channel stands for all. `fingerprint`: SHA-256 of the file form. Make one with `symbol_model` or
    `model_of_channels`, which check all of that. Models are equal when their fingerprints are.
    """

    bits: int
    tables: Tuple[SymbolTable, ...]
    channels: np.ndarray
    fingerprint: bytes

    @property
    def context_count(self) -> int:
        """Number of contexts of all tables."""
        return sum(table.context_count for table in self.tables)

    @property
    def has_contexts(self) -> bool:
        """Tell whether neighbours say something: whether a table is not of order 0."""
        return any(table.context_count > 1 for table in self.tables)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SymbolModel) and self.fingerprint == other.fingerprint

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def symbol_model(
    bits: int, classes: np.ndarray, frequencies: np.ndarray, activity_classes: Optional[np.ndarray] = None
) -> SymbolModel:
    """Return the model of one table, with copies of these arrays; raises CoopexportError for what is no table.

    `classes`: 2^bits integers; `activity_classes`: 256 integers, all 0 where not given; `frequencies`:
    contexts x 2^bits integers (see SymbolTable).
    """
    if bits not in range(1, MAXIMUM_BITS + 1):
        raise InputError("a symbol model is for 1 to {} bits, not {}".format(MAXIMUM_BITS, bits))
    if activity_classes is None:
        activity_classes = np.zeros(ACTIVITIES, np.uint8)
    return _named(
        int(bits), (_checked_table(int(bits), classes, activity_classes, frequencies),), np.zeros(1, np.uint8)
    )


def model_of_channels(models: Sequence[SymbolModel], channels: Sequence[int]) -> SymbolModel:
    """Return the model that codes channel c with the only table of `models[channels[c]]`; all are of the same bits.

    Every model is used. Raises CoopexportError for what is no model.
    """
    numbers = np.asarray(channels)
    if not 1 <= len(models) <= MAXIMUM_TABLES or len({model.bits for model in models}) != 1:
        raise _no_model("it has {} tables of {} bits".format(len(models), sorted({model.bits for model in models})))
    if any(len(model.tables) != 1 for model in models):
        raise _no_model("one of its tables is several")
    if numbers.ndim != 1 or not 1 <= numbers.size <= MAXIMUM_CHANNELS:
        raise _no_model("it is for channels of shape {}".format(numbers.shape))
    if sorted(set(numbers.tolist())) != list(range(len(models))):
        raise _no_model("its channels do not use all of its {} tables, and no others".format(len(models)))
    if sum(model.context_count for model in models) > MAXIMUM_CONTEXTS:
        raise _no_model("its tables have more than {} contexts".format(MAXIMUM_CONTEXTS))
    if len(models) == 1:
        return models[0]
    return _named(models[0].bits, tuple(model.tables[0] for model in models), numbers.astype(np.uint8))


def _named(bits: int, tables: Tuple[SymbolTable, ...], channels: np.ndarray) -> SymbolModel:
    channels.setflags(write=False)
    unnamed = SymbolModel(bits, tables, channels, b"")
    return unnamed._replace(fingerprint=hashlib.sha256(model_to_bytes(unnamed)).digest())


def _checked_table(
    bits: int, classes: np.ndarray, activity_classes: np.ndarray, frequencies: np.ndarray
) -> SymbolTable:
    """Return a table with copies of these arrays; raises CoopexportError for what is none."""
    symbol_count = 1 << bits
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
    return SymbolTable(own_classes, own_activity_classes, own_frequencies)


def model_to_bytes(model: SymbolModel) -> bytes:
    """Return the file form of `model`: the same bytes for the same tables, everywhere."""
    version = 1 if len(model.tables) == 1 else 2
    parts = [_HEADER.pack(_MAGIC, version, model.bits)]
    if version == 2:
        parts += [_CHANNELS.pack(len(model.tables), len(model.channels)), model.channels.tobytes()]
    for table in model.tables:
        counts = int(table.classes.max()) + 1, table.activity_class_count
        parts.append(bytes(counts))
        for classes, count in zip((table.classes, table.activity_classes), counts):  # noqa: B905  of Python 3.10
            parts.append(classes.tobytes() if version == 1 or count > 1 else b"")
        parts.append(table.frequencies.astype("<u2").tobytes())
    return b"".join(parts)


def model_from_bytes(data: bytes) -> SymbolModel:
    """Return the model that `data` is the file form of; raises CoopexportError when it is none."""
    if data[: len(_MAGIC)] != _MAGIC:
        raise _no_model("it does not begin with 'cxsm'")
    reader = _Reader(data)
    version, bits = reader.take(_HEADER.size)[len(_MAGIC) :]
    if version not in _VERSIONS:
        raise DamagedFileError(
            "the symbol model is of version {}, this side reads {}: update the older side".format(
                version, " and ".join(str(known) for known in _VERSIONS)
            )
        )
    if not 1 <= bits <= MAXIMUM_BITS:
        raise _no_model("it says {} bits".format(bits))
    table_count, channels = 1, np.zeros(1, np.uint8)
    if version == 2:
        table_count, channel_count = _CHANNELS.unpack(reader.take(_CHANNELS.size))
        channels = np.frombuffer(reader.take(channel_count), np.uint8)
        if table_count < 2:
            raise _no_model("it has {} tables, and says that it has several".format(table_count))
    models = [_read_table(reader, version, bits) for _ in range(table_count)]
    reader.check_end()
    return models[0] if version == 1 else model_of_channels(models, channels.tolist())


class _Reader:
    """The bytes of a file, taken from the front."""

    def __init__(self, data: bytes) -> None:
        self._data, self._offset = data, 0

    def take(self, size_bytes: int) -> bytes:
        """Return the next bytes; raises CoopexportError when they are not all there."""
        taken = self._data[self._offset : self._offset + size_bytes]
        self._offset += size_bytes
        if len(taken) != size_bytes:
            raise _no_model("it has {} bytes, and needs {} or more".format(len(self._data), self._offset))
        return taken

    def check_end(self) -> None:
        """Raise CoopexportError when bytes are left."""
        if self._offset != len(self._data):
            raise _no_model("it has {} bytes, by its header it should have {}".format(len(self._data), self._offset))


def _read_table(reader: _Reader, version: int, bits: int) -> SymbolModel:
    """Return the model of the next table alone."""
    counts = tuple(reader.take(2))
    if not all(1 <= count <= MAXIMUM_CLASSES for count in counts):
        raise _no_model("it says {} and {} classes".format(*counts))
    classes, activity_classes = (
        np.frombuffer(reader.take(length), np.uint8) if version == 1 or count > 1 else np.zeros(length, np.uint8)
        for count, length in zip(counts, (1 << bits, ACTIVITIES))  # noqa: B905  strict= is of Python 3.10
    )
    if (int(classes.max()) + 1, int(activity_classes.max()) + 1) != counts:
        raise _no_model("its classes are not those that its header says")
    contexts = counts[0] * counts[1]
    frequencies = np.frombuffer(reader.take(2 * contexts << bits), np.dtype("<u2"))
    return symbol_model(bits, classes, frequencies.reshape(contexts, 1 << bits), activity_classes)


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
