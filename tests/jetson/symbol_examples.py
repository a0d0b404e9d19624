"""Symbol models made from a seed, and symbols drawn from them, for the tests of the wire format."""

import numpy as np

from jetson.wire.contexts import contexts_of, cumulative_frequencies
from jetson.wire.symbol_model import FREQUENCY_TOTAL, model_of_channels, symbol_model


def frequencies_of(probabilities):
    """Return integers of sum 2^15, each at least 1, close to `probabilities` (rows x symbols)."""
    rows = 1 + np.floor(probabilities * (FREQUENCY_TOTAL - probabilities.shape[1])).astype(np.int64)
    rows[np.arange(len(rows)), rows.argmax(axis=1)] += FREQUENCY_TOTAL - rows.sum(axis=1)
    return rows


def random_model(generator, bits, class_count=1, concentration=1.0):
    """Return a model with random classes of predictions and activities; the smaller `concentration`, the lower its
    entropy."""
    symbol_count = 1 << bits
    own_count = min(class_count, symbol_count)
    classes = np.concatenate([np.arange(own_count), generator.integers(0, own_count, symbol_count - own_count)])
    activity_classes = np.concatenate([np.arange(class_count), generator.integers(0, class_count, 256 - class_count)])
    gammas = generator.gamma(concentration, size=(own_count * class_count, symbol_count)) + 1e-12
    return symbol_model(bits, classes, frequencies_of(gammas / gammas.sum(axis=1, keepdims=True)), activity_classes)


def random_channels(generator, bits, channel_count, table_count, class_count=1, concentration=1.0):
    """Return a model of so many channels and tables, tables with and without contexts taking turns."""
    tables = [
        random_model(generator, bits, class_count if number % 2 else 1, concentration) for number in range(table_count)
    ]
    channels = np.concatenate([np.arange(table_count), generator.integers(0, table_count, channel_count - table_count)])
    return model_of_channels(tables, generator.permutation(channels))


def draw(generator, model, shape):
    """Return symbols of planes x height x width that follow `model`, contexts included."""
    return np.concatenate(
        [
            _draw(generator, model.tables[model.channels[plane % len(model.channels)]], (1, *shape[1:]))
            for plane in range(shape[0])
        ]
        if len(model.tables) > 1
        else [_draw(generator, model.tables[0], shape)]
    )


def _draw(generator, model, shape):
    """Return symbols that follow one table."""
    planes, height, width = shape
    cumulative = np.cumsum(model.frequencies, axis=1)
    slots = generator.integers(0, FREQUENCY_TOTAL, shape)
    framed = np.zeros((planes, height + 1, width + 2), np.int64)  # in symbols 0
    for row, column in np.ndindex(height, width):
        left, up = framed[:, row + 1, column], framed[:, row, column + 1]
        up_left, up_right = framed[:, row, column], framed[:, row, column + 2]
        prediction = np.median([left, up, left + up - up_left], axis=0).astype(int)
        activity = np.abs(left - up_left) + np.abs(up - up_left) + np.abs(up - up_right)
        contexts = model.classes[prediction].astype(int) * model.activity_class_count
        contexts += model.activity_classes[np.minimum(activity, 255)]
        framed[:, row + 1, column + 1] = (cumulative[contexts] <= slots[:, row, column, None]).sum(axis=1)
    return framed[:, 1:, 1:-1].astype(np.uint8)


def information_bytes(symbols, model):
    """Return the cross-entropy of `symbols`, planes x height x width, under `model`, in bytes."""
    frequencies = np.diff(cumulative_frequencies(model))[contexts_of(symbols, model), symbols]
    return float(-np.log2(frequencies / FREQUENCY_TOTAL).sum() / 8)
