"""Symbol models are checked when they are made and when they are read; their file form does not drift."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from symbol_examples import random_model

from jetson.errors import CoopexportError
from jetson.wire.symbol_model import (
    FREQUENCY_TOTAL,
    contexts_of,
    cumulative_frequencies,
    model_from_bytes,
    model_to_bytes,
    predictions_and_activities,
    symbol_model,
)

HALVES = np.full((1, 2), FREQUENCY_TOTAL // 2)


@given(seed=st.integers(0, 2**32), bits=st.integers(1, 8), class_count=st.sampled_from([1, 2, 3, 5, 16]))
@settings(deadline=None, max_examples=60)
def test_what_is_written_is_read_again(seed, bits, class_count):
    model = random_model(np.random.default_rng(seed), bits, class_count)
    data = model_to_bytes(model)
    read = model_from_bytes(data)
    contexts = min(class_count, 2**bits) * class_count
    assert len(data) == 8 + 2**bits + 256 + 2 * contexts * 2**bits
    assert (read.bits, read.context_count, read.activity_class_count) == (bits, contexts, class_count)
    np.testing.assert_array_equal(read.activity_classes, model.activity_classes)
    np.testing.assert_array_equal(read.classes, model.classes)
    np.testing.assert_array_equal(read.frequencies, model.frequencies)
    assert read == model
    assert hash(read) == hash(model)
    assert read.fingerprint == hashlib.sha256(data).digest()
    assert model_to_bytes(read) == data


def test_the_file_form_byte_for_byte():
    activity_classes = [0] * 100 + [1] * 156
    model = symbol_model(1, [0, 1], [[1, 32767], [16384, 16384], [32000, 768], [32767, 1]], activity_classes)
    tables = "0100ff7f" + "00400040" + "007d0003" + "ff7f0100"
    assert model_to_bytes(model).hex() == "6378736d01010202" + "0001" + "00" * 100 + "01" * 156 + tables


def test_models_with_other_tables_are_others():
    late, early = ([0] * (256 - count) + [1] * count for count in (1, 2))
    models = {
        symbol_model(1, [0, 0], HALVES),
        symbol_model(1, [0, 0], [[16383, 16385]]),
        symbol_model(1, [0, 1], np.repeat(HALVES, 2, axis=0)),
        symbol_model(1, [1, 0], np.repeat(HALVES, 2, axis=0)),
        symbol_model(1, [0, 0], np.repeat(HALVES, 2, axis=0), late),
        symbol_model(1, [0, 0], np.repeat(HALVES, 2, axis=0), early),
    }
    assert len(models) == 6
    assert symbol_model(1, [0, 0], HALVES) in models
    assert symbol_model(1, [0, 0], HALVES) != "something else"


def test_a_model_does_not_change_with_what_it_was_made_from():
    frequencies = HALVES.copy()
    model = symbol_model(1, [0, 0], frequencies)
    frequencies[0] = 0
    assert model.frequencies.tolist() == [[16384, 16384]]
    with pytest.raises(ValueError, match="read-only"):
        model.frequencies[0, 0] = 1


@pytest.mark.parametrize(
    ("bits", "classes", "frequencies", "match"),
    [
        (0, [0], [[32768]], "1 to 8 bits, not 0"),
        (9, [0] * 512, [[64] * 512], "1 to 8 bits, not 9"),
        (1, [0, 0, 0], HALVES, "2 integers are needed"),
        (1, [0.0, 0.0], HALVES, "classes are float64"),
        (1, [0, 16], np.repeat(HALVES, 17, axis=0), "one of its classes is outside 0 to 15"),
        (1, [0, -1], HALVES, "one of its classes is outside"),
        (1, [0, 0], [[1.0, 32767.0]], "frequencies are float64"),
        (1, [0, 0], [16384, 16384], "frequencies are"),
        (1, [0, 0], [[8192] * 4], "1 contexts x 2 integers are needed"),
        (1, [0, 1], HALVES, "2 contexts x 2 integers are needed"),
        (1, [0, 0], np.repeat(HALVES, 2, axis=0), "1 contexts x 2"),
        (1, [0, 0], np.zeros((0, 2), int), "1 contexts x 2"),
        (1, [0, 0], [[0, 32768]], "frequency is outside 1"),
        (1, [0, 0], [[-1, 32769]], "frequency is outside 1"),
        (1, [0, 0], [[16384, 16383]], "context 0 sum to 32767"),
        (1, [0, 1], [[16384, 16384], [1, 1]], "context 1 sum to 2"),
    ],
)
def test_tables_that_are_no_model_are_refused(bits, classes, frequencies, match):
    with pytest.raises(CoopexportError, match=match):
        symbol_model(bits, np.asarray(classes), np.asarray(frequencies))


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "less than its header"),
        (b"cxsm\x01\x01\x01", "less than its header"),
        (b"PK\x03\x04" + bytes(20), "does not begin with"),
        (b"cxsm\x02\x01\x01\x01" + bytes(262), "version 2, this side reads 1"),
        (b"cxsm\x01\x00\x01\x01" + bytes(262), "0 bits, 1 and 1 classes"),
        (b"cxsm\x01\xff\x01\x01" + bytes(262), "255 bits"),
        (b"cxsm\x01\x01\x00\x01" + bytes(262), "0 and 1 classes"),
        (b"cxsm\x01\x08\x01\xff" + bytes(262), "1 and 255 classes"),
        (b"cxsm\x01\x01\x01\x01" + bytes(261), "has 269 bytes, by its header it should have 270"),
        (b"cxsm\x01\x01\x01\x01" + bytes(263), "has 271 bytes"),
        (b"cxsm\x01\x01\x02\x01" + bytes(266), "classes are not those that its header says"),
        (b"cxsm\x01\x01\x01\x02" + bytes(266), "classes are not those that its header says"),
        (b"cxsm\x01\x01\x01\x01" + bytes(262), "frequency is outside 1"),
    ],
)
def test_files_that_are_no_model_are_refused(data, match):
    with pytest.raises(CoopexportError, match=match):
        model_from_bytes(data)


@given(seed=st.integers(0, 2**32), positions=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255))))
@settings(deadline=None, max_examples=200)
def test_a_damaged_file_gives_a_right_model_or_is_refused(seed, positions):
    data = bytearray(model_to_bytes(random_model(np.random.default_rng(seed), seed % 8 + 1, seed % 3 + 1)))
    for position, value in positions:
        data[position % len(data)] = value
    try:
        model = model_from_bytes(bytes(data))
    except CoopexportError:
        return
    assert model_to_bytes(model) == data
    assert (model.frequencies.sum(axis=1) == FREQUENCY_TOTAL).all()
    assert model.frequencies.min() >= 1
    assert model.context_count == (model.classes.max() + 1) * (model.activity_classes.max() + 1)


def test_cumulative_frequencies_go_from_0_to_the_total():
    model = symbol_model(1, [0, 0], [[5, 32763]])
    np.testing.assert_array_equal(cumulative_frequencies(model), [[0, 5, 32768]])


def test_contexts_are_prediction_and_activity_of_the_neighbours():
    symbols = np.array([[[0, 1, 2], [3, 0, 1]], [[1, 1, 1], [0, 3, 0]]], np.uint8)
    predictions, activities = predictions_and_activities(symbols)
    # First rows: left alone. Then the median of left, up and left + up - up_left.
    np.testing.assert_array_equal(predictions, [[[0, 0, 1], [0, 3, 1]], [[0, 1, 1], [1, 0, 3]]])
    # |left - up_left| + |up - up_left| + |up - up_right|
    np.testing.assert_array_equal(activities, [[[0, 0, 1], [1, 5, 4]], [[0, 1, 1], [1, 1, 3]]])
    activity_classes = np.minimum(np.arange(256), 5)
    model = symbol_model(2, [0, 1, 2, 2], np.full((18, 4), FREQUENCY_TOTAL // 4), activity_classes)
    wanted = model.classes[predictions].astype(int) * 6 + np.minimum(activities, 5)
    np.testing.assert_array_equal(contexts_of(symbols, model), wanted)


def test_activities_end_at_255():
    symbols = np.zeros((1, 2, 3), np.uint8)
    symbols[0, 0] = 0, 255, 0
    assert predictions_and_activities(symbols)[1][0, 1, 1] == 255, "not 510"
