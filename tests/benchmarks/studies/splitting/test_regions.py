"""Which way is fastest: sums that can be done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ways import DEVICE, EDGE, FEATURE, SPLIT

from benchmarks.figures.ways import way_of
from benchmarks.studies.splitting.regions import fastest

ALL = (DEVICE, EDGE, SPLIT, FEATURE)


def test_times_are_the_devices_the_links_and_the_edges() -> None:
    # 1 Mbit/s is 8 us a byte.
    found = fastest(ALL, assumed_slowdown=5, slowdown=5, goodput_bps=1e6)
    assert found.split is SPLIT
    assert found.split_ms == pytest.approx(1 + 1.6 + 2)
    assert found.competitor is DEVICE
    assert found.competitor_ms == 10
    assert found.gain == pytest.approx(10 / 4.6)
    assert found.way == "split"


def test_a_slower_device_and_a_faster_link_favour_the_edge() -> None:
    found = fastest(ALL, assumed_slowdown=5, slowdown=50, goodput_bps=1e9)
    assert (found.way, way_of(found.competitor)) == ("edge", "edge")
    assert found.competitor_ms == pytest.approx(5 + 0.008 + 2)
    assert found.gain < 1


def test_a_fast_device_or_a_slow_link_favours_the_device() -> None:
    assert fastest(ALL, 5, 1, 1e6).way == "device"
    assert fastest(ALL, 5, 5, 1e4).way == "device"


def test_splits_may_be_left_out_and_what_loses_too_much_is() -> None:
    found = fastest(ALL, 5, 5, 1e6, lambda one: one.variant == "original")
    assert found.split is FEATURE
    assert found.split_ms == pytest.approx(1 + 4.8 + 2)
    none = fastest(ALL[:2], 5, 5, 1e6)
    assert (none.split, none.way, none.gain) == (None, "device", 0)
    lossy = replace(SPLIT, reason="loses 2 points, the limit is 1")
    assert fastest((*ALL[:2], lossy), 5, 5, 1e6).split is None
    with pytest.raises(ValueError, match="empty"):
        fastest((replace(DEVICE, reason="no"), lossy), 5, 5, 1e6)
