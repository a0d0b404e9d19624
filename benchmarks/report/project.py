"""The report of a project, in one call."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report.write import write_report
from benchmarks.selection.project_selection import select_for_project
from exporter.project.settings import load_project


def report(project_file: Path | None = None, target: str = "cpu") -> list[Path]:
    """Select for a project that has been split and measured, and write report.html with its figures.

    `project_file`: without it the nearest coopexport.toml above the working directory. `target`: whose latencies stand
    for the edge. Returns the paths written, report.html last. Raises CoopexportError when something is missing.
    """
    project = load_project(project_file)
    result = select_for_project(project, project.settings.select, target)
    return write_report(project.output, result, project.settings.model.name)
