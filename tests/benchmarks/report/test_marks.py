"""Marks: what the rows rest on is doubted by name, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from example_selection import RUN, example_selection

from benchmarks.latency.run import LatencyRun
from benchmarks.latency.tables.comparison import Shift
from benchmarks.report.marks import Mark, is_part_of, mark_sentences, marks
from benchmarks.report.provenance import provenance
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import describe
from benchmarks.selection.terms import is_split


def run_with(*items: dict[str, object], **more: object) -> LatencyRun:
    content = {
        "run": RUN, "started_at": "2026-08-01T10:11:12.000+00:00", "target": "cpu", "backend": "onnxruntime",
        "host": {}, "backend_version": "1.31.1", "threads": 1, "warm_up": 10, "rounds": 100, "interleaved": True,
        "items": items,
    }  # fmt: skip
    return LatencyRun.model_validate({**content, **more})


def doubted(**doubts: Any) -> ProjectSelection:
    """Return the example, with what is given of the head behind pool1 of the original."""
    result = example_selection()
    rows = tuple(
        replace(row, **doubts) if (row.variant, row.layer, row.part) == ("original", "pool1", "head") else row
        for row in result.rows
    )
    return replace(result, rows=rows)


def test_what_a_row_is_flagged_with_is_a_mark() -> None:
    result = doubted(flags=("unsteady: still 9 % slower after 500 rounds",))
    found = marks(result)
    assert [(mark.row.layer, mark.row.part, mark.kind) for mark in found] == [("pool1", "head", "unsteady")]
    assert mark_sentences(result, found)[0] == (
        f"Of {len(result.rows)} measured parts 1 are marked: unsteady (1). Provenance has each with its reason."
    )
    page = "".join(provenance(result, {RUN: run_with()}, found))
    assert "still 9 % slower after 500 rounds" in page


def test_a_median_that_moved_is_a_mark() -> None:
    (mark,) = marks(doubted(shift=Shift("before", 1.5, 1.01, "machine")))
    assert (mark.kind, mark.text) == (
        "SHIFTED",
        "SHIFTED: 1.50 times run before, but 1.01 times beside the reference: the machine changed",
    )


def test_without_marks_nothing_is_claimed() -> None:
    result = example_selection()
    missing = {RUN: f"runs/{RUN}.json is missing"}
    assert marks(result) == []
    assert mark_sentences(result, []) == []
    assert f"No part of the other runs is marked; {RUN} could not be read." in "".join(provenance(result, missing, []))
    assert "No measured part is marked." in "".join(provenance(result, {RUN: run_with()}, []))


def test_numbers_that_somebody_brought_need_no_samples() -> None:
    page = "".join(provenance(doubted(count=None, cv=None, origin="imported"), {RUN: run_with()}, []))
    assert "All " in page


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


def test_an_image_that_is_sent_resized_has_its_own_preprocessing() -> None:
    result = example_selection()
    row = next(row for row in result.rows if (row.variant, row.part) == ("original", "preprocess"))
    left = replace(row, codec="resized")
    own = [one for one in result.selection.candidates if one.variant == "original"]
    jpeg = next(one for one in own if one.coding.startswith("jpeg"))
    resized = replace(jpeg, coding="resized-jpeg q60")
    assert (is_part_of(left, resized), is_part_of(row, resized)) == (True, False)
    assert {(is_part_of(left, one), is_part_of(row, one)) for one in own} == {(False, True)}


def test_marks_of_what_is_chosen_are_named_first() -> None:
    result = example_selection()
    choice = result.selection.links[1]  # pruned, cut after pool1
    found = [Mark(row, "drift: x") for row in result.rows if (row.variant, row.layer, row.part) in
             (("pruned", "pool1", "head"), ("original", "pool1", "head"))]  # fmt: skip
    said = mark_sentences(result, found)
    chosen = describe(result.selection.candidates[choice.candidate])
    assert said[1:] == [f"Marked of {chosen}, which is chosen: head (drift)."]


def test_rows_of_another_precision_are_no_parts_but_those_of_images_are() -> None:
    result = example_selection()
    head = next(row for row in result.rows if row.part == "head")
    images = next(row for row in result.rows if (row.variant, row.part) == (head.variant, "preprocess"))
    cut = next(one for one in result.selection.candidates if (one.variant, one.layer) == (head.variant, head.layer))
    int8 = replace(cut, precision="int8")
    assert (is_part_of(head, cut), is_part_of(head, int8)) == (True, False)
    assert is_part_of(replace(head, precision="int8"), int8)
    assert is_part_of(images, cut) and is_part_of(images, int8)
