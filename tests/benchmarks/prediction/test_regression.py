"""The regression finds what times were made of, says how wrong it is, and refuses what it cannot know."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from drawn_cells import cells_of, drawn_chain, kernel
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from benchmarks.prediction.columns import FEW, MANY, columns_for, matrix_of
from benchmarks.prediction.kernels import Kernel
from benchmarks.prediction.regression import Measured, fit, leave_one_cut_out
from jetson.errors import InputError

# Milliseconds: per call, per MAC and kernel of a convolution, per MAC of a depthwise one, per byte moved by the rest.
Planted = tuple[float, float, float, float, float]
_MOVING = ("pooling layer", "elementwise operator", "encoding", "decoding")


def rule(planted: Planted) -> Callable[[Sequence[Kernel]], float]:
    call, mac, start, depthwise, byte = planted

    def time_ms(kernels: Sequence[Kernel]) -> float:
        total = call
        for item in kernels:
            if item.kind == "convolution":
                total += mac * item.macs + start
            elif item.kind == "depthwise convolution":
                total += depthwise * item.macs
            elif item.kind in _MOVING:
                total += byte * item.moved_bytes
        return total

    return time_ms


planted_prices = st.tuples(
    st.floats(1e-3, 0.1),
    *(st.one_of(st.just(0.0), st.floats(least, most)) for least, most in [(1e-8, 1e-6), (1e-3, 0.05), (1e-8, 1e-6)]),
    st.floats(1e-8, 1e-6),
)


@settings(max_examples=40, deadline=None)
@given(planted_prices, st.integers(0, 1000))
def test_planted_prices_are_found(planted: Planted, seed: int) -> None:
    generator = np.random.default_rng(seed)
    model = fit(cells_of(drawn_chain(generator, 16), rule(planted)))
    other = drawn_chain(generator, 9)
    assert model.ms(other) == pytest.approx(rule(planted)(other), rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_noise_of_three_percent_stays_a_few_percent(seed: int) -> None:
    generator = np.random.default_rng(seed)
    time_ms = rule((0.02, 2e-7, 0.01, 4e-7, 3e-7))
    cells = cells_of(drawn_chain(generator, 16), lambda kernels: time_ms(kernels) * generator.normal(1.0, 0.03))
    errors = np.abs(leave_one_cut_out(cells))
    assert 0.001 < np.nanmedian(errors) < 0.06
    # The same without what convolutions compute: the errors see that something is missing.
    poorer = [column for column in MANY if column.quantity != "macs"]
    assert np.nanmedian(np.abs(leave_one_cut_out(cells, poorer))) > 2 * np.nanmedian(errors)


def test_errors_are_those_of_fits_without_the_cut() -> None:
    generator = np.random.default_rng(5)
    time_ms = rule((0.02, 2e-7, 0.01, 4e-7, 3e-7))
    chains = [drawn_chain(generator, 10), drawn_chain(generator, 10)]
    cells = [cell for chain in chains for cell in cells_of(chain, lambda k: time_ms(k) * generator.normal(1.0, 0.1))]
    columns = columns_for([cell.kernels for cell in cells])
    errors = leave_one_cut_out(cells)
    for cell, error in zip(cells, errors, strict=True):
        others = [item for item in cells if item.cut != cell.cut]  # of both chains
        matrix = matrix_of(columns, [item.kernels for item in others])
        scale = matrix.max(axis=0)
        weighted = matrix / np.where(scale > 0, scale, 1) / np.array([[item.ms] for item in others])
        prices, _ = nnls(weighted, np.ones(len(others)), maxiter=1000)
        predicted = matrix_of(columns, [cell.kernels])[0] / np.where(scale > 0, scale, 1) @ prices
        assert error == pytest.approx(predicted / cell.ms - 1.0, abs=1e-6)


def test_a_kind_that_only_one_cut_has_gets_no_error() -> None:
    generator = np.random.default_rng(1)
    time_ms = rule((0.02, 2e-7, 0.01, 4e-7, 3e-7))
    cells = cells_of(drawn_chain(generator), time_ms)
    cells.append(Measured("other", "tail", (*cells[1].kernels, kernel("normalisation", moved_bytes=10)), 1.0))
    errors = leave_one_cut_out(cells)
    assert np.isnan(errors[-1]) and np.isfinite(errors[:-1]).all()


def test_few_cells_share_one_price_for_moving_data() -> None:
    cells = cells_of(drawn_chain(np.random.default_rng(2), 16), rule((0.02, 2e-7, 0.01, 4e-7, 3e-7)))
    kernels = [cell.kernels for cell in cells]
    assert set(columns_for(kernels)) <= set(MANY)
    assert set(columns_for(kernels[:9])) <= set(FEW)
    assert len(columns_for(kernels[:9])) < len(columns_for(kernels))


def test_what_was_never_measured_is_named() -> None:
    cells = cells_of(drawn_chain(np.random.default_rng(2)), rule((0.02, 2e-7, 0.01, 4e-7, 3e-7)))
    model = fit(cells)
    assert model.missing([kernel("product of features"), kernel(), kernel("normalisation")]) == (
        "product of features", "normalisation",
    )  # fmt: skip
    assert model.missing(cells[3].kernels) == ()


def test_more_work_than_any_cell_is_told() -> None:
    cells = cells_of(drawn_chain(np.random.default_rng(2)), rule((0.02, 2e-7, 0.01, 4e-7, 3e-7)))
    model = fit(cells)
    assert all(model.beyond(cell.kernels) <= 1.0 for cell in cells)
    whole = cells[0].kernels
    assert model.beyond((*whole, *whole, *whole)) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ([], "too few times were measured .*: 0 of heads, tails and whole networks, at 0 cuts"),
        ([0, 1, 2], ": 3 of heads, tails and whole networks, at 2 cuts; it takes 8 at 3 cuts"),
        ([0, 1, 3, 5], ": 4 of heads, tails and whole networks, at 4 cuts; it takes 8 at 3 cuts"),
    ],
)
def test_too_few_cells_are_refused(chosen: list[int], words: str) -> None:
    cells = cells_of(drawn_chain(np.random.default_rng(2)), rule((0.02, 2e-7, 0.01, 4e-7, 3e-7)))
    with pytest.raises(InputError, match=words) as refused:
        fit([cells[index] for index in chosen])
    assert refused.value.fix is not None and "coopexport bench" in refused.value.fix
