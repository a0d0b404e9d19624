"""What all commands share: the project option, printing what was written, and progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.progress import Progress

    from exporter.bundles.precision_file import PrecisionFile

_Function = TypeVar("_Function", bound=Callable[..., Any])
# Up to this many variants have a table of their own; more share one, or have a line each.
MAX_TABLES = 4


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


class ProgressBar:
    """Shows on a terminal how far a verb is, as what a room's function takes as on_progress; nothing elsewhere.

    The bar goes when its task is done, and for what is printed `above` it.
    """

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._task = ""
        self._bar: Progress | None = None

    def __call__(self, task: str, done: int, total: int, /) -> None:
        """Show that `done` of `total` parts of `task` are done."""
        if not self._console.is_terminal:
            return
        if self._bar is None or task != self._task:
            self.hide()
            self._bar, self._task = self._begun(task), task
        self._bar.update(self._bar.task_ids[0], completed=done, total=total)
        if done >= total:
            self.hide()

    def hide(self) -> None:
        """Take the bar away until there is something to show again."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def above(self, function: Callable[..., None]) -> Callable[..., None]:
        """Return `function`, which prints, with the bar out of its way."""

        def printing(*arguments: Any) -> None:
            self.hide()
            function(*arguments)

        return printing

    def _begun(self, task: str) -> Progress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        # What commands print goes where it belongs, which need not be this terminal.
        bar = Progress(*columns, console=self._console, transient=True, redirect_stdout=False, redirect_stderr=False)
        bar.add_task(task, total=None)
        bar.start()
        return bar


@contextmanager
def progress_bar() -> Iterator[ProgressBar]:
    """Yield a bar for one verb, which is taken away when the verb ends, however it ends."""
    bar = ProgressBar()
    try:
        yield bar
    finally:
        bar.hide()


def print_table(title: str, columns: list[str], rows: Sequence[Sequence[str]], left: int = 1, width: int = 160) -> None:
    """Print a table, at most `width` wide where there is no terminal; its first `left` columns are aligned left."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # as Text: "[cpu]" is not markup here
    console = Console()
    # A pipe or a log has no width of its own: let every row have its one line.
    Console(width=None if console.is_terminal else width, highlight=False).print(table)


def print_records(records: Sequence[PrecisionFile]) -> None:
    """Print what was converted and what that costs, and every layer that stays in float32 with the reason."""
    rows = []
    for record in records:
        measured = record.against_float32
        converted = " + ".join(f"{role} {len(item.converted)}" for role, item in record.roles.items())
        float32_layers = sum(len(item.float32_layers) for item in record.roles.values())
        images = ""
        if measured.only_reference_right is not None:
            images = f"{measured.only_reference_right} lost, {measured.only_this_right} won"
        changed = "" if record.changed_answers is None else str(record.changed_answers)
        rows.append(
            (record.variant, record.layer, record.precision, converted, str(float32_layers),
             f"{100 * measured.value:.2f}", f"{100 * measured.reference:.2f}", images, changed)
        )  # fmt: skip
    first = records[0].against_float32
    columns = [
        "variant",
        "cut after",
        "precision",
        "layers converted",
        "kept",
        first.name,
        "float32",
        "images",
        "changed",
    ]
    print_table(f"Precision, evaluated on {first.samples} images", columns, rows, left=4)
    for record in records:
        for item in (float32_layers for role in record.roles.values() for float32_layers in role.float32_layers):
            where = f"{record.variant} {record.layer} {record.precision}"
            click.echo(f"{where}: {item.layer} stays {item.precision}, {item.reason}")
