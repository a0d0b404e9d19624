"""The command report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.commands.options import target_option
from coopexport.output import (
    next_step,
    project_option,
    wrote,
)

if TYPE_CHECKING:
    pass


@click.command()
@project_option
@target_option
def report(project_file: Path | None, target_name: str) -> None:
    """Write report.html: bytes and time per layer, latency per network, all candidates."""
    from benchmarks.report.project import report as write_report

    wrote(*write_report(project_file, target_name))
    next_step("open report.html")
