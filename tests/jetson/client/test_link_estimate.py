"""Goodput and round trip from traffic: right within what it says of itself, and quick to see a change."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jetson.client.link_estimate import LinkEstimate

GOODPUTS = st.floats(1e5, 5e7)


def transit_ms(size_bytes, goodput_bps, round_trip_ms):
    return round_trip_ms + 8000.0 * size_bytes / goodput_bps


def fed(estimate, sizes, goodput_bps, round_trip_ms, noise=lambda: 0.0, from_s=0.0):
    for index, size in enumerate(sizes):
        estimate.observe(size, transit_ms(size, goodput_bps, round_trip_ms) + noise(), from_s + 0.05 * index)
    return from_s + 0.05 * len(sizes)


@given(GOODPUTS, st.floats(0.0, 200.0))
def test_without_noise_two_sizes_give_the_link(goodput_bps, round_trip_ms):
    estimate = LinkEstimate()
    fed(estimate, [170, 8400, 170, 8400], goodput_bps, round_trip_ms)
    state = estimate.state_at(0.2)
    assert state.goodput_bps == pytest.approx(goodput_bps, rel=1e-6)
    assert state.round_trip_ms == pytest.approx(round_trip_ms, abs=1e-6)


def test_one_size_says_nothing():
    estimate = LinkEstimate()
    fed(estimate, [170] * 20, 1e6, 10.0)
    assert estimate.state_at(1.0) is None


@settings(max_examples=50)
@given(st.floats(3e5, 2e7), st.floats(2.0, 50.0), st.integers(0, 10**6))
def test_the_truth_lies_in_the_interval_for_noise_of_half_a_millisecond(goodput_bps, round_trip_ms, seed):
    random_ = random.Random(seed)
    estimate = LinkEstimate()
    fed(estimate, [170, 8400] * 12, goodput_bps, round_trip_ms, lambda: abs(random_.gauss(0, 0.5)))
    state = estimate.state_at(1.2)
    wide = 1.5  # two standard errors of a one-sided noise are no bound for every draw
    assert state.low_bps / wide <= goodput_bps <= state.high_bps * wide


@pytest.mark.parametrize(("before_bps", "after_bps"), [(1.888e7, 1.1e6), (1.1e6, 1.888e7), (5.85e6, 1e5)])
def test_a_change_is_seen_within_ten_messages(before_bps, after_bps):
    estimate = LinkEstimate()
    at_s = fed(estimate, [170, 8400] * 12, before_bps, 10.0)
    fed(estimate, [170, 8400] * 5, after_bps, 10.0, from_s=at_s)
    assert estimate.state_at(at_s + 0.5).goodput_bps == pytest.approx(after_bps, rel=0.1)


def test_one_message_that_was_held_up_changes_little():
    estimate = LinkEstimate()
    fed(estimate, [170, 8400] * 8, 5.85e6, 10.0)
    estimate.observe(170, 400.0, 0.9)
    assert estimate.state_at(0.9).goodput_bps == pytest.approx(5.85e6, rel=0.05)


def test_what_is_old_is_less_sure():
    estimate = LinkEstimate()
    at_s = fed(estimate, [170, 8400] * 8, 5.85e6, 10.0)
    now, later = estimate.state_at(at_s), estimate.state_at(at_s + 30)
    assert later.goodput_bps == now.goodput_bps
    assert later.low_bps < now.low_bps / 2
    assert later.high_bps > now.high_bps * 2
