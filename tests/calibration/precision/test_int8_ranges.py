"""Ranges: what each method promises, on distributions where one can tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.precision.activations import BINS, MagnitudeHistogram
from calibration.precision.int8_ranges import RangeSettings, int8_ranges
from jetson.errors import CoopexportError


def histogram(values: np.ndarray) -> MagnitudeHistogram:
    magnitudes = np.abs(values.reshape(-1)).astype(np.float64)
    largest = float(magnitudes.max())
    counts, _ = np.histogram(magnitudes[magnitudes > 0], bins=BINS, range=(0, largest or 1))
    return MagnitudeHistogram(largest, counts.astype(np.float64), int((magnitudes == 0).sum()))


def chosen(values: np.ndarray, method: str, percentile: float = 99.99) -> float:
    return int8_ranges({"t": histogram(values)}, RangeSettings(method, percentile))["t"]  # type: ignore[arg-type]


def squared_error(values: np.ndarray, largest: float) -> float:
    scale = largest / 127
    return float(np.mean((np.clip(np.rint(values / scale), -128, 127) * scale - values) ** 2))


@given(st.integers(0, 2**32 - 1), st.sampled_from(["normal", "laplace", "rectified"]), st.floats(50.5, 100))
def test_methods_keep_their_promises(seed: int, kind: str, percentile: float) -> None:
    generator = np.random.default_rng(seed)
    values = generator.laplace(size=20_000) if kind == "laplace" else generator.standard_normal(20_000)
    if kind == "rectified":
        values = np.maximum(values, 0)
    largest = float(np.abs(values).max())
    assert chosen(values, "minmax") == largest
    width, wanted = largest / BINS, (100 - percentile) / 100
    found = chosen(values, "percentile", percentile)
    above, near = (float((np.abs(values) > found + shift).mean()) for shift in (width, -2 * width))
    # Between two values that are far apart, each number keeps the same share of them.
    one = 1 / values.size
    assert (above <= wanted + one and near >= wanted - one) or (
        np.percentile(values, percentile) <= 0 and found == largest
    )
    for method in ("entropy", "mse"):
        assert 0.01 * largest <= chosen(values, method) <= largest * (1 + 1e-6)


@pytest.mark.parametrize("kind", ["normal", "laplace", "heavy"])
def test_mse_loses_no_more_than_any_other_range(kind: str) -> None:
    generator = np.random.default_rng(3)
    values = {"normal": generator.standard_normal(50_000), "laplace": generator.laplace(size=50_000),
              "heavy": generator.standard_t(3, 50_000)}[kind]  # fmt: skip
    least = squared_error(values, chosen(values, "mse"))
    largest = np.abs(values).max()
    assert least <= 1.02 * min(squared_error(values, largest * share) for share in np.linspace(0.01, 1, 200))


def test_one_outlier_ruins_the_extremes_alone() -> None:
    values = np.random.default_rng(0).standard_normal(100_000)
    values[17] = 1000.0
    assert chosen(values, "minmax") == 1000.0
    for method in ("percentile", "entropy"):
        assert chosen(values, method) < 25
    assert chosen(values, "mse") <= 1000.0


def test_a_tensor_of_zeros_has_no_range_and_one_that_is_nearly_so_keeps_what_it_has() -> None:
    assert chosen(np.zeros(100), "entropy") == 0.0
    values = np.zeros(1_000_000)
    values[5] = 2.5
    assert chosen(values, "percentile") == 2.5


@pytest.mark.parametrize(
    ("method", "percentile", "said"), [("best", 99.0, '"best" is unknown'), ("percentile", 50.0, "not above 50")]
)
def test_wrong_settings_are_refused(method: str, percentile: float, said: str) -> None:
    with pytest.raises(CoopexportError, match=said):
        RangeSettings(method, percentile)  # type: ignore[arg-type]
