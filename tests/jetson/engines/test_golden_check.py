"""Golden data: symbols of every packing, and the bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packed_examples import WIDTHS, packed_by_hand

from jetson.engines.golden_check import OutputForm, compare_outputs, form_from_json, in_batches, run_in_batches
from jetson.errors import CoopexportError


@pytest.mark.parametrize(("bits", "packing"), WIDTHS)
def test_forms_come_back_from_json(bits: int, packing: str) -> None:
    form = OutputForm("symbols", 1e-3, bits, packing, 30)
    assert form_from_json(dict(form._asdict())) == form
    with pytest.raises(ValueError, match="is not a form of an output"):
        form_from_json({**form._asdict(), "packing": "nibbles"})


@given(st.sampled_from(WIDTHS), st.integers(1, 3000), st.integers(0, 8), st.integers(0, 2**32 - 1))
def test_one_symbol_of_a_thousand_may_be_off_by_one(
    width: tuple[int, str], count: int, different: int, seed: int
) -> None:
    bits, packing = width
    generator = np.random.default_rng(seed)
    expected = generator.integers(0, 1 << bits, (2, count)).astype(np.uint8)
    found = expected.copy()
    chosen = generator.choice(2 * count, min(different, 2 * count), replace=False)
    flat = found.reshape(-1)
    flat[chosen] = np.where(flat[chosen] == 0, 1, flat[chosen] - 1)
    form = OutputForm("symbols", 1e-3, bits, packing, count)
    pair = [packed_by_hand(expected, bits, packing)], [packed_by_hand(found, bits, packing)]
    share = len(chosen) / (2 * count)
    if share <= 1e-3:
        (check,) = compare_outputs([form], *pair, "here")
        assert check["error"] == pytest.approx(share)
    else:
        with pytest.raises(CoopexportError, match=r"here: parity check 'build' failed: error .*the limit is 1e-03"):
            compare_outputs([form], *pair, "here")


@pytest.mark.parametrize(("expected", "found"), [(0, 2), (255, 0), (7, 5)])
def test_no_symbol_may_be_off_by_two(expected: int, found: int) -> None:
    golden = np.zeros((2, 5000), np.uint8)
    golden[1, 7] = expected
    other = golden.copy()
    other[1, 7] = found
    with pytest.raises(CoopexportError, match=f"a symbol differs by {abs(expected - found)} "):
        compare_outputs([OutputForm("symbols", 0.5, 8, "none", 5000)], [golden], [other], "here")


def test_numbers_are_compared_by_their_spread() -> None:
    golden = np.array([[0.0, 100.0], [4.0, 101.0]], np.float32)
    form = OutputForm("numbers", 1e-3)
    (check,) = compare_outputs([form], [golden], [golden + np.float32(0.0038)], "here")
    assert check["error"] == pytest.approx(0.95e-3, rel=1e-2)
    with pytest.raises(CoopexportError, match=r"error 2\.0\de-03"):
        compare_outputs([form], [golden], [golden + np.float32(0.008)], "here")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (np.zeros((2, 2), np.float64), "returns float64"),
        (np.zeros((2, 1), np.float32), r"of shape \(2, 1\)"),
        (np.full((2, 2), np.nan, np.float32), "not finite"),
        (np.full((2, 2), np.inf, np.float32), "not finite"),
    ],
)
def test_other_arrays_are_refused(found: np.ndarray, said: str) -> None:
    golden = np.array([[0, 1], [2, 3]], np.float32)
    with pytest.raises(CoopexportError, match=said):
        compare_outputs([OutputForm("numbers", 1e-3)], [golden], [found], "here")


def test_golden_data_that_show_nothing_are_refused() -> None:
    golden = np.full((4, 3), 7, np.float32)
    with pytest.raises(CoopexportError, match=r"vary by only 0\.0e"):
        compare_outputs([OutputForm("numbers", 1e-3)], [golden], [golden], "here")
    with pytest.raises(CoopexportError, match="the engine has 1 outputs, the golden data 2"):
        compare_outputs([OutputForm("numbers", 1e-3)] * 2, [golden] * 2, [golden], "here")


@given(st.integers(1, 30), st.integers(1, 40))
def test_batches_give_one_result_for_each_sample(count: int, batch: int) -> None:
    values = np.arange(2.0 * count).reshape(count, 2)

    def fixed_batch(arrays: list[np.ndarray]) -> list[np.ndarray]:
        assert arrays[0].shape == (batch, 2)
        return [arrays[0].sum(axis=1, keepdims=True), arrays[0]]

    sums, same = run_in_batches(fixed_batch, [values], batch)
    assert np.array_equal(sums, values.sum(axis=1, keepdims=True))
    assert np.array_equal(same, values)


@given(st.integers(1, 9), st.integers(1, 5))
def test_batches_hold_all_samples_in_their_order_and_the_last_one_again(count: int, batch: int) -> None:
    first, second = np.arange(2 * count).reshape(count, 2), -np.arange(count)
    groups = in_batches([first, second], batch)
    assert all([len(array) for array in group] == [batch, batch] for group in groups)
    for index, array in enumerate((first, second)):
        joined = np.concatenate([group[index] for group in groups])
        assert np.array_equal(joined[:count], array)
        assert (joined[count:] == array[-1]).all()
        assert len(joined) - count < batch
