"""Marks: what the rows rest on is doubted by name, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from example_selection import RUN, example_selection

from benchmarks.latency.run import LatencyRun
from benchmarks.report.marks import Mark, is_part_of, mark_sentences, marks
from benchmarks.report.provenance import provenance
from benchmarks.selection.selector import describe
from benchmarks.selection.terms import is_split

STEADY = tuple(1.0 + 0.001 * (number % 7) for number in range(100))


def run_with(*items: dict[str, object], **more: object) -> LatencyRun:
    content = {
        "run": RUN, "started_at": "2026-08-01T10:11:12.000+00:00", "target": "cpu", "backend": "onnxruntime",
        "host": {}, "backend_version": "1.31.1", "threads": 1, "warm_up": 10, "rounds": 100, "interleaved": True,
        "items": items,
    }  # fmt: skip
    return LatencyRun.model_validate({**content, **more})


def item(part: str, **more: object) -> dict[str, object]:
    return {"variant": "original", "layer": "pool1", "part": part, "samples_ms": STEADY, **more}


def test_a_part_that_did_not_become_steady_is_marked_with_the_reason() -> None:
    result = example_selection()
    run = run_with(item("head", unsteady="still 9 % slower after 500 rounds"), item("tail"))
    found = marks(result, {RUN: run})
    assert [(mark.row.layer, mark.row.part, mark.kind) for mark in found] == [("pool1", "head", "unsteady")]
    assert found[0].text == "unsteady: still 9 % slower after 500 rounds"
    assert mark_sentences(result, found) == [
        f"Of {len(result.rows)} measured parts 1 are marked: unsteady (1). Provenance has each with its reason."
    ]
    page = "".join(provenance(result, {RUN: run}, found))
    assert "still 9 % slower after 500 rounds" in page


def test_a_throttled_run_marks_each_of_its_parts() -> None:
    run = run_with(item("head"), item("tail"), conditions={"throttled_meanwhile": {"oc3": 27}})
    found = marks(example_selection(), {RUN: run})
    assert [mark.text for mark in found] == ["throttled: oc3 27 times"] * 2


def test_other_precisions_and_batches_mark_nothing() -> None:
    run = run_with(item("head", precision="fp16", unsteady="x"), item("head", batch=4, unsteady="x"))
    assert marks(example_selection(), {RUN: run}) == []


def test_without_the_runs_file_nothing_is_claimed() -> None:
    result = example_selection()
    missing = {RUN: f"runs/{RUN}.json is missing"}
    assert marks(result, missing) == []
    assert mark_sentences(result, []) == []
    assert f"No part of the other runs is marked; {RUN} could not be read." in "".join(provenance(result, missing, []))
    assert "No measured part is marked." in "".join(provenance(result, {RUN: run_with()}, []))


def test_a_reference_network_that_failed_is_not_a_number() -> None:
    failed = {"variant": "reference", "layer": "whole", "part": "whole", "failure": "operator Foo is not supported"}
    page = "".join(provenance(example_selection(), {RUN: run_with(reference=failed)}, []))
    assert "failed: operator Foo is not supported" in page
    measured = {"variant": "reference", "layer": "whole", "part": "whole", "samples_ms": [0.5] * 20}
    page = "".join(provenance(replace(example_selection()), {RUN: run_with(reference=measured, steady=False)}, []))
    assert "median 0.5000 ms" in page


def test_the_parts_of_a_candidate_are_those_its_times_are_made_of() -> None:
    result = example_selection()
    for candidate in result.selection.candidates:
        own = [row for row in result.rows if is_part_of(row, candidate)]
        on_device = ("preprocess", "head", "encode") if is_split(candidate) else ("encode",)
        if candidate.layer == "output":
            on_device = ("preprocess", "whole")
        device_ms = sum(row.p50_ms for row in own if row.part in on_device)
        edge_ms = sum(row.p50_ms for row in own if row.part not in on_device)
        assert candidate.device_ms == pytest.approx(5 * device_ms)
        assert candidate.edge_ms == pytest.approx(edge_ms)


def test_marks_of_what_is_chosen_are_named_first() -> None:
    result = example_selection()
    choice = result.selection.links[1]  # pruned, cut after pool1
    found = [Mark(row, "drift: x") for row in result.rows if (row.variant, row.layer, row.part) in
             (("pruned", "pool1", "head"), ("original", "pool1", "head"))]  # fmt: skip
    said = mark_sentences(result, found)
    chosen = describe(result.selection.candidates[choice.candidate])
    assert said[1:] == [f"Marked of {chosen}, which is chosen: head (drift)."]
