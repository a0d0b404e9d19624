"""What all commands share: the project option, printing what was written, and progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from exporter.progress import OnProgress

_Function = TypeVar("_Function", bound=Callable[..., Any])
# Up to this many variants have a table of their own; more share one, or have a line each.
MOST_TABLES = 4


def project_option(function: _Function) -> _Function:
    """Add `--project FILE` to a command."""
    return click.option(
        "--project",
        "project_file",
        type=click.Path(path_type=Path),
        help="Project file; without it the nearest coopexport.toml above this folder.",
    )(function)


def variant_option(function: _Function) -> _Function:
    """Add `--variant NAME` to a command; repeatable."""
    return click.option(
        "--variant",
        "variant_names",
        multiple=True,
        help="Variant to work on (original, pruned, 'conv4_1-*'); repeatable; default: all.",
    )(function)


def wrote(*paths: Path) -> None:
    """Print paths that were written, relative to the working directory where that is shorter; many as a count."""
    for path in paths[:3]:
        click.echo(f"wrote {relative(path)}")
    if len(paths) > 3:
        click.echo(f"wrote {len(paths) - 3} more beside {'it' if len(paths) == 4 else 'them'}")


def relative(path: Path) -> str:
    """Return `path` relative to the working directory if it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def left_out(count: int, layer_names: Sequence[str]) -> None:
    """Say how many variants were left out because they were made for other cuts, if any."""
    if count:
        where = f"not for {', '.join(layer_names)}" if layer_names else "for other layers than split.candidates"
        click.echo(f"left out: {count} variant{'' if count == 1 else 's'} {where}", err=True)


def next_step(text: str) -> None:
    """Print what to do next."""
    click.echo(f"next: {text}")


@contextmanager
def progress(description: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal (nothing elsewhere); yields a function that takes how many are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def progress_bar() -> Iterator[OnProgress]:
    """Show what a verb is doing as a progress bar on a terminal (nothing elsewhere); yields whom the verb tells.

    A verb does one task after the other: the bar is that of the last one it told of.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda task, done, total: None
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:

        def show(task: str, done: int, total: int, /) -> None:
            if not bar.tasks or bar.tasks[-1].description != task:
                for earlier in bar.tasks:
                    bar.remove_task(earlier.id)
                bar.add_task(task, total=total)
            bar.update(bar.tasks[-1].id, completed=done, total=total)

        yield show


def print_table(title: str, columns: list[str], rows: Sequence[Sequence[str]], left: int = 1, width: int = 160) -> None:
    """Print a table, at most `width` wide where there is no terminal; its first `left` columns are aligned left."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # as Text: "[cpu]" is no markup here
    console = Console()
    # A pipe or a log has no width of its own: let every row have its one line.
    Console(width=None if console.is_terminal else width, highlight=False).print(table)
