"""Measuring a project: the parts that were asked for, in rounds as asked, kept in its run file and its table."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from pruning_variants import write_step2
from tests_support import files_below

from benchmarks.latency.bench_project import BenchRequest, bench_project
from benchmarks.latency.reference import reference_sha256
from benchmarks.latency.resources.peak_memory import measure_peak_memory, with_peak_memory
from benchmarks.latency.run import LatencyRun, read_run
from benchmarks.latency.table import latest
from calibration.variants.register import open_evaluation
from engines.building.project_items import items_of_project
from engines.targets.lookup import find_target
from exporter.project.settings import Project, load_project
from jetson.errors import CoopexportError
from jetson.runtime.steadiness import WINDOW

OF_A_CUT = {"head", "encode", "decode", "tail"}
ONE_CUT = BenchRequest(variants=("pruned",), layers=("conv4_1",), rounds=8, warm_up=2)


@pytest.fixture
def finished(finished_project: Path) -> Project:
    return load_project(finished_project / "coopexport.toml")


def test_what_was_asked_for_is_measured_and_kept(finished: Project) -> None:
    told: list[tuple[str, int, int]] = []
    result = bench_project(finished, ONE_CUT, lambda *report: told.append(report))
    assert {item.variant for item in result.run.items} == {"pruned"}
    assert {item.part for item in result.run.items if item.layer == "conv4_1"} == OF_A_CUT
    assert {item.layer for item in result.run.items} == {"conv4_1", "whole"}
    assert [len(item.samples_ms or ()) for item in result.run.items] == [8] * 12
    assert result.path == finished.output / "runs" / f"{result.run.run}.json"
    assert read_run(result.path) == result.run
    assert result.rows_added == 12
    assert sum(row.run == result.run.run for row in latest(result.table)) == 12
    loaded = {item.part for item in result.run.items if item.load_ms is not None}
    assert loaded == {"head", "tail", "whole"}  # what has an engine
    assert min(item.load_ms for item in result.run.items if item.load_ms is not None) > 0
    assert sum(row.load_ms is not None for row in latest(result.table) if row.run == result.run.run) == 3
    needed = {(item.layer, item.part): item.peak_memory_bytes for item in result.run.items}
    assert {part for (_, part), bytes_ in needed.items() if bytes_ is not None} == loaded
    folder = finished.variant_folder("pruned") / "engines" / "cpu"
    for layer, part, file in (("conv4_1", "head", "conv4_1.head"), ("whole", "whole", "whole")):
        size = (folder / f"{file}.onnx").stat().st_size
        assert size <= (needed[layer, part] or 0) <= 8 * size + (32 << 20)
    assert sum(row.peak_memory_bytes is not None for row in latest(result.table) if row.run == result.run.run) == 3
    assert told[:4] == [("building for cpu", done, 3) for done in range(4)]
    measuring = told[4:]
    assert measuring[0] == ("measuring", 0, 10)
    assert [done for _, done, _ in measuring] == list(range(result.run.warm_up + 8 + 1))
    assert measuring[-1] == ("measuring", result.run.warm_up + 8, result.run.warm_up + 8)


def test_the_reference_network_is_in_every_run_beside_the_parts(finished: Project) -> None:
    result = bench_project(finished, ONE_CUT)
    reference = result.run.reference
    assert reference is not None
    assert (reference.source_sha256, len(reference.samples_ms or ())) == (reference_sha256(), 8)
    assert reference not in result.run.items
    assert "reference" not in {row.variant for row in latest(result.table)}


def test_memory_can_be_left_out_and_a_helper_that_fails_is_a_reason(
    finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = finished.settings.bench.model_copy(update={"memory": False})
    project = Project(finished.folder, finished.settings.model_copy(update={"bench": settings}), finished.preprocessing)
    run = bench_project(project, ONE_CUT).run
    assert not any(item.peak_memory_bytes or item.unknown for item in run.items)
    monkeypatch.setattr(sys, "executable", "false")
    items = items_of_project(finished, ("pruned",), ("conv4_1",)).items
    found = with_peak_memory(run, measure_peak_memory(items, find_target("cpu")))
    reasons = {(item.layer, item.part): item.unknown for item in found.items if item.unknown}
    assert set(reasons) == {("conv4_1", "head"), ("conv4_1", "tail"), ("whole", "whole")}
    assert all("the process that measures it ended with code 1" in str(one) for one in reasons.values())


def test_rounds_are_the_projects_unless_the_request_says_otherwise(finished: Project) -> None:
    settings = finished.settings.bench.model_copy(update={"rounds": 9, "warm_up": 1})
    project = Project(finished.folder, finished.settings.model_copy(update={"bench": settings}), finished.preprocessing)
    run = bench_project(project, BenchRequest(("pruned",), ("pool3",))).run
    assert run.rounds == 9
    assert WINDOW <= run.warm_up <= 5 * WINDOW
    assert run.steady is not None
    assert {len(item.samples_ms or ()) for item in run.items} == {9}


def test_the_run_is_told_before_it_is_written_and_its_file_before_the_table(finished: Project) -> None:
    (finished.output / "latency.sqlite").write_text("no table")
    told: list[LatencyRun | Path] = []

    def on_result(run: LatencyRun) -> None:
        assert not (finished.output / "runs" / f"{run.run}.json").exists()
        told.append(run)

    with pytest.raises(CoopexportError, match=r"latency\.sqlite: file is not a database; take a copy that is whole"):
        bench_project(finished, ONE_CUT, on_result=on_result, on_written=told.append)
    run, path = told
    assert isinstance(path, Path)
    assert read_run(path) == run


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (BenchRequest(rounds=3), "rounds: Input should be greater than or equal to 8"),
        (BenchRequest(warm_up=0), "warm_up: "),
        (BenchRequest(target="rtx-adda"), "did you mean rtx-ada"),
        (BenchRequest(variants=("nope",)), 'no variant "nope"'),
        (BenchRequest(layers=("conv9_9",)), 'no layer "conv9_9"'),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_written(
    finished: Project, request_: BenchRequest, words: str
) -> None:
    before = files_below(finished.folder)
    with pytest.raises(CoopexportError, match=words):
        bench_project(finished, request_)
    assert files_below(finished.folder) == before


def test_variants_for_other_cuts_are_left_out_and_counted(finished: Project) -> None:
    write_step2(finished, open_evaluation(finished), "conv4_1", 3, 1000)
    for name in ("whole.json", "conv4_1.split.json"):  # so that it counts as split there
        shutil.copy(finished.variant_folder("pruned") / name, finished.variant_folder("conv4_1-3"))
    told: list[int] = []
    result = bench_project(finished, BenchRequest(layers=("pool3",), rounds=8), on_left_out=told.append)
    assert told == [result.left_out] == [1]
    assert {item.variant for item in result.run.items} == {"original", "pruned"}
