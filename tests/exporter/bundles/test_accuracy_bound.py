"""Losses at the bound keep it, whatever a difference of two means makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.bundles.accuracy_bound import keeps_bound


@pytest.mark.parametrize("right", range(0, 980, 37))
def test_ten_images_in_a_thousand_are_a_point(right: int) -> None:
    def score(count: int) -> float:
        return float(np.mean(np.arange(1000) < count))

    assert keeps_bound(100 * (score(right + 10) - score(right)), 1.0)
    assert not keeps_bound(100 * (score(right + 11) - score(right)), 1.0)


def test_an_image_in_a_million_is_seen() -> None:
    assert not keeps_bound(1.0001, 1.0)
    assert keeps_bound(-3.0, 0.0)


def test_what_is_no_number_keeps_nothing() -> None:
    assert not keeps_bound(float("nan"), 100.0)
