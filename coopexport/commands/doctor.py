"""The command `doctor`: what is usable here."""

from __future__ import annotations

from pathlib import Path

import click

from coopexport.output import print_table


@click.command()
def doctor() -> None:
    """Say which backends, GPUs and packages are usable here, and why the others are not."""
    from engines.host.doctor import DoctorRequest, examine

    rows = [
        ("yes" if finding.usable else "no", finding.subject, finding.version, finding.detail)
        for finding in examine(DoctorRequest(Path.cwd())).findings
    ]
    print_table("What is usable here", ["usable", "what", "version", "detail"], rows, left=4)
