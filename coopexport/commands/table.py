"""The command `table`: runs, numbers and other tables into the latency table; what it says, and what changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from coopexport.commands.table_printing import print_differences, print_rows
from coopexport.output import project_option, relative, wrote

if TYPE_CHECKING:
    from exporter.project.settings import Project

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _table_options(function: _Function) -> _Function:
    """Add `--project FILE` and `--table FILE`: whose latency table, or which."""
    table = click.option(
        "--table", "table_file", type=click.Path(path_type=Path), help="A table by itself, in the place of a project's."
    )
    return project_option(table(function))


@click.group()
def table() -> None:
    """Look into the latency table, compare what is in it, or add what others measured."""


@table.command()
@_table_options
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def add(project_file: Path | None, table_file: Path | None, files: tuple[Path, ...]) -> None:
    """Add FILES: latency runs (.json), tables (.sqlite), numbers (.csv), archives with runs (.zip).

    All of them or none. What is there already is not added again, and nothing that is there changes.
    """
    from benchmarks.latency.tables.project_table import AddRequest, add_to_table

    result = add_to_table(_place(project_file, table_file)[0], AddRequest(files))
    added = result.added
    known = f", {_count(added.known_runs, 'run')} there already" if added.known_runs else ""
    click.echo(f"added {_count(added.runs, 'run')}, {_count(added.rows, 'row')} to {relative(result.table)}{known}")


@table.command()
@_table_options
@click.option("--target", "targets", multiple=True, help="Target to show, such as cpu or 'orin-*'; default: all.")
@click.option("--variant", "variants", multiple=True, help="Variant to show, such as pruned or 'conv4_1-*'.")
@click.option("--layer", "layers", multiple=True, help="Cut to show, such as conv4_1; whole: the uncut network.")
@click.option("--all", "history", is_flag=True, help="Every row ever added, not the newest of each part alone.")
def show(
    project_file: Path | None,
    table_file: Path | None,
    targets: tuple[str, ...],
    variants: tuple[str, ...],
    layers: tuple[str, ...],
    history: bool,
) -> None:
    """Show the newest latency of each part, by target, and what is not to be trusted about it."""
    from benchmarks.latency.tables.project_table import ShowRequest, show_table

    path, project = _place(project_file, table_file)
    print_rows(show_table(path, ShowRequest(targets, variants, layers, history), project))


@table.command()
@_table_options
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
def diff(project_file: Path | None, table_file: Path | None, before: str, after: str) -> None:
    """Say what got slower or faster from A to B: files of tables or runs, or beginnings of runs' ids in the table.

    Where both ran the same reference network, ratios to it are compared, which another sitting leaves as they are.
    """
    from benchmarks.latency.tables.project_table import diff_tables
    from benchmarks.latency.tables.sources import is_recorded_file

    by_file = is_recorded_file(before) and is_recorded_file(after)
    print_differences(diff_tables(before, after, None if by_file else _place(project_file, table_file)[0]))


@table.command()
@_table_options
@click.argument("file", type=click.Path(path_type=Path))
def export(project_file: Path | None, table_file: Path | None, file: Path) -> None:
    """Write every row of the table to the CSV file FILE, which `table add` reads again."""
    from benchmarks.latency.tables.project_table import export_table

    result = export_table(_place(project_file, table_file)[0], file)
    wrote(result.path)
    click.echo(_count(result.rows, "row"))


def _place(project_file: Path | None, table_file: Path | None) -> tuple[Path, Project | None]:
    """Return the table, and its project where it is one's."""
    if table_file is not None:
        if project_file is not None:
            raise click.UsageError("--project and --table exclude each other")
        return table_file, None
    from benchmarks.latency.tables.project_table import table_of
    from exporter.project.settings import load_project

    project = load_project(project_file)
    return table_of(project), project


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
