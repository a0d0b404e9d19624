"""The plan as a device reads it: the right candidate at every goodput, and no malformed file."""

import ast
import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jetson.runtime.partition_policy
from benchmarks.selection.selector import Candidate, latency_ms, lower_envelope
from jetson.errors import CoopexportError
from jetson.files.json_files import write_json
from jetson.runtime.partition_policy import SCHEMA, Interval, choose, read_partition_policy

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
    intervals = lower_envelope(candidates, range(len(candidates)))
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
    text = path.read_text(encoding="utf-8").replace("coopexport.plan/1.1", "coopexport.plan/1.7")
    path.write_text(text, encoding="utf-8")
    assert choose(read_partition_policy(str(path)), 2e6) == 0


def test_it_is_python_3_6_and_needs_the_standard_library_only():
    tree = ast.parse(Path(jetson.runtime.partition_policy.__file__).read_text(encoding="utf-8"), feature_version=(3, 6))
    imported = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= {"typing", "jetson"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))
