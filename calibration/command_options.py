"""What calibrate, search and split share: where to cut, how ranges are chosen, and what of that the project says."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import click

from exporter.command_line import project_option, variant_option

if TYPE_CHECKING:
    from exporter.candidates import Layer
    from exporter.project import Project, SplitSection
    from exporter.variants import LayerGraph

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


def split_settings(project: Project, overrides: dict[str, Any]) -> SplitSection:
    """Return the project's split settings with the options that were given on the command line."""
    from pydantic import ValidationError

    from exporter.project import SplitSection
    from jetson.errors import CoopexportError

    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return SplitSection.model_validate({**project.settings.split.model_dump(), **given})
    except ValidationError as error:
        problem = error.errors()[0]
        raise CoopexportError(f"--{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def choose_layers(
    project: Project, graph: LayerGraph, layer_names: tuple[str, ...], all_layers: bool, at: str
) -> list[Layer]:
    """Return the layers that options or the project name, in the network's order, each once.

    Without names of its own `--all` takes every clean cut; before the activation (`at`) those that have one.
    """
    from exporter.layer_names import find_layer

    names = list(layer_names)
    if all_layers:
        names += project.settings.split.candidates or [
            layer.name
            for layer in graph.layers
            if layer.clean
            and layer.macs_before > 0
            and (at == "post-activation" or layer.tensor_before_activation is not None)
        ]
    chosen = {find_layer(graph.layers, name).name for name in names}
    return [layer for layer in graph.layers if layer.name in chosen]
