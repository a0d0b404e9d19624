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
    """Write report.html: bytes and time per layer, latency per network, all candidates."""
    from benchmarks.report.project import ReportRequest, report_project
    from exporter.project.settings import load_project

    wrote(*report_project(load_project(project_file), ReportRequest(target_name)).paths)
    next_step("open report.html")
