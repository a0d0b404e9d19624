"""The selector against loops that try every candidate: 2,000 random tables, ties, equal lines and extremes included."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest

from benchmarks.selection.selector import Candidate, Interval, LinkChoice, Options, select
from jetson.errors import InputError

TABLES = 2000
NO_BOUND = 1e9
# Coarse numbers tie often; extreme ones overflow and underflow in products.
TIMES = (0.0, 0.0, 1.0, 1.0, 2.0, 0.1, 0.2, 0.3, 7.25, 1e-9, 1e4)
SIZES = (0.0, 0.0, 1.0, 1.0, 125.0, 250.0, 1000.0, 1e-3, 1e7)
LOSSES = (-0.5, 0.0, 0.25, 0.25, 0.5, 1.0)
EXTREME = (0.0, 5e-324, 1e-300, 1e-160, 1.0, 1e160, 1e299, 3e299)
GOODPUTS = (1.0, 1e3, 8e3, 1e6, 8e6, 1.1e6, 1e9)
ROUND_TRIPS = (0.0, 0.0, 1.0, 30.0)


def tables() -> Iterator[tuple[np.random.Generator, list[Candidate]]]:
    rng = np.random.default_rng(20190310)
    for number in range(TABLES):
        count = int(rng.integers(1, 13))
        times, sizes = (EXTREME, EXTREME) if number % 10 == 0 else (TIMES, SIZES)
        drawn = number % 3 == 0 and number % 10 != 0  # any floats, and not only those that tie
        rows = []
        for _ in range(count):
            device, edge = (float(rng.choice(times)) * (rng.random() if drawn else 1.0) for _ in range(2))
            size = float(rng.choice(sizes)) * (rng.random() if drawn else 1.0)
            wire = size + float(rng.choice((0.0, 62.0))) if rng.random() < 0.3 and size else None
            rows.append(Candidate("v", "l", "c", size, device, edge, 0.9, float(rng.choice(LOSSES)), wire_bytes=wire))
        yield rng, rows


def crossing(item: Candidate) -> float:
    return item.payload_bytes if item.wire_bytes is None else item.wire_bytes


def time_ms(item: Candidate, goodput: float, round_trip: float) -> float:
    assert item.device_ms is not None and item.edge_ms is not None
    transmission = 1000.0 * 8.0 * crossing(item) / goodput + (round_trip if crossing(item) > 0 else 0.0)
    return item.device_ms + transmission + item.edge_ms


def exact_ms(item: Candidate, goodput: float, round_trip: float) -> Fraction:
    """Return the latency in rational numbers, of the sum of both computations as a float."""
    assert item.device_ms is not None and item.edge_ms is not None
    fixed = item.device_ms + item.edge_ms
    fixed = fixed + round_trip if crossing(item) > 0 and round_trip else fixed
    return Fraction(fixed) + Fraction(8000.0 * crossing(item)) / Fraction(goodput)


def inside(intervals: tuple[Interval, ...]) -> Iterator[tuple[float, Interval]]:
    """Return goodputs that lie well within each interval, so that the rounding of a switch point decides nothing."""
    for one in intervals:
        low, high = max(one.from_bps, 1e-200), min(one.upto_bps or max(one.from_bps, 1.0) * 1e6, 1e300)
        if high > low * (1 + 1e-9):
            for share in (1e-3, 0.7):
                yield math.exp(math.log(low) + share * (math.log(high) - math.log(low))), one


def check_cover(intervals: tuple[Interval, ...]) -> None:
    assert intervals[0].from_bps == 0.0
    assert intervals[-1].upto_bps is None
    assert [one.upto_bps for one in intervals[:-1]] == [one.from_bps for one in intervals[1:]]
    assert all(one.upto_bps is None or one.from_bps < one.upto_bps for one in intervals)


def test_the_fastest_within_the_accuracy_bound() -> None:
    for rng, candidates in tables():
        bound, round_trip = float(rng.choice((0.25, NO_BOUND))), float(rng.choice(ROUND_TRIPS))
        goodput = float(rng.choice(GOODPUTS))
        allowed = [i for i, item in enumerate(candidates) if item.loss_points <= bound]
        if not allowed:
            with pytest.raises(InputError, match="no candidate keeps"):
                select(candidates, {"link": goodput}, bound)
            continue
        result = select(candidates, {"link": goodput}, bound, Options(round_trip_ms=round_trip))
        best, best_key = -1, (math.inf, math.inf)
        for i in allowed:
            key = (time_ms(candidates[i], goodput, round_trip), candidates[i].loss_points)
            if key < best_key:
                best, best_key = i, key
        assert (result.links[0].candidate, result.links[0].latency_ms) == (best, best_key[0])

        check_cover(result.intervals)
        for at, one in inside(result.intervals):
            least = min(exact_ms(candidates[i], at, round_trip) for i in allowed)
            ties = [i for i in allowed if exact_ms(candidates[i], at, round_trip) == least]
            assert one.candidate in ties
            # Lines that are the same: the least loss, then the first.
            chosen = candidates[one.candidate]
            same = [
                i for i in ties if exact_ms(candidates[i], 2 * at, round_trip) == exact_ms(chosen, 2 * at, round_trip)
            ]
            assert one.candidate == min(same, key=lambda i: (candidates[i].loss_points, i))


def test_the_most_accurate_within_the_latency_bound() -> None:
    reached = 0
    for rng, candidates in tables():
        round_trip, goodput = float(rng.choice(ROUND_TRIPS)), float(rng.choice(GOODPUTS))
        bound_ms = float(rng.choice((1.0, 2.0, 7.25, 40.0, 1e160)))
        times = [time_ms(item, goodput, round_trip) for item in candidates]
        within = [i for i, ms in enumerate(times) if ms <= bound_ms]
        options = Options(maximum_latency_ms=bound_ms, round_trip_ms=round_trip)
        nearest = min(range(len(times)), key=lambda i: (times[i], candidates[i].loss_points, i))
        if not within:
            with pytest.raises(InputError, match="no candidate takes at most") as caught:
                select(candidates, {"link": goodput}, NO_BOUND, options)
            assert f"takes {times[nearest]:.3f} ms" in str(caught.value)
            continue
        reached += 1
        result = select(candidates, {"link": goodput, "fast": 1e12}, NO_BOUND, options)
        best = min(within, key=lambda i: (candidates[i].loss_points, times[i], i))
        assert result.links[0] == LinkChoice("link", goodput, best, times[best], round_trip)

        check_cover(result.intervals)
        starts = result.envelopes[0].bound_from_bps
        for at, one in inside(result.intervals):
            ms = [time_ms(item, at, round_trip) for item in candidates]
            keeping = [i for i, value in enumerate(ms) if value <= bound_ms]
            chosen = one.candidate
            if starts is None or at < starts:
                assert not [i for i in keeping if ms[i] < bound_ms * (1 - 1e-9)]
                assert ms[chosen] == pytest.approx(min(ms), rel=1e-9)
                continue
            assert ms[chosen] <= bound_ms * (1 + 1e-12)
            sure = [i for i in keeping if ms[i] < bound_ms * (1 - 1e-9)]
            assert candidates[chosen].loss_points <= min((candidates[i].loss_points for i in sure), default=math.inf)
            alike = [ms[i] for i in keeping if candidates[i].loss_points == candidates[chosen].loss_points]
            assert ms[chosen] <= min(alike, default=math.inf) * (1 + 1e-9)
    assert reached > TABLES / 4


def test_the_least_percentile_of_latency_over_samples_of_the_goodput() -> None:
    for rng, candidates in tables():
        samples = [float(rng.choice(GOODPUTS)) * float(rng.choice((1.0, rng.random() + 0.1))) for _ in range(6)]
        samples = samples[: int(rng.integers(1, 7))]
        percentile, round_trip = float(rng.choice((5.0, 50.0, 90.0, 95.0, 99.0, 100.0))), float(rng.choice(ROUND_TRIPS))
        options = Options(goodput_samples_bps=tuple(samples), latency_percentile=percentile, round_trip_ms=round_trip)
        (choice,) = select(candidates, {}, NO_BOUND, options).links
        keys = []
        for i, item in enumerate(candidates):
            ordered = sorted(time_ms(item, sample, round_trip) for sample in samples)
            share = next(ms for n, ms in enumerate(ordered, 1) if 100 * n >= percentile * len(ordered))
            keys.append((share, item.loss_points, i))
        assert (choice.latency_ms, choice.candidate) == (min(keys)[0], min(keys)[2])


@pytest.mark.parametrize("percent", [0.0, 5.0, 40.0])
def test_a_choice_is_held_just_where_it_is_within_the_margin(percent: float) -> None:
    margin = 1 + percent / 100
    for number, (rng, candidates) in enumerate(tables()):
        if number % 10 in (0, 1, 2, 4, 5):
            continue  # extremes, and half of the rest
        round_trip = float(rng.choice(ROUND_TRIPS))
        options = Options(round_trip_ms=round_trip, hysteresis_percent=percent)
        intervals = select(candidates, {"link": 1e6}, NO_BOUND, options).intervals
        for one in intervals:
            upto = math.inf if one.stay_upto_bps is None else one.stay_upto_bps
            assert one.stay_from_bps <= one.from_bps
            assert one.upto_bps is None or one.upto_bps <= upto
            for at in (*(other.from_bps for other in intervals[1:]), 10 ** rng.uniform(2, 9), upto, one.stay_from_bps):
                for goodput in (at * (1 - 1e-6), at * (1 + 1e-6)):
                    if not 1e-6 < goodput < 1e15:
                        continue
                    least = min(time_ms(item, goodput, round_trip) for item in candidates)
                    over = time_ms(candidates[one.candidate], goodput, round_trip) / least if least else 1.0
                    if one.stay_from_bps < goodput < upto:
                        assert over <= margin * (1 + 1e-9)
                    else:
                        assert over >= margin * (1 - 1e-9)


def test_a_choice_within_the_latency_bound_is_held_until_a_more_accurate_one_keeps_it_with_margin() -> None:
    margin, switched = 1.1, 0
    for number, (rng, candidates) in enumerate(tables()):
        if number % 10 in (0, 1, 2, 4, 5):
            continue  # extremes, and half of the rest
        bound_ms = float(rng.choice((1.0, 2.0, 7.25, 40.0)))
        options = Options(maximum_latency_ms=bound_ms, hysteresis_percent=10.0)
        (envelope,) = select(candidates, {}, NO_BOUND, options).envelopes
        starts_bps = math.inf if envelope.bound_from_bps is None else envelope.bound_from_bps
        borders = [one.from_bps for one in envelope.intervals[1:]]
        for one in envelope.intervals:
            upto = math.inf if one.stay_upto_bps is None else one.stay_upto_bps
            for goodput in (*(at * factor for at in borders for factor in (0.95, 1.05, 1.2)), 10 ** rng.uniform(2, 9)):
                if not one.stay_from_bps < goodput < upto:
                    continue
                if goodput >= margin * starts_bps:
                    assert time_ms(candidates[one.candidate], goodput, 0.0) <= bound_ms * (1 + 1e-9)
                slower = goodput / margin
                for item in candidates:
                    if item.loss_points < candidates[one.candidate].loss_points and slower >= starts_bps:
                        assert time_ms(item, slower, 0.0) >= bound_ms * (1 - 1e-9)
        for border in borders:
            goodputs = [border * (1.01 if step % 2 else 0.99) for step in range(6)]
            changes = followed(envelope.intervals, goodputs)
            assert changes <= 1
            switched += len(borders)
    assert switched > 100


def followed(intervals: tuple[Interval, ...], goodputs: list[float]) -> int:
    """Return how often the choice changes along some goodputs, read off the intervals one by one."""
    current, changes = intervals[0], 0
    for step, goodput in enumerate(goodputs):
        stays = current.stay_from_bps <= goodput and (current.stay_upto_bps is None or goodput < current.stay_upto_bps)
        if step and stays:
            continue
        found = next(one for one in intervals if one.upto_bps is None or goodput < one.upto_bps)
        changes += step > 0 and found is not current
        current = found
    return changes


def test_loads_scale_the_times_of_their_machine() -> None:
    for number, (rng, candidates) in enumerate(tables()):
        if number % 20 != 1:
            continue
        loads = {"busy": float(rng.choice((1.5, 4.0)))}, {"full": float(rng.choice((2.0, 9.0)))}
        options = Options(device_loads=loads[0], edge_loads=loads[1])
        found = select(candidates, {"link": 1e6}, NO_BOUND, options).envelopes
        assert [(one.device_load, one.edge_load) for one in found] == [
            ("idle", "idle"), ("idle", "full"), ("busy", "idle"), ("busy", "full"),
        ]  # fmt: skip
        for one in found:
            device, edge = loads[0].get(one.device_load, 1.0), loads[1].get(one.edge_load, 1.0)
            for at, interval in inside(one.intervals):
                times = []
                for item in candidates:
                    assert item.device_ms is not None and item.edge_ms is not None
                    times.append(item.device_ms * device + item.edge_ms * edge + 8000 * crossing(item) / at)
                assert times[interval.candidate] == pytest.approx(min(times), rel=1e-9, abs=1e-300)
