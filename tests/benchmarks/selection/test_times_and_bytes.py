"""What a project's selection counts and compares: bytes on the wire, links, sittings, and times that are missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_runs import run_of

from benchmarks.latency.run import LatencyRun, RunItem
from benchmarks.latency.table import Latency, import_run, latest
from benchmarks.links.wire import wire_bytes
from benchmarks.selection import predicted_times
from benchmarks.selection.part_times import TargetTimes, measured_slowdown, times_of_target
from benchmarks.selection.partition_policy import comparison
from benchmarks.selection.project_selection import ProjectSelection, select_for_project
from benchmarks.selection.select_project import SelectRequest, select_project
from benchmarks.selection.selector import OUTPUT, Candidate
from calibration.splitting.split_project import SplitRequest, split_project
from exporter.project.settings import Project, SelectSection, load_project

REFERENCE_SHA256 = "0" * 64


@pytest.fixture
def finished(finished_project: Path) -> Project:
    return load_project(finished_project / "coopexport.toml")


def selected(project: Project, **settings: Any) -> ProjectSelection:
    return select_for_project(project, SelectSection(maximum_loss_points=100, **settings), "cpu")


def candidate_of(result: ProjectSelection, variant: str, layer: str) -> Candidate:
    return next(one for one in result.selection.candidates if (one.variant, one.layer) == (variant, layer))


def sitting(rows: list[Latency], minute: int, reference_ms: float, times: float = 1.0, **fields: Any) -> LatencyRun:
    """Return a run that measured the parts of `rows`, each `times` as long, beside a reference network."""
    items = [
        RunItem(
            variant=row.variant, layer=row.layer, part=row.part, codec=row.codec or None,
            source_sha256=row.source_sha256, samples_ms=(times * row.p50_ms,) * 9,
        )
        for row in rows
    ]  # fmt: skip
    reference = RunItem(
        variant="reference", layer="whole", part="whole", source_sha256=REFERENCE_SHA256, samples_ms=(reference_ms,) * 9
    )
    return run_of(*items, minute=minute, reference=reference, **fields)


@pytest.fixture
def rows(finished: Project) -> list[Latency]:
    """What the project's table holds; the table itself is gone."""
    table = finished.output / "latency.sqlite"
    found = latest(table)
    table.unlink()
    return found


@pytest.mark.parametrize("protocol", ["framed", "http", "grpc", "grpc-stream", "none"])
def test_all_bytes_that_cross_are_counted(finished: Project, protocol: Any) -> None:
    result = selected(finished, protocol=protocol)
    reply_bytes = 10 * 4  # ten classes in float32
    for candidate in result.selection.candidates:
        crossing = 0 if candidate.layer == OUTPUT else wire_bytes(candidate.payload_bytes, reply_bytes, protocol)
        assert candidate.wire_bytes == crossing
        assert (crossing > candidate.payload_bytes) == (protocol != "none" and candidate.layer != OUTPUT)


def test_the_links_of_the_project_file_are_chosen_for(finished: Project) -> None:
    file = finished.folder / "coopexport.toml"
    links = '[links.LTE]\npreset = "LTE"\n[links.cable]\ngoodput_bps = 2e7\nround_trip_ms = 3\n'
    file.write_text(f"{file.read_text()}\n{links}")
    project = load_project(file)
    choices = selected(project).selection.links
    assert [choice.link for choice in choices] == ["LTE", "cable"]
    assert (choices[1].goodput_bps, choices[1].round_trip_ms) == (2e7, 3)
    assert choices[0].round_trip_ms > 0
    given = select_project(project, SelectRequest(maximum_loss_points=100, goodput_bps={"mine": 2e6}))
    assert [choice.link for choice in given.selected.selection.links] == ["mine"]


def test_a_trace_adds_a_percentile_of_latency_over_it(finished: Project) -> None:
    file = finished.folder / "coopexport.toml"
    # 1 Mbit/s for 10 of 100 seconds: nine tenths of the latencies are no longer than that at 5 Mbit/s.
    (finished.folder / "field.csv").write_text("time_s,goodput_bps\n0,1e6\n10,5e6\n60,9e6\n99,9e6\n100,9e6\n")
    file.write_text(f'{file.read_text()}\n[links.field]\ntrace = "field.csv"\nround_trip_ms = 3\n')
    result = selected(load_project(file), latency_percentile=80)
    assert [(choice.link, choice.goodput_bps) for choice in result.selection.links] == [
        ("field", 5e6),
        ("field, p80 over its trace", 5e6),
    ]
    slow = selected(load_project(file), latency_percentile=99).selection.links[1]
    assert (slow.link, slow.goodput_bps, slow.round_trip_ms) == ("field, p99 over its trace", 1e6, 3)


def test_times_of_an_earlier_sitting_are_compared_through_the_reference(finished: Project, rows: list[Latency]) -> None:
    table = finished.output / "latency.sqlite"
    of_pruned = [row for row in rows if row.variant == "pruned"]
    others = [row for row in rows if row.variant != "pruned"]
    import_run(table, sitting(of_pruned, minute=1, reference_ms=0.5))
    import_run(table, sitting(others, minute=2, reference_ms=0.5))
    at_first = selected(finished)
    assert comparison(at_first.rows) == (
        "times of earlier sittings are multiplied by how much the reference network of both changed"
    )
    # Later the machine is half as fast, and the original is measured anew: it is no slower beside the pruned network.
    import_run(table, sitting(others, minute=3, reference_ms=1.0, times=2.0))
    later = selected(finished)
    for variant in ("original", "pruned"):
        before, after = (candidate_of(result, variant, "conv4_1") for result in (at_first, later))
        assert before.device_ms is not None
        assert after.device_ms == pytest.approx(2 * before.device_ms)


def test_sittings_without_a_reference_in_common_are_told(finished: Project, rows: list[Latency]) -> None:
    table = finished.output / "latency.sqlite"
    first, second = rows[:5], rows[5:]
    import_run(table, sitting(first, minute=1, reference_ms=0.5))
    assert comparison(latest(table)) == "all times of a target are of one sitting"
    import_run(table, sitting(second, minute=2, reference_ms=0.5).model_copy(update={"reference": None}))
    assert comparison(latest(table)).startswith(f"{len(rows)} of {len(rows)} times are of sittings without a reference")


def test_parts_of_another_power_mode_have_expired_by_name(finished: Project, rows: list[Latency]) -> None:
    table = finished.output / "latency.sqlite"
    modes = [{"power_mode": {"name": name}} for name in ("MAXN", "15W")]
    import_run(table, sitting(rows, minute=1, reference_ms=0.5, conditions=modes[0]))
    assert not candidate_of(selected(finished), "pruned", "conv4_1").reason
    whole = [row for row in rows if row.layer == "whole"]
    import_run(table, sitting(whole, minute=2, reference_ms=0.5, conditions=modes[1]))
    reason = candidate_of(selected(finished), "pruned", "conv4_1").reason
    assert "head was measured under other conditions (power mode was MAXN, is 15W)" in reason
    assert reason.endswith("run: coopexport bench")


def test_a_head_that_was_not_measured_is_predicted_and_marked(finished: Project, rows: list[Latency]) -> None:
    table = finished.output / "latency.sqlite"
    missing = ("pruned", "conv4_1", "head")
    import_run(table, sitting([row for row in rows if (row.variant, row.layer, row.part) != missing], 1, 0.5))
    found = selected(finished)
    candidate = candidate_of(found, "pruned", "conv4_1")
    predictions = predicted_times.predicted_latencies(finished, found.variants, found.rows, "cpu")
    (predicted,) = [row for row in predictions if (row.variant, row.layer, row.part) == missing]
    assert predicted.p50_ms > 0
    assert candidate.device_origin == "predicted"
    assert candidate.note.startswith(f"head {predicted.p50_ms:.3f} ms predicted (")
    assert "error at measured cuts: median " in candidate.note
    import_run(table, sitting(rows, 2, 0.5))
    measured = candidate_of(selected(finished), "pruned", "conv4_1")
    assert measured.device_origin == "scaled"
    assert candidate.device_ms is not None
    assert measured.device_ms is not None
    head_ms = next(row.p50_ms for row in rows if (row.variant, row.layer, row.part) == missing)
    # Only the head differs, and the device takes five times as long as this machine.
    assert candidate.device_ms - measured.device_ms == pytest.approx(5 * (predicted.p50_ms - head_ms))


def test_coding_that_was_not_measured_is_predicted_from_three_cuts_on(finished: Project, rows: list[Latency]) -> None:
    table = finished.output / "latency.sqlite"
    missing = next(row for row in rows if (row.variant, row.layer, row.part) == ("pruned", "conv4_1", "encode"))
    known = [row for row in rows if row is not missing]
    import_run(table, sitting(known, 1, 0.5))  # of two cuts
    assert candidate_of(selected(finished), "pruned", "conv4_1").reason == "encode not measured; run: coopexport bench"
    (one,) = split_project(finished, SplitRequest(("pruned",), ("pool4",))).bundles
    third = [
        Latency("", "cpu", "pruned", "pool4", part, codec, file.sha256, 9, 0.05, 0.1)
        for part, codec, file in (
            ("head", "", one.head), ("encode", one.codec, one.head), ("decode", one.codec, one.tail),
            ("tail", "", one.tail),
        )
    ]  # fmt: skip
    import_run(table, sitting([*known, *third], 2, 0.5))
    found = selected(finished)
    candidate = candidate_of(found, "pruned", "conv4_1")
    assert (candidate.device_origin, candidate.edge_origin, candidate.reason) == ("predicted", "measured", "")
    assert candidate.note.startswith("encode ") and " ms predicted (" in candidate.note
    (predicted,) = predicted_times.predicted_latencies(finished, found.variants, found.rows, "cpu")
    assert (predicted.variant, predicted.part, predicted.codec) == ("pruned", "encode", missing.codec)
    edge_ms = {(row.layer, row.part): row.p50_ms for row in found.rows if row.variant == "pruned"}
    parts_ms = edge_ms["whole", "preprocess"] + edge_ms["conv4_1", "head"] + predicted.p50_ms
    assert candidate.device_ms == pytest.approx(5 * parts_ms)


def test_what_a_device_did_not_measure_is_scaled_by_what_it_did(finished: Project) -> None:
    """One network measured there, 30 times as slow: the other is not taken to be five times as slow beside it."""
    table = finished.output / "latency.sqlite"
    rows = latest(table)
    here = [row for row in rows if row.variant == "pruned" and not (row.layer == "whole" and row.part == "whole")]
    import_run(table, sitting(here, 1, 9.0, times=30.0, target="board", started_at="2031-01-01T00:00:00+00:00"))
    result = selected(finished, device_target="board", device_slowdown=5.0)
    compared = sum(row.part in ("head", "tail") for row in here)
    assert (result.sources.device_slowdown, result.sources.compared_parts) == (pytest.approx(30), compared)
    edge_ms = {(row.layer, row.part): row.p50_ms for row in rows if row.variant == "original" and not row.codec}
    whole_ms = edge_ms["whole", "preprocess"] + edge_ms["whole", "whole"]
    scaled = candidate_of(result, "original", OUTPUT)
    assert scaled.device_ms == pytest.approx(30 * whole_ms)
    assert scaled.device_origin == "scaled"
    assert result.settings.device_slowdown == pytest.approx(30)
    assert candidate_of(selected(finished), "original", OUTPUT).device_ms == pytest.approx(5 * whole_ms)


def test_a_ratio_is_of_the_same_graph_and_of_networks_first() -> None:
    def row(part: str, ms: float, sha256: str = "a") -> Latency:
        return Latency("run", "t", "v", "l", part, "", sha256, 9, ms, 0.0)

    def times(*rows: Latency) -> TargetTimes:
        return times_of_target("t", rows, {})

    edge = times(row("head", 1.0), row("tail", 2.0), row("whole", 4.0), row("encode", 1.0))
    assert measured_slowdown(times(row("head", 10.0), row("tail", 40.0), row("encode", 500.0)), edge) == (15.0, 2)
    assert measured_slowdown(times(row("encode", 7.0), row("head", 10.0, "b")), edge) == (7.0, 1)
    assert measured_slowdown(times(row("head", 10.0, "b")), edge) is None


def test_where_nothing_is_missing_nothing_is_predicted(finished: Project) -> None:
    found = selected(finished)
    assert predicted_times.predicted_latencies(finished, found.variants, found.rows, "cpu") == []
