"""The flags that only the run knows are added to those that the samples show."""

from __future__ import annotations

from typing import Any

import pytest
from small_runs import HOST, item, run_of

from benchmarks.latency.flags import Flag
from benchmarks.latency.statistics import summarise
from benchmarks.latency.summaries import summarise_item

SAMPLES = (1.0, 1.01) * 10


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, None),
        ({"conditions": {"throttled_meanwhile": {}}}, None),
        ({"conditions": {"throttled_meanwhile": {"oc1": 0, "oc3": 0}}}, None),
        ({"conditions": {"throttled_meanwhile": {"oc3": 2, "oc1": 1}}}, "oc1 1 times, oc3 2 times"),
        ({"host": {**HOST, "throttled_meanwhile": {"oc2": 5}}}, "oc2 5 times"),  # as agents before 1.1 told it
    ],
)
def test_a_throttled_run_flags_every_item(fields: dict[str, Any], words: str | None) -> None:
    run = run_of(item("head", samples_ms=SAMPLES), item("tail", samples_ms=SAMPLES), **fields)
    expected = () if words is None else (Flag("throttled", f"throttled: {words}"),)
    for one in run.items:
        found = summarise_item(run, one)
        assert found is not None
        assert found.flags == expected
        assert found.p50_ms == summarise(SAMPLES).p50_ms


def test_an_unsteady_item_is_flagged_after_what_its_samples_show() -> None:
    drifting = tuple(1 + number / 50 for number in range(50))
    run = run_of(
        item("head", samples_ms=drifting, unsteady="it still got 9 % slower"), item("tail", samples_ms=SAMPLES)
    )
    head, tail = (summarise_item(run, one) for one in run.items)
    assert head is not None and tail is not None
    assert [flag.kind for flag in head.flags] == ["drift", "few samples", "unsteady"]
    assert head.flags[-1].text == "unsteady: it still got 9 % slower"
    assert tail.flags == ()


def test_what_failed_has_no_summary() -> None:
    broken = item("head", failure="RuntimeError: no")
    assert summarise_item(run_of(broken), broken) is None


@pytest.mark.parametrize("part", ["head", "tail", "whole", "encode"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("computed_in", ["float32", None])
def test_float16_that_was_computed_in_float32_is_flagged(part: str, precision: str, computed_in: str | None) -> None:
    host = HOST if computed_in is None else {**HOST, "float16": computed_in}
    one = item(part, precision=precision, samples_ms=SAMPLES)
    summary = summarise_item(run_of(one, host=host), one)
    assert summary is not None
    wrong = (part != "encode", precision, computed_in) == (True, "fp16", "float32")
    text = "float16: computed in float32, as ONNX Runtime does on this processor"
    assert summary.flags == ((Flag("float16", text),) if wrong else ())
