"""Symbol models are checked when they are made and when they are read; their file form does not drift."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from symbol_examples import random_channels, random_model

from jetson.errors import CoopexportError
from jetson.wire.symbol_model import (
    FREQUENCY_TOTAL,
    model_from_bytes,
    model_of_channels,
    model_to_bytes,
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
    (table,), (written,) = read.tables, model.tables
    assert (read.bits, read.context_count, table.activity_class_count) == (bits, contexts, class_count)
    for array, other in zip(table, written, strict=True):
        np.testing.assert_array_equal(array, other)
    assert read.channels.tolist() == [0]
    assert read == model
    assert hash(read) == hash(model)
    assert read.fingerprint == hashlib.sha256(data).digest()
    assert model_to_bytes(read) == data


@given(
    seed=st.integers(0, 2**32), bits=st.integers(1, 8), class_count=st.sampled_from([1, 3]), tables=st.integers(2, 6)
)
@settings(deadline=None, max_examples=60)
def test_tables_of_channels_are_written_and_read_again(seed, bits, class_count, tables):
    generator = np.random.default_rng(seed)
    model = random_channels(generator, bits, tables + seed % 5, tables, class_count)
    data = model_to_bytes(model)
    read = model_from_bytes(data)
    assert read == model
    assert read.fingerprint == hashlib.sha256(data).digest()
    np.testing.assert_array_equal(read.channels, model.channels)
    for table, written in zip(read.tables, model.tables, strict=True):
        for array, other in zip(table, written, strict=True):
            np.testing.assert_array_equal(array, other)


def test_the_file_form_of_channels_byte_for_byte():
    """A table of order 0 has no classes to write."""
    plain, other = symbol_model(1, [0, 0], [[1, 32767]]), symbol_model(1, [0, 1], [[16384, 16384], [32000, 768]])
    model = model_of_channels([plain, other], [1, 0, 1])
    tables = "0101" + "0100ff7f" + "0201" + "0001" + "00400040" + "007d0003"
    assert model_to_bytes(model).hex() == "6378736d0201" + "020300" + "010001" + tables


def test_one_table_for_all_channels_is_the_model_of_one_table():
    plain = symbol_model(1, [0, 0], [[1, 32767]])
    assert model_of_channels([plain], [0, 0, 0]) == plain


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
    (table,) = model.tables
    assert table.frequencies.tolist() == [[16384, 16384]]
    with pytest.raises(ValueError, match="read-only"):
        table.frequencies[0, 0] = 1


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
        (b"", "does not begin with"),
        (b"cxsm\x01", "has 5 bytes, and needs 6 or more"),
        (b"cxsm\x01\x01\x01", "has 7 bytes, and needs 8 or more"),
        (b"PK\x03\x04" + bytes(20), "does not begin with"),
        (b"cxsm\x03\x01\x01\x01" + bytes(262), "version 3, this side reads 1 and 2"),
        (b"cxsm\x01\x00\x01\x01" + bytes(262), "says 0 bits"),
        (b"cxsm\x01\xff\x01\x01" + bytes(262), "255 bits"),
        (b"cxsm\x01\x01\x00\x01" + bytes(262), "0 and 1 classes"),
        (b"cxsm\x01\x08\x01\xff" + bytes(262), "1 and 255 classes"),
        (b"cxsm\x01\x01\x01\x01" + bytes(261), "has 269 bytes, and needs 270 or more"),
        (
            b"cxsm\x01\x01\x01\x01" + bytes(258) + b"\x00\x40\x00\x40\x00",
            "has 271 bytes, by its header it should have 270",
        ),
        (b"cxsm\x02\x01\x01\x01\x00\x00" + bytes(262), "it has 1 tables, and says that it has several"),
        (b"cxsm\x02\x01\x02\x01\x00\x00" + 2 * b"\x01\x01\x00\x40\x00\x40", "do not use all of its 2 tables"),
        (b"cxsm\x02\x01\x02\x02\x00\x00\x02" + 2 * b"\x01\x01\x00\x40\x00\x40", "do not use all of its 2 tables"),
        (b"cxsm\x02\x01\x02\x00\x00" + 2 * b"\x01\x01\x00\x40\x00\x40", "channels of shape"),
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
    generator, tables = np.random.default_rng(seed), seed % 5 % 3 + 1
    data = bytearray(model_to_bytes(random_channels(generator, seed % 8 + 1, tables + seed % 2, tables, seed % 3 + 1)))
    for position, value in positions:
        data[position % len(data)] = value
    try:
        model = model_from_bytes(bytes(data))
    except CoopexportError:
        return
    assert model_to_bytes(model) == data
    assert set(model.channels.tolist()) == set(range(len(model.tables)))
    for table in model.tables:
        assert (table.frequencies.sum(axis=1) == FREQUENCY_TOTAL).all()
        assert table.frequencies.min() >= 1
        assert table.context_count == (table.classes.max() + 1) * (table.activity_classes.max() + 1)


@pytest.mark.parametrize(
    ("tables", "channels", "match"),
    [
        ([], [0], "0 tables of"),
        ([1, 2], [0, 1], r"2 tables of \[1, 2\] bits"),
        ([1, 1], [0, 0], "do not use all of its 2 tables, and no others"),
        ([1, 1], [0, 2], "do not use all"),
        ([1, 1], [[0, 1]], r"channels of shape \(1, 2\)"),
        ([1], [], "channels of shape"),
    ],
)
def test_tables_and_channels_that_do_not_fit_are_refused(tables, channels, match):
    generator = np.random.default_rng(0)
    with pytest.raises(CoopexportError, match=match):
        model_of_channels([random_model(generator, bits) for bits in tables], channels)


def test_more_contexts_than_a_device_should_hold_are_refused():
    generator = np.random.default_rng(0)
    models = [random_model(generator, 4, 16) for _ in range(5)]
    with pytest.raises(CoopexportError, match="more than 1024 contexts"):
        model_of_channels(models, [0, 1, 2, 3, 4])
    assert model_of_channels(models[:4], [0, 1, 2, 3]).context_count == 1024
