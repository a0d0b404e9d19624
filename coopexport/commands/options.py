"""Options that several commands share: where to cut, how ranges are chosen, what runs here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from coopexport.output import project_option, variant_option

if TYPE_CHECKING:
    from exporter.project.settings import Project

_Function = TypeVar("_Function", bound=Callable[..., Any])
_CUT_OPTIONS = (
    project_option,
    variant_option,
    click.option("--layer", "layer_names", multiple=True, help="Layer to cut after, e.g. conv4_1; repeatable."),
    click.option(
        "--all", "all_layers", is_flag=True, help="The project's candidates, or every clean cut when it names none."
    ),
    click.option(
        "--at", type=click.Choice(["post-activation", "pre-activation"]), help="After the activation, or before it."
    ),
    click.option(
        "--max-tensors", "maximum_tensors", type=click.IntRange(1, 16), help="How many tensors may cross a cut."
    ),
)
_RANGE_OPTIONS = (
    click.option("--bits", type=click.IntRange(1, 8), help="Bits of a symbol."),
    click.option("--clip", type=click.Choice(["minmax", "percentile", "mse", "kl"]), help="How the range is chosen."),
    click.option("--percentile", type=float, help="Percentile that --clip percentile keeps."),
    click.option(
        "--granularity", type=click.Choice(["tensor", "channel"]), help="One range for the tensor, or one per channel."
    ),
)


def cut_options(function: _Function) -> _Function:
    """Add the options that say of which project and variants, and where to cut."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(_CUT_OPTIONS), function)


def range_options(function: _Function) -> _Function:
    """Add the options that say how the range of a feature is chosen."""
    return reduce(lambda wrapped, option: option(wrapped), reversed(_RANGE_OPTIONS), function)


@contextmanager
def naming_options() -> Iterator[None]:
    """Let an error about a setting that an option of the running command gave name the option."""
    from exporter.project.overrides import SettingError
    from jetson.errors import InputError

    try:
        yield
    except SettingError as error:
        options = {str(item.name): item.opts[0] for item in click.get_current_context().command.params}
        if error.key not in options:
            raise
        raise InputError(f"{options[error.key]}: {error.problem}") from None


def project_here(project_file: Path | None) -> Project | None:
    """Return the project that is named, or the nearest one above the working directory, where there is one."""
    from exporter.project.settings import PROJECT_FILE, load_project

    here = Path.cwd()
    if project_file is None and not any((folder / PROJECT_FILE).is_file() for folder in (here, *here.parents)):
        return None
    return load_project(project_file)


target_option = click.option("--target", "target_name", default="cpu", show_default=True, help="What runs here.")
