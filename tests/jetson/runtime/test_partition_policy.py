"""The plan as a device reads it: the right candidate at every goodput, and no malformed file."""

import ast
import itertools
import json
import math
from dataclasses import asdict
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jetson.runtime.partition_policy
from benchmarks.selection.selector import Candidate, Options, latency_ms, select
from jetson.errors import CoopexportError
from jetson.files.json_files import write_json
from jetson.runtime.partition_policy import (
    SCHEMA,
    Interval,
    choose,
    choose_position,
    envelope_at,
    held,
    read_partition_policy,
)

INTERVALS = [
    {"from_bps": 0.0, "upto_bps": 1e6, "candidate": 2},
    {"from_bps": 1e6, "upto_bps": 4e6, "candidate": 0},
    {"from_bps": 4e6, "upto_bps": None, "candidate": 1},
]
CANDIDATES = [{"layer": "conv4_1"}, {"layer": "input"}, {"layer": "output"}]


def written(folder, **changes):
    """Write a plan with `changes`; a value of None leaves the key out."""
    content = {"intervals": INTERVALS, "candidates": CANDIDATES, "links": [], **changes}
    path = folder / "plan.json"
    write_json(str(path), SCHEMA, {key: value for key, value in content.items() if value is not None})
    return path


def refusal(path):
    with pytest.raises(CoopexportError) as caught:
        read_partition_policy(str(path))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "goodput_bps, candidate",
    [
        (5e-324, 2),
        (1.0, 2),
        (math.nextafter(1e6, 0), 2),
        (1e6, 0),
        (math.nextafter(1e6, math.inf), 0),
        (math.nextafter(4e6, 0), 0),
        (4e6, 1),
        (1e300, 1),
        (math.inf, 1),
    ],
)
def test_choose_below_at_and_above_switch_points(tmp_path, goodput_bps, candidate):
    assert choose(read_partition_policy(str(written(tmp_path))), goodput_bps) == candidate


@pytest.mark.parametrize("goodput_bps", [0, -1.0, math.nan, -math.inf])
def test_a_goodput_that_is_none_is_refused(tmp_path, goodput_bps):
    with pytest.raises(CoopexportError, match="positive"):
        choose(read_partition_policy(str(written(tmp_path))), goodput_bps)


def test_the_plan_holds_what_the_file_says(tmp_path):
    plan = read_partition_policy(str(written(tmp_path, bound={"metric": "top1"})))
    assert plan.intervals[1] == Interval(1e6, 4e6, 0)
    assert plan.candidates == CANDIDATES
    assert plan.content["bound"] == {"metric": "top1"}


CANDIDATE = st.builds(
    lambda payload, device, edge: Candidate("v", "l", "c", payload, device, edge, 0.9, 0.0),
    st.one_of(st.just(0.0), st.floats(1.0, 1e7)),
    st.floats(0.0, 1e4).map(lambda value: round(value, 4)),
    st.floats(0.0, 1e4).map(lambda value: round(value, 4)),
)


@given(st.lists(CANDIDATE, min_size=1, max_size=8), st.lists(st.floats(1.0, 1e12), min_size=1, max_size=5))
def test_it_agrees_with_the_lower_envelope_through_the_file(tmp_path_factory, candidates, goodputs):
    intervals = select(candidates, {}, 1e9).intervals
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    content = {"intervals": [asdict(item) for item in intervals], "candidates": [asdict(item) for item in candidates]}
    write_json(str(path), SCHEMA, content)
    plan = read_partition_policy(str(path))
    switches = [interval.from_bps for interval in intervals[1:]]
    for goodput in goodputs + switches:
        expected = next(i for i in intervals if i.upto_bps is None or goodput < i.upto_bps)
        assert choose(plan, goodput) == expected.candidate
        least = min(latency_ms(item, goodput) for item in candidates)
        assert latency_ms(candidates[choose(plan, goodput)], goodput) == pytest.approx(least, rel=1e-9)


def changed(index, **values):
    """Return the intervals with one of them changed; `...` removes a key."""
    items = [dict(item) for item in INTERVALS]
    items[index] = {key: value for key, value in {**items[index], **values}.items() if value is not ...}
    return items


@pytest.mark.parametrize(
    "changes",
    [
        {"intervals": None},
        {"candidates": None},
        {"intervals": []},
        {"intervals": 5},
        {"intervals": {"from_bps": 0.0}},
        {"intervals": ["all"]},
        {"intervals": changed(0, candidate=3)},
        {"intervals": changed(0, candidate=-1)},
        {"intervals": changed(0, candidate=1.5)},
        {"intervals": changed(0, candidate=True)},
        {"intervals": changed(0, candidate="0")},
        {"intervals": changed(0, candidate=...)},
        {"intervals": changed(0, from_bps=...)},
        {"intervals": changed(0, upto_bps=...)},
        {"intervals": changed(0, from_bps="fast")},
        {"intervals": changed(0, upto_bps="fast")},
        {"intervals": changed(0, upto_bps=[1e6])},
        {"intervals": changed(2, from_bps=10**400)},
        {"intervals": changed(0, from_bps=1.0)},
        {"intervals": changed(0, upto_bps=None)},
        {"intervals": changed(0, upto_bps=2e6)},
        {"intervals": changed(2, upto_bps=9e6)},
        {"intervals": INTERVALS[:2]},
        {"intervals": INTERVALS[::-1]},
        {"intervals": [*changed(0, upto_bps=0.0)[:1], {"from_bps": 0.0, "upto_bps": None, "candidate": 0}]},
        {"candidates": {"0": {}, "1": {}, "2": {}}},
        {"candidates": ["a", "b", "c"]},
        {"candidates": "abc"},
    ],
)
def test_a_malformed_plan_is_refused_with_the_command_that_makes_it(tmp_path, changes):
    message = refusal(written(tmp_path, **changes))
    assert "malformed" in message
    assert "coopexport select" in message


def test_another_schema_no_json_and_no_file_are_refused(tmp_path):
    path = written(tmp_path)
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**document, "schema": "coopexport.plan/2.0"}), encoding="utf-8")
    assert "coopexport.plan/2.0" in refusal(path)
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    assert "not valid JSON" in refusal(path)
    path.unlink()
    assert "missing" in refusal(path)


def test_a_later_minor_version_is_read(tmp_path):
    path = written(tmp_path)
    text = path.read_text(encoding="utf-8").replace("coopexport.plan/1.2", "coopexport.plan/1.7")
    path.write_text(text, encoding="utf-8")
    assert choose(read_partition_policy(str(path)), 2e6) == 0


def test_it_is_python_3_6_and_needs_the_standard_library_only():
    tree = ast.parse(Path(jetson.runtime.partition_policy.__file__).read_text(encoding="utf-8"), feature_version=(3, 6))
    imported = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= {"typing", "bisect", "jetson"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))


# --- Envelopes by load and round trip, and holding on to a choice ---


def plan_of(folder, candidates, **options):
    """Write the plan of a selection as `coopexport select` does, and read it."""
    selection = select(candidates, options.pop("links", {}), 1e9, Options(**options))
    path = folder / "plan.json"
    content = {
        "candidates": [asdict(item) for item in candidates],
        "intervals": [asdict(item) for item in selection.intervals],
        "envelopes": [asdict(item) for item in selection.envelopes],
    }
    write_json(str(path), SCHEMA, content)
    return read_partition_policy(str(path))


# 10 ms on the device, or 1000 bytes and 2 ms: equal at 1 Mbit/s; with 10 % the first is held up to 11/9 Mbit/s.
TWO = [
    Candidate("v", "output", "nothing", 0.0, 10.0, 0.0, 0.9, 0.0),
    Candidate("v", "l", "c", 1000.0, 2.0, 0.0, 0.9, 0.0),
]


def test_a_choice_is_held_up_to_the_margin(tmp_path):
    envelope = envelope_at(plan_of(tmp_path, TWO, hysteresis_percent=10.0))
    assert choose_position(envelope, 0.999e6) == 0
    assert choose_position(envelope, 1.001e6) == 1
    # 10 ms are at most 1.1 times 2 ms + 8000 bit / g up to g = 8000 / (10 / 1.1 - 2) bit/ms.
    leaves_bps = 1000 * 8000 / (10 / 1.1 - 2)
    assert held(envelope, 0, leaves_bps * 0.999) == 0
    assert held(envelope, 0, leaves_bps * 1.001) == 1
    # 2 ms + 8000 bit / g are at most 1.1 times 10 ms down to g = 8000 / 9 bit/ms.
    assert held(envelope, 1, 1000 * 8000 / 9 * 1.001) == 1
    assert held(envelope, 1, 1000 * 8000 / 9 * 0.999) == 0


def test_a_goodput_that_moves_about_a_switch_point_switches_once(tmp_path):
    plan = plan_of(tmp_path, TWO, hysteresis_percent=5.0)
    envelope = envelope_at(plan)
    goodputs = [1e6 * (1 + 0.02 * math.sin(step)) for step in range(500)]
    followed = follow(envelope, goodputs)
    assert sum(a != b for a, b in itertools.pairwise(followed)) <= 1
    at_once = [choose_position(envelope, goodput) for goodput in goodputs]
    assert sum(a != b for a, b in itertools.pairwise(at_once)) > 100


def follow(envelope, goodputs):
    position = choose_position(envelope, goodputs[0])
    followed = []
    for goodput in goodputs:
        position = held(envelope, position, goodput)
        followed.append(position)
    return followed


@given(
    st.lists(CANDIDATE, min_size=1, max_size=8), st.lists(st.floats(1e3, 1e9), min_size=1, max_size=20),
    st.sampled_from([0.0, 5.0, 30.0]),
)  # fmt: skip
def test_what_is_held_is_never_worse_by_more_than_the_margin(tmp_path_factory, candidates, goodputs, percent):
    envelope = envelope_at(plan_of(tmp_path_factory.mktemp("plan"), candidates, hysteresis_percent=percent))
    for goodput, position in zip(goodputs, follow(envelope, goodputs), strict=True):
        least = min(latency_ms(item, goodput) for item in candidates)
        assert latency_ms(candidates[envelope.candidates[position]], goodput) <= least * (1 + percent / 100) * (
            1 + 1e-9
        )


@pytest.mark.parametrize("goodput_bps", [0, -1.0, math.nan, -math.inf])
def test_nothing_is_held_at_a_goodput_that_is_none(tmp_path, goodput_bps):
    with pytest.raises(CoopexportError, match="positive"):
        held(envelope_at(plan_of(tmp_path, TWO)), 0, goodput_bps)


def test_the_envelope_of_loads_and_of_the_nearest_round_trip_is_found(tmp_path):
    links = [SimpleNamespace(name=str(ms), goodput_bps=1e6, round_trip_ms=ms) for ms in (20.0, 0.0)]
    plan = plan_of(tmp_path, TWO, links=links, device_loads={"busy": 3.0})
    assert [(one.device_load, one.edge_load, one.round_trip_ms) for one in plan.envelopes] == [
        ("idle", "idle", 20.0), ("idle", "idle", 0.0), ("busy", "idle", 20.0), ("busy", "idle", 0.0),
    ]  # fmt: skip
    assert envelope_at(plan) is plan.envelopes[0]
    assert envelope_at(plan, device_load="busy", round_trip_ms=3.0) is plan.envelopes[3]
    # A round trip of 20 ms: all on the device at every goodput; three times slower, the split pays from some on.
    assert plan.envelopes[0].candidates == [0]
    assert plan.envelopes[2].candidates == [0, 1]
    with pytest.raises(CoopexportError, match=r"no loads idle/full \(device/edge\); it has idle/idle, "):
        envelope_at(plan, edge_load="full")


def test_a_plan_of_version_1_1_is_read_and_holds_nothing_beyond_its_intervals(tmp_path):
    path = written(tmp_path)
    path.write_text(
        path.read_text(encoding="utf-8").replace("coopexport.plan/1.2", "coopexport.plan/1.1"), encoding="utf-8"
    )
    plan = read_partition_policy(str(path))
    (envelope,) = plan.envelopes
    assert (envelope.device_load, envelope.edge_load, envelope.round_trip_ms) == ("idle", "idle", 0.0)
    for before in range(3):
        for goodput in (5e5, 1e6, 2e6, 4e6, 1e9):
            assert envelope.candidates[held(envelope, before, goodput)] == choose(plan, goodput)


def envelope_with(**changes):
    return [{"device_load": "idle", "edge_load": "idle", "round_trip_ms": 0.0, "intervals": INTERVALS, **changes}]


@pytest.mark.parametrize(
    "envelopes",
    [
        [],
        {},
        5,
        ["all"],
        envelope_with(intervals=INTERVALS[:2]),
        envelope_with(intervals={}),
        envelope_with(intervals=changed(0, candidate=1)),  # other than the plan's own
        envelope_with(device_load=3),
        envelope_with(edge_load=None),
        envelope_with(round_trip_ms=-1.0),
        envelope_with(round_trip_ms="1"),
        envelope_with(round_trip_ms=None),
        envelope_with() * 2,
        envelope_with(intervals=changed(1, stay_from_bps=2e6)),
        envelope_with(intervals=changed(1, stay_from_bps=-1.0)),
        envelope_with(intervals=changed(1, stay_upto_bps=3e6)),
        envelope_with(intervals=changed(2, stay_upto_bps=5e6)),
        envelope_with(intervals=changed(1, stay_upto_bps=True)),
        envelope_with(intervals=changed(1, stay_from_bps=[0])),
    ],
)
def test_malformed_envelopes_are_refused(tmp_path, envelopes):
    assert "malformed" in refusal(written(tmp_path, envelopes=envelopes))


def test_a_plan_with_broken_bytes_is_read_whole_or_refused(tmp_path):
    path = written(tmp_path, envelopes=envelope_with(intervals=changed(1, stay_from_bps=5e5, stay_upto_bps=5e6)))
    good = path.read_bytes()
    random = Random(15)
    refused = 0
    for _ in range(300):
        broken = bytearray(good)
        for _ in range(random.randint(1, 3)):
            at = random.randrange(len(broken))
            broken[at : at + random.randint(0, 3)] = random.choice(
                [b"", b"0", b"-", b"9", b"null", b'"', b"{", b"\xff"]
            )
        path.write_bytes(bytes(broken))
        try:
            plan = read_partition_policy(str(path))
        except CoopexportError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
            continue
        for goodput in (1.0, 1e6, 1e12):
            for envelope in plan.envelopes:
                assert 0 <= envelope.candidates[held(envelope, 0, goodput)] < len(plan.candidates)
    assert refused > 100
