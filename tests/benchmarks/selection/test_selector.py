"""The selector: the latency model, the bound, the lower envelope, and the published measurements."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from benchmarks.selection.selector import INPUT, OUTPUT, Candidate, Interval, latency_ms, select
from jetson.errors import CoopexportError

PUBLISHED = json.loads((Path(__file__).parents[2] / "data" / "two_step_pruning.json").read_text(encoding="utf-8"))
EXPECTED = PUBLISHED["expected"]
LINKS = {"3G": 1.1e6, "4G": 5.85e6, "WiFi": 18.88e6}
INPUT_BYTES = 3072
NO_BOUND = 1e9


def intervals_of(candidates: list[Candidate]) -> tuple[Interval, ...]:
    return select(candidates, LINKS, NO_BOUND).intervals


def candidate(payload_bytes=0.0, device_ms=0.0, edge_ms=0.0, loss_points=0.0, **others):
    others = {"variant": "v", "layer": "l", "coding": "c", "metric": 0.9, **others}
    return Candidate(
        payload_bytes=payload_bytes, device_ms=device_ms, edge_ms=edge_ms, loss_points=loss_points, **others
    )


# --- The latency model ---


def test_a_thousand_bytes_at_8_mbit_per_second_take_1_ms():
    assert latency_ms(candidate(1000.0), 8e6) == 1.0


def test_the_three_terms_are_added():
    assert latency_ms(candidate(1000.0, device_ms=10.0, edge_ms=0.5), 8e6) == 11.5


def test_what_crosses_nothing_does_not_depend_on_the_link():
    assert latency_ms(candidate(0.0, device_ms=3.0), 1.0) == latency_ms(candidate(0.0, device_ms=3.0), 1e12) == 3.0


@pytest.mark.parametrize("missing", ["device_ms", "edge_ms"])
def test_an_unknown_time_has_no_latency(missing):
    with pytest.raises(ValueError, match="not known"):
        latency_ms(replace(candidate(1000.0), **{missing: None}), 8e6)


# --- The bound, and what is left out ---


def test_a_candidate_over_the_bound_is_left_out_with_its_loss_and_the_bound():
    result = select([candidate(loss_points=1.26, edge_ms=1.0), candidate(loss_points=0.5, edge_ms=2.0)], LINKS, 1.0)
    assert [item.reason for item in result.candidates] == ["loses 1.26 points, the limit is 1", ""]
    assert {choice.candidate for choice in result.links} == {1}
    assert [interval.candidate for interval in result.intervals] == [1]


def test_a_loss_of_exactly_the_bound_is_allowed_although_means_are_not_exact():
    loss = 100.0 * (0.98 - 0.97)
    assert loss > 1.0  # the difference of two floats
    assert select([candidate(loss_points=loss)], LINKS, 1.0).candidates[0].reason == ""


@pytest.mark.parametrize(
    "missing",
    [
        {"device_ms": None},
        {"edge_ms": None},
        {"device_ms": math.nan},
        {"edge_ms": math.inf},
        {"payload_bytes": math.nan},
        {"loss_points": math.nan},
    ],
)
def test_a_missing_measurement_is_a_reason_and_never_a_number(missing):
    unknown = replace(candidate(1.0, edge_ms=0.001), **missing)
    result = select([unknown, candidate(1e6, device_ms=100.0, edge_ms=100.0)], LINKS, NO_BOUND)
    assert result.candidates[0].reason == "not measured"
    assert {choice.candidate for choice in result.links} == {1}
    assert [interval.candidate for interval in result.intervals] == [1]


def test_a_reason_that_was_there_stays():
    result = select([candidate(reason="stale", loss_points=50.0, device_ms=None), candidate()], LINKS, 1.0)
    assert result.candidates[0].reason == "stale"


def test_no_candidate_left_is_an_error_with_the_reasons():
    with pytest.raises(CoopexportError, match=r"keeps 1 points: the nearest, .*, loses 2\.00; .*stale") as caught:
        select([candidate(reason="stale"), candidate(reason="stale"), candidate(loss_points=2.0)], LINKS, 1.0)
    assert str(caught.value).count("stale") == 1
    with pytest.raises(CoopexportError, match="no candidates"):
        select([], LINKS, 1.0)


def test_of_two_that_are_the_same_the_more_accurate_one_is_chosen_everywhere():
    same = [candidate(100.0, 1.0, 1.0, loss_points=loss) for loss in (0.7, 0.2, 0.4)]
    slower = candidate(0.0, 50.0, 0.0)
    result = select([*same, slower], LINKS, 1.0)
    assert {choice.candidate for choice in result.links} == {1}
    assert [interval.candidate for interval in result.intervals] == [3, 1]


# --- The lower envelope ---

TIMES = st.floats(0.0, 1e4).map(lambda value: round(value, 4))
BYTES = st.one_of(st.just(0.0), st.integers(1, 10**7).map(float), st.floats(1.0, 1e6))
LOSSES = st.integers(0, 200).map(lambda value: value / 100)
CANDIDATES = st.lists(st.builds(candidate, BYTES, TIMES, TIMES, LOSSES), min_size=1, max_size=12)
GOODPUTS = st.floats(1.0, 1e12)


def test_two_candidates_change_where_their_lines_cross():
    # 10 ms on the device, or 1000 bytes and 2 ms: equal at 8 ms for 1000 bytes, 1 Mbit/s.
    intervals = intervals_of([candidate(0.0, 10.0), candidate(1000.0, 2.0)])
    assert [(item.from_bps, item.upto_bps, item.candidate) for item in intervals] == [(0.0, 1e6, 0), (1e6, None, 1)]


@given(CANDIDATES, st.lists(GOODPUTS, min_size=1, max_size=8))
def test_the_envelope_is_the_least_latency_at_every_goodput(candidates, goodputs):
    intervals = intervals_of(candidates)
    for goodput in goodputs:
        inside = [i for i in intervals if i.from_bps <= goodput and (i.upto_bps is None or goodput < i.upto_bps)]
        assert len(inside) == 1
        least = min(latency_ms(item, goodput) for item in candidates)
        assert latency_ms(candidates[inside[0].candidate], goodput) == pytest.approx(least, rel=1e-9)


@given(CANDIDATES)
# All lines meet in one point: rounding must not make an interval of nothing, or an inverted one.
@example([candidate(4 - n, 0.0, n / 10 + 0.15222079704882321) for n in range(4)])
@example([candidate(33.3 * (6 - n), 0.0, n / 10 + 1.9321428906472315) for n in range(6)])
def test_the_intervals_tile_all_goodputs_without_gaps(candidates):
    intervals = intervals_of(candidates)
    assert intervals[0].from_bps == 0.0
    assert intervals[-1].upto_bps is None
    for before, after in itertools.pairwise(intervals):
        assert before.upto_bps == after.from_bps
        # More goodput: more bytes, less computation.
        assert candidates[before.candidate].payload_bytes < candidates[after.candidate].payload_bytes
    for interval in intervals:
        assert interval.upto_bps is None or interval.from_bps < interval.upto_bps < math.inf


@given(CANDIDATES, GOODPUTS, LOSSES)
def test_links_agree_with_the_intervals_and_with_brute_force(candidates, goodput, bound):
    allowed = [i for i, item in enumerate(candidates) if item.loss_points <= bound]
    assume(allowed)
    result = select(candidates, {"link": goodput}, bound)
    choice = result.links[0]
    assert choice.latency_ms == min(latency_ms(candidates[i], goodput) for i in allowed)
    assert choice.latency_ms == latency_ms(candidates[choice.candidate], goodput)
    assert choice.candidate in allowed
    assert {interval.candidate for interval in result.intervals} <= set(allowed)


# --- The published measurements (Shi et al. 2019) ---


def of_variant(name, slowdown=5.0, bytes_per_element=1, with_input=True):
    """Return the candidates of a network of the paper: full offload where allowed, and all 18 cuts.

    Of the 18 models of step 2 each may be cut at its own layer only.
    """
    table = PUBLISHED[name]
    total = table["cum_ms"][-1]

    def cut(split):
        before = table["cum_ms"][split] if split >= 0 else 0.0
        size = table["bytes"][split] if split >= 0 else INPUT_BYTES
        accuracy = table["acc"][max(split, 0)]
        return Candidate(
            variant=name,
            layer=str(split) if split >= 0 else INPUT,
            coding="raw",
            payload_bytes=float(bytes_per_element * size),
            device_ms=slowdown * before,
            edge_ms=total - before,
            metric=accuracy / 100.0,
            loss_points=PUBLISHED["original"]["acc"][0] - accuracy,
        )

    return [cut(split) for split in range(-1 if with_input and name != "step2" else 0, 18)]


def networks(which, **options):
    names = {"orig": ["original"], "s1": ["step1"], "s1+2": ["step1", "step2"], "all": ["original", "step1", "step2"]}
    return [item for name in names[which] for item in of_variant(name, **options)]


def split_of(item):
    return -1 if item.layer == INPUT else int(item.layer)


SCENARIOS = {"A": {}, "B_no_input": {"with_input": False}, "C_fp32": {"bytes_per_element": 4}}


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("which", ["orig", "s1", "s1+2"])
def test_the_published_selections_are_reproduced(scenario, which):
    result = select(networks(which, **SCENARIOS[scenario]), LINKS, NO_BOUND)
    for choice in result.links:
        expected = EXPECTED[scenario][choice.link][which]
        chosen = result.candidates[choice.candidate]
        assert choice.latency_ms == pytest.approx(expected["ms"], abs=5.1e-5)
        assert (split_of(chosen), chosen.payload_bytes) == (expected["split"], expected["bytes"])


@pytest.mark.parametrize("key", [key for key in EXPECTED["unrestricted"] if key != "what"])
def test_the_published_selections_with_step_2_models_fully_offloaded(key):
    scenario, link = key.split("/")
    options = SCENARIOS[scenario]
    size = INPUT_BYTES * options.get("bytes_per_element", 1)
    total = PUBLISHED["step2"]["cum_ms"][-1]
    offloaded = candidate(float(size), 0.0, total, variant="step2", layer=INPUT)
    result = select([*networks("s1+2", **options), offloaded], {link: LINKS[link]}, NO_BOUND)
    assert result.links[0].latency_ms == pytest.approx(EXPECTED["unrestricted"][key], abs=5.1e-5)


@pytest.mark.parametrize("tolerance", [key for key in EXPECTED["accuracy_tolerance"] if key != "what"])
def test_the_published_selections_under_an_accuracy_bound(tolerance):
    result = select(networks("all"), LINKS, float(tolerance))
    for choice in result.links:
        expected = EXPECTED["accuracy_tolerance"][tolerance][choice.link]
        chosen = result.candidates[choice.candidate]
        assert choice.latency_ms == pytest.approx(expected["ms"], abs=5.1e-5)
        assert (chosen.variant, split_of(chosen)) == (expected["model"], expected["split"])
        assert chosen.payload_bytes == expected["bytes"]
        assert 100.0 * chosen.metric == pytest.approx(expected["acc"])


def test_the_published_switch_points():
    expected = PUBLISHED["expected_switch_points"]
    result = select(networks("all"), LINKS, NO_BOUND)
    best = [result.candidates[interval.candidate] for interval in result.intervals]
    assert [[item.variant, split_of(item)] for item in best] == expected["best"]
    switches = [interval.from_bps / 1e6 for interval in result.intervals[1:]]
    assert switches == pytest.approx(expected["switch_mbps"], rel=5e-3)


@pytest.mark.parametrize("slowdown", [key for key in PUBLISHED["expected_gain_by_device_slowdown"] if key != "what"])
def test_the_published_gains_for_other_devices(slowdown):
    before = select(networks("orig", slowdown=float(slowdown)), LINKS, NO_BOUND)
    after = select(networks("s1+2", slowdown=float(slowdown)), LINKS, NO_BOUND)
    gains = [round(b.latency_ms / a.latency_ms, 1) for b, a in zip(before.links, after.links, strict=True)]
    assert gains == PUBLISHED["expected_gain_by_device_slowdown"][slowdown]


def test_the_device_alone_is_a_candidate_like_any_other():
    alone = candidate(0.0, 12.0, 0.0, variant="step1", layer=OUTPUT)
    result = select([*networks("s1"), alone], LINKS, NO_BOUND)
    assert [result.candidates[choice.candidate].layer for choice in result.links] == [OUTPUT, INPUT, INPUT]
