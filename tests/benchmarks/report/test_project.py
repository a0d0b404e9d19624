"""The report of a project, and what is refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests_support import files_below

from benchmarks.report.project import ReportRequest, report_project
from exporter.project.settings import load_project
from jetson.errors import CoopexportError


def test_the_report_of_a_project_is_that_of_its_selection(finished_project: Path) -> None:
    project = load_project(finished_project / "coopexport.toml")
    result = report_project(project)
    names = [path.relative_to(project.output).as_posix() for path in result.paths]
    assert names[-1] == "report.html"
    assert {"figures/where_splitting_pays.svg", "figures/bytes_and_time_per_layer.png"} <= set(names)
    assert "figures/latency_per_network.csv" in names
    page = result.paths[-1].read_text(encoding="utf-8")
    for choice in result.selected.selection.links:
        assert f"{choice.latency_ms:.3f}" in page


def test_a_target_that_was_not_measured_is_refused(finished_project: Path) -> None:
    before = files_below(finished_project)
    with pytest.raises(CoopexportError, match=r"no candidate is left to choose from: .*run: coopexport bench"):
        report_project(load_project(finished_project / "coopexport.toml"), ReportRequest("cuda"))
    assert files_below(finished_project) == before
