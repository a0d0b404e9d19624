"""rANS: exact, close to the information in the symbols, and the same bytes in C and in Python."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from symbol_examples import draw, frequencies_of, information_bytes, random_channels, random_model

from jetson.errors import CoopexportError
from jetson.wire import rans_library, rans_python
from jetson.wire.rans import plane_shape, rans_decode, rans_encode, rans_implementation
from jetson.wire.symbol_model import FREQUENCY_TOTAL, symbol_model


@functools.cache
def library():
    """Return rans.c compiled; the tests of this file need a compiler."""
    return rans_library.load_library()


def both_encode(symbols, model):
    """Return the code, which C and Python must agree on."""
    coded = rans_python.encode(symbols, model)
    assert library().encode(symbols, model) == coded
    return coded


def both_decode(coded, shape, model):
    """Return (problem, symbols), which C and Python must agree on where there is no problem."""
    problem, symbols = rans_python.decode(coded, shape, model)
    problem_in_c, symbols_in_c = library().decode(coded, shape, model)
    assert problem == problem_in_c
    if not problem:
        np.testing.assert_array_equal(symbols, symbols_in_c)
    return problem, symbols


shapes = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 9))
models = st.builds(
    lambda seed, bits, tables, class_count, concentration: random_channels(
        np.random.default_rng(seed), bits, tables + seed % 3, tables, class_count, concentration
    ),
    st.integers(0, 2**32),
    st.integers(1, 8),
    st.sampled_from([1, 1, 2, 4]),
    st.sampled_from([1, 1, 2, 3, 16]),
    st.sampled_from([0.01, 0.3, 3.0]),
)


@given(model=models, shape=shapes, seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=150)
def test_any_symbols_come_back_and_c_gives_the_bytes_of_python(model, shape, seed):
    symbols = np.random.default_rng(seed).integers(0, 1 << model.bits, shape, dtype=np.uint8)
    problem, decoded = both_decode(both_encode(symbols, model), shape, model)
    assert problem == 0
    np.testing.assert_array_equal(decoded, symbols)


@pytest.mark.parametrize("table_count", [1, 5])
@pytest.mark.parametrize("class_count", [1, 4])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_many_symbols_come_back_and_c_gives_the_bytes_of_python(bits, class_count, table_count):
    generator = np.random.default_rng(bits)
    model = random_channels(generator, bits, 8, table_count, class_count, 0.3)
    symbols = draw(generator, model, (64, 12, 13))
    problem, decoded = both_decode(both_encode(symbols, model), symbols.shape, model)
    assert problem == 0
    np.testing.assert_array_equal(decoded, symbols)


def vector_case(bits, class_count):
    """Return a model and symbols that no random generator has a hand in."""
    symbol_count = 1 << bits
    weights = 1.0 + np.arange(symbol_count)[None] ** 2 * (1 + np.arange(class_count**2)[:, None]) % 29
    model = symbol_model(
        bits,
        np.arange(symbol_count) % class_count,
        frequencies_of(weights / weights.sum(axis=1, keepdims=True)),
        np.arange(256) % class_count,
    )
    return model, (np.arange(2 * 3 * 5) ** 2 // 3 % symbol_count).astype(np.uint8).reshape(2, 3, 5)


REFERENCE_VECTORS = {
    (1, 1): "a22383172da0",
    (2, 2): "0c810115871e034af0a0877a014380",
    (4, 3): "5a80b404e0001c9e9aa863c1ab49b9d77c0e7e006c01",
    (8, 1): "06801400000e8061011e85b90bd50f00990d1d96a66baf213b9c48fed62e6716f8",
}


@pytest.mark.parametrize("case", list(REFERENCE_VECTORS))
def test_the_code_does_not_drift(case):
    """Frozen bytes: whoever changes them needs another version of the message."""
    model, symbols = vector_case(*case)
    coded = both_encode(symbols, model)
    assert coded.hex() == REFERENCE_VECTORS[case]
    np.testing.assert_array_equal(both_decode(coded, symbols.shape, model)[1], symbols)


@pytest.mark.parametrize("class_count", [1, 4])
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("concentration", [0.002, 0.05, 0.5, 5.0])
def test_it_costs_at_most_3_bytes_more_than_the_information(bits, class_count, concentration):
    generator = np.random.default_rng(bits)
    model = random_channels(generator, bits, 5, 1 + bits % 3, class_count, concentration)
    for planes in (1, 10, 100):
        symbols = draw(generator, model, (planes, 10, 10))
        information = information_bytes(symbols, model)
        size = len(library().encode(symbols, model))
        # 15 bits for the symbol that is coded first, whose state says it whole, and less than 8 to fill the last byte.
        assert 0.999 * information - 2 <= size <= 1.001 * information + 23 / 8


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_the_rarest_and_the_most_frequent_symbol_alone(bits):
    rare = FREQUENCY_TOTAL - (1 << bits) + 1
    model = symbol_model(bits, np.zeros(1 << bits, int), np.array([[rare] + [1] * ((1 << bits) - 1)]))
    for symbol, size in ((0, 3), ((1 << bits) - 1, 3 + 1000 * 15 / 8)):
        symbols = np.full((1, 1, 1000), symbol, np.uint8)
        coded = both_encode(symbols, model)
        assert len(coded) <= math.ceil(size + 1000 * math.log2(FREQUENCY_TOTAL / rare) / 8)
        np.testing.assert_array_equal(both_decode(coded, symbols.shape, model)[1], symbols)


def test_contexts_pay_where_neighbours_are_alike():
    generator = np.random.default_rng(0)
    stay = np.array([[0.97, 0.01, 0.01, 0.01], [0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.1, 0.2, 0.3, 0.4]])
    model = symbol_model(2, [0, 1, 1, 1], frequencies_of(stay), np.minimum(np.arange(256), 1))
    symbols = draw(generator, model, (8, 32, 32))
    counts = np.bincount(symbols.ravel(), minlength=4)
    order_0 = symbol_model(2, [0] * 4, frequencies_of(counts[None] / counts.sum()))
    assert len(both_encode(symbols, model)) < 0.8 * len(both_encode(symbols, order_0))


@given(model=models, shape=shapes, seed=st.integers(0, 2**32), coded=st.binary(max_size=60))
@settings(deadline=None, max_examples=200)
def test_c_and_python_refuse_the_same(model, shape, seed, coded):
    both_decode(coded, shape, model)
    generator = np.random.default_rng(seed)
    good = bytearray(both_encode(generator.integers(0, 1 << model.bits, shape, dtype=np.uint8), model))
    for wrong in (good[:-1], good[:-2], good[:7], good + b"\0", good + b"\0\0", good[:8]):
        both_decode(bytes(wrong), shape, model)
    good[generator.integers(len(good))] ^= 1 << generator.integers(8)
    both_decode(bytes(good), shape, model)


@pytest.mark.parametrize("implementation", ["c", "python"])
def test_the_reason_is_given(implementation, monkeypatch):
    monkeypatch.setenv("COOPEXPORT_RANS", implementation)
    assert rans_implementation().name == implementation
    generator = np.random.default_rng(0)
    model = random_model(generator, 4)
    symbols = draw(generator, model, (3, 8, 8))
    coded = rans_encode(symbols, model)
    np.testing.assert_array_equal(rans_decode(coded, symbols.shape, model), symbols)
    state_bytes = 4 - len(coded) % 2
    for wrong, match in (
        (coded[:7], "do not end where they should"),
        (b"", "do not end where they should"),
        (coded[:40], "do not end where they should"),
        (coded + b"\0\0", "do not end where they should"),
        (coded[: state_bytes - 1] + b"\0" + coded[state_bytes:], "state has more bytes than it needs"),
        (b"\0", "state has more bytes than it needs"),
    ):
        with pytest.raises(CoopexportError, match=match):
            rans_decode(wrong, symbols.shape, model)
    with pytest.raises(CoopexportError, match=r"not end"):
        rans_decode(coded, (3, 8, 7), model)
    with pytest.raises(CoopexportError, match="a symbol is 16, the model has 16"):
        rans_encode(np.full((1, 3), 16, np.uint8), model)


def test_c_itself_refuses_symbols_beyond_its_tables():
    model = random_model(np.random.default_rng(0), 3, 2)
    symbols = np.zeros((1, 2, 3), np.uint8)
    symbols[0, 1, 1] = 8
    with pytest.raises(ValueError, match="not below 8"):
        library().encode(symbols, model)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (1, 4, 0, 5), (0, 4, 5, 5)])
def test_no_symbols_take_no_bytes(shape):
    model = random_model(np.random.default_rng(0), 2)
    assert rans_encode(np.zeros(shape, np.uint8), model) == b""
    assert rans_decode(b"", shape, model).shape == shape
    with pytest.raises(CoopexportError, match="where there are none"):
        rans_decode(b"\0", shape, model)


@pytest.mark.parametrize(
    ("shape", "planes"),
    [
        ((), (1, 1, 1)),
        ((7,), (1, 1, 7)),
        ((2, 7), (2, 1, 7)),
        ((2, 5, 7), (10, 1, 7)),
        ((2, 3, 5, 7), (6, 5, 7)),
        ((2, 3, 4, 5, 7), (24, 5, 7)),
    ],
)
def test_which_symbols_are_neighbours(shape, planes):
    assert plane_shape(shape) == planes
    generator = np.random.default_rng(0)
    model = random_model(generator, 3, 3, 0.1)
    symbols = draw(generator, model, planes)
    assert rans_encode(symbols.reshape(shape), model) == both_encode(symbols, model)
    np.testing.assert_array_equal(
        rans_decode(rans_encode(symbols.reshape(shape), model), shape, model), symbols.reshape(shape)
    )


def test_tables_of_all_cuts_that_are_timed_in_turn_are_made_once() -> None:
    """A benchmark goes round all cuts of a network: tables made anew each time would count as coding."""
    for tables, count in ((rans_library._tables, 200), (rans_python._tables, 40)):
        models = [
            symbol_model(2, np.zeros(4, np.int64), np.array([[32768 - 3 - number, 1 + number, 1, 1]]))
            for number in range(count)
        ]
        for model in models:
            tables(model)
        before = tables.cache_info().misses
        for model in models:
            tables(model)
        assert tables.cache_info().misses == before
