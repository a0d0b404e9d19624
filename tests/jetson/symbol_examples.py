"""Symbol models made from a seed, and symbols drawn from them, for the tests of the wire format."""

import numpy as np

from jetson.wire import symbol_model
from jetson.wire.symbol_model import FREQUENCY_TOTAL, contexts_of


def frequencies_of(probabilities):
    """Return integers of sum 2^15, each at least 1, close to `probabilities` (rows x symbols)."""
    rows = 1 + np.floor(probabilities * (FREQUENCY_TOTAL - probabilities.shape[1])).astype(np.int64)
    rows[np.arange(len(rows)), rows.argmax(axis=1)] += FREQUENCY_TOTAL - rows.sum(axis=1)
    return rows


def random_model(generator, bits, class_count=1, concentration=1.0):
    """Return a model with random classes; the smaller `concentration`, the lower its entropy."""
    symbol_count = 1 << bits
    gammas = generator.gamma(concentration, size=(class_count**2, symbol_count)) + 1e-12
    classes = generator.integers(0, class_count, symbol_count)
    return symbol_model(bits, classes, frequencies_of(gammas / gammas.sum(axis=1, keepdims=True)))


def draw(generator, model, shape):
    """Return symbols of planes x height x width that follow `model`, contexts included."""
    planes, height, width = shape
    cumulative = np.cumsum(model.frequencies, axis=1)
    slots = generator.integers(0, FREQUENCY_TOTAL, shape)
    symbols = np.zeros((planes, height + 1, width + 1), np.uint8)  # a border of symbol 0
    for row in range(1, height + 1):
        for column in range(1, width + 1):
            contexts = model.classes[symbols[:, row, column - 1]].astype(int) * model.class_count
            contexts += model.classes[symbols[:, row - 1, column]]
            symbols[:, row, column] = (cumulative[contexts] <= slots[:, row - 1, column - 1, None]).sum(axis=1)
    return symbols[:, 1:, 1:].copy()


def information_bytes(symbols, model):
    """Return the cross-entropy of `symbols`, planes x height x width, under `model`, in bytes."""
    frequencies = model.frequencies[contexts_of(symbols, model), symbols]
    return float(-np.log2(frequencies / FREQUENCY_TOTAL).sum() / 8)
