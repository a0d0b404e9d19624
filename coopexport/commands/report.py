"""The command report."""

from __future__ import annotations

from pathlib import Path

import click

from coopexport.commands.options import target_option
from coopexport.output import next_step, project_option, wrote


@click.command()
@project_option
@target_option
def report(project_file: Path | None, target_name: str) -> None:
    """Write report.html: what was chosen and what it gains, where splitting pays, and on what all of it rests."""
    from benchmarks.report.project import ReportRequest, report_project
    from exporter.project.settings import load_project

    *figures, page = report_project(load_project(project_file), ReportRequest(target_name)).paths
    wrote(page, *figures)
    next_step("open report.html")
