"""The one judgement of engines, on host and device: symbols one by one, numbers by their spread, all of both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packed_examples import WIDTHS, packed_by_hand

from jetson.engines.golden_check import OutputForm, compare_outputs, run_in_batches
from jetson.errors import CoopexportError

NUMBERS = OutputForm("numbers", 1e-3)


def symbols(count: int, bits: int = 8, packing: str = "none") -> OutputForm:
    return OutputForm("symbols", 1e-3, bits, packing, count)


def compare(form: OutputForm, expected: np.ndarray, found: np.ndarray) -> float:
    """Return the error that the record of one output says."""
    (record,) = compare_outputs([form], [expected], [found], "here")
    assert (record["check"], record["bound"], record["samples"]) == ("build", form.bound, len(expected))
    return float(record["error"])


@given(st.integers(1, 40), st.integers(1, 50))
def test_batches_give_one_result_for_each_input(count: int, batch: int) -> None:
    def fixed_batch(inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        assert len(inputs) == 1
        assert inputs[0].shape == (batch, 2)
        return [inputs[0].sum(axis=1, keepdims=True)]

    values = np.arange(2.0 * count).reshape(count, 2)
    assert np.array_equal(run_in_batches(fixed_batch, [values], batch)[0], values.sum(axis=1, keepdims=True))


@given(st.integers(1, 4000), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_symbols_may_differ_by_one_in_one_of_a_thousand(count: int, different: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    expected = generator.integers(1, 255, (2, count)).astype(np.uint8)
    found = expected.copy()
    chosen = generator.choice(2 * count, min(different, 2 * count), replace=False)
    found.reshape(-1)[chosen] += generator.choice(np.array([1, 255], np.uint8), len(chosen))  # 255: one less
    share = len(chosen) / (2 * count)
    if share <= 1e-3:
        assert compare(symbols(count), expected, found) == pytest.approx(share)
    else:
        with pytest.raises(CoopexportError, match="here: parity check 'build' failed"):
            compare(symbols(count), expected, found)


@given(st.integers(0, 255), st.integers(0, 255))
def test_no_symbol_may_differ_by_more_than_one(expected: int, found: int) -> None:
    """A symbol of 255 and one of 0 are far apart, although uint8 wraps around."""
    golden = np.zeros((16, 1000), np.uint8)
    golden[3, 4] = expected
    other = golden.copy()
    other[3, 4] = found
    if abs(expected - found) <= 1:
        compare(symbols(1000), golden, other)
    else:
        with pytest.raises(CoopexportError, match=f"differs by {abs(expected - found)} "):
            compare(symbols(1000), golden, other)


@given(st.sampled_from(WIDTHS), st.integers(1, 70), st.data())
def test_one_symbol_that_is_off_by_one_is_counted_in_every_packing(
    width: tuple[int, str], count: int, data: st.DataObject
) -> None:
    bits, packing = width
    values = np.random.default_rng(count).integers(0, 1 << bits, (3, count)).astype(np.uint8)
    other = values.copy()
    place = data.draw(st.integers(0, count - 1))
    other[1, place] ^= 1
    described = symbols(count, bits, packing)._replace(bound=1.0)
    golden, found = (packed_by_hand(one, bits, packing) for one in (values, other))
    assert compare(described, golden, golden.copy()) == 0
    assert compare(described, golden, found) == pytest.approx(1 / (3 * count))


def test_a_number_that_is_no_symbol_is_found_in_integers() -> None:
    """256 more is the same byte."""
    golden = np.full((2, 9), 7, np.int32)
    other = golden.copy()
    other[1, 8] += 256
    with pytest.raises(CoopexportError, match="a symbol differs by 256"):
        compare(symbols(9, 4, "integers"), golden, other)


def test_a_lower_precision_may_be_further_off() -> None:
    golden = np.full((4, 50), 100, np.uint8)
    other = golden.copy()
    other[1, :20] = 103
    form = OutputForm("symbols", 0.2, symbols=50, difference=3)
    assert compare(form, golden, other) == pytest.approx(0.1)
    with pytest.raises(CoopexportError, match="a symbol differs by 3 from the golden data; the limit is 2"):
        compare(form._replace(difference=2), golden, other)


def test_a_packed_symbol_that_is_off_is_found() -> None:
    values = np.full((2, 9), 7, np.uint8)
    other = values.copy()
    other[1, 8] = 9
    with pytest.raises(CoopexportError, match="a symbol differs by 2"):
        compare(symbols(9, 4, "words"), packed_by_hand(values, 4, "words"), packed_by_hand(other, 4, "words"))


@pytest.mark.parametrize(
    "found",
    [np.zeros((16, 1), np.uint8), np.zeros((15, 4), np.uint8), np.zeros((16, 4), np.float32), np.zeros(4, np.uint8)],
    ids=["would broadcast", "too few", "float32", "no batch"],
)
def test_other_shapes_and_dtypes_are_refused(found: np.ndarray) -> None:
    with pytest.raises(CoopexportError, match=r"the engine returns .* of shape"):
        compare(symbols(4), np.zeros((16, 4), np.uint8), found)
    with pytest.raises(CoopexportError, match=r"the engine returns .* of shape"):
        compare(NUMBERS, np.zeros((16, 4), np.float16), found)


def test_another_number_of_outputs_is_refused() -> None:
    values = np.random.default_rng(0).random((4, 3), np.float32)
    with pytest.raises(CoopexportError, match="the engine has 2 outputs, the golden data 1"):
        compare_outputs([NUMBERS], [values], [values, values], "here")


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(wrong: float) -> None:
    expected = np.random.default_rng(1).standard_normal((4, 30)).astype(np.float32)
    found = expected.copy()
    found[1, 2] = wrong
    with pytest.raises(CoopexportError, match="not finite"):
        compare(NUMBERS, expected, found)


@given(st.floats(1e-5, 1.0), st.floats(0.1, 1000.0))
def test_numbers_are_judged_by_their_spread(share: float, size: float) -> None:
    expected = (size * np.linspace(-1, 1, 12, dtype=np.float64)).reshape(6, 2)
    found = expected.copy()
    spread = np.ptp(expected, axis=0).max()
    found[2, 1] += share * spread
    if share <= 0.999e-3:
        assert compare(NUMBERS, expected, found) == pytest.approx(share, rel=1e-6)
    elif share >= 1.001e-3:
        with pytest.raises(CoopexportError, match=r"error .*the limit is 1e-03"):
            compare(NUMBERS, expected, found)


def test_golden_data_that_hardly_vary_prove_nothing() -> None:
    constant = np.ones((4, 3), np.float32)
    with pytest.raises(CoopexportError, match="equality cannot be shown"):
        compare(NUMBERS, constant, constant)
