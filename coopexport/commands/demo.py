"""The command demo."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default="demo")
@click.option("--larger", is_flag=True, help="A network with more work, for which splitting pays on a slow link.")
def demo(folder: Path, larger: bool) -> None:
    """Run all of it on real data: train, prune, shrink, split, build, measure, select, and run the pair."""
    from benchmarks.demo.prepare import LARGER, Recipe
    from coopexport.demo.flow import run_demo

    run_demo(folder, LARGER if larger else Recipe())
