"""What calibrate, search and split share: where to cut, how ranges are chosen, and what of that the project says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import click

from coopexport.output import left_out, project_option, variant_option

if TYPE_CHECKING:
    from exporter.layers.candidates import Layer
    from exporter.project.settings import Project, SplitSection
    from exporter.variants.choice import ChosenVariant
    from exporter.variants.layer_graphs import LayerGraph

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
    from jetson.errors import CoopexportError

    try:
        yield
    except SettingError as error:
        options = {str(item.name): item.opts[0] for item in click.get_current_context().command.params}
        if error.key not in options:
            raise
        raise CoopexportError(f"{options[error.key]}: {error.problem}") from None


def split_settings(project: Project, overrides: dict[str, Any]) -> SplitSection:
    """Return the project's split settings with the options that were given on the command line."""
    from pydantic import ValidationError

    from exporter.project.settings import SplitSection
    from jetson.errors import CoopexportError

    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        return SplitSection.model_validate({**project.settings.split.model_dump(), **given})
    except ValidationError as error:
        problem = error.errors()[0]
        raise CoopexportError(f"--{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


@dataclass(frozen=True)
class Work:
    """A variant and where to cut it."""

    graph: LayerGraph
    layers: list[Layer]


def find_work(
    project: Project, variant_names: tuple[str, ...], layer_names: tuple[str, ...], all_layers: bool, at: str
) -> list[Work]:
    """Return which variants to cut where, exporting those whose graph is missing or stale.

    Variants that are not for any of the layers are left out, and the user is told how many. Raises CoopexportError
    when a variant or a layer does not exist, a variant is stale, or none is left.
    """
    from exporter.variants.choice import chosen_variants, naming
    from exporter.variants.layer_graphs import layer_graph
    from jetson.errors import CoopexportError

    chosen = chosen_variants(project, variant_names)
    found = []
    for choice in chosen:
        with naming(choice.name):
            graph = layer_graph(project, choice.name)
            found.append(Work(graph, choose_layers(project, graph, layer_names, all_layers, at, choice)))
    work = [item for item in found if item.layers]
    if not work:
        raise CoopexportError(
            f"none of {len(chosen)} variants is to be cut there; name one alone with --variant, and a --layer, or "
            "change split.candidates"
        )
    left_out(len(found) - len(work), layer_names)
    return work


def choose_layers(
    project: Project,
    graph: LayerGraph,
    layer_names: tuple[str, ...],
    all_layers: bool,
    at: str,
    choice: ChosenVariant | None = None,
) -> list[Layer]:
    """Return the layers that options or the project name, in the network's order, each once.

    Without names of its own `--all` takes every clean cut; before the activation (`at`) those that have one. A variant
    that was made for some cuts (`choice`) is cut only there, unless the user names it and a layer.
    """
    from exporter.layers.names import find_layer

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
    if choice is not None and choice.cuts is not None:
        wanted = (*choice.cuts, *(layer_names if choice.named else ()))
        chosen &= {find_layer(graph.layers, name).name for name in wanted}
    return [layer for layer in graph.layers if layer.name in chosen]


target_option = click.option("--target", "target_name", default="cpu", show_default=True, help="What runs here.")
