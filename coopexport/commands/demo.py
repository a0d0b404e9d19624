"""The command demo."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default="demo")
def demo(folder: Path) -> None:
    """Run all of it on real data: train, prune, shrink, split, build, measure, select, and run the pair."""
    from coopexport.demo.flow import run_demo

    run_demo(folder)
