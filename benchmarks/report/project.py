"""The report of a project: selected from what lies in its folder, and written there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.figures.layers_figure import shown_variants, timed_target
from benchmarks.prediction.project_layers import network_times
from benchmarks.report.write import write_report
from benchmarks.selection.part_times import median_ms
from benchmarks.selection.project_selection import ProjectSelection, select_for_project
from exporter.project.settings import Project, load_project


@dataclass(frozen=True)
class ReportRequest:
    """What to report on. `target`: whose latencies stand for the edge."""

    target: str = "cpu"


@dataclass(frozen=True)
class ReportResult:
    """What is reported, and the files written: those of every figure, report.html last."""

    selected: ProjectSelection
    paths: tuple[Path, ...]


def report_project(project: Project, request: ReportRequest = ReportRequest()) -> ReportResult:
    """Select for a project that has been split and measured, as its file says, and write report.html with its figures.

    All files are written or none. Raises CoopexportError when something is missing or stale, or there is no matplotlib;
    OSError when the files cannot be written.
    """
    selected = select_for_project(project, project.settings.select, request.target)
    rows = [replace(row, p50_ms=median_ms(row)) for row in selected.rows]
    times = network_times(project, shown_variants(selected), rows, timed_target(selected))
    paths = write_report(project.output, selected, project.settings.model.name, times)
    return ReportResult(selected, tuple(paths))


def report(project_file: Path | None = None, target: str = "cpu") -> list[Path]:
    """Select for a project that has been split and measured, and write report.html with its figures.

    `project_file`: without it the nearest coopexport.toml above the working directory. `target`: whose latencies stand
    for the edge. Returns the paths written, report.html last. Raises CoopexportError when something is missing.
    """
    return list(report_project(load_project(project_file), ReportRequest(target)).paths)
