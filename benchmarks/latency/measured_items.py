"""What is measured of a project: its bundles in every precision that is asked for, and how their engines are built."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.building.build_items import FLOAT32, WHOLE, BuildItem, item_of_whole, items_of_layer
from engines.building.project_items import items_of_project
from exporter.bundles.precision_file import precision_file_name
from exporter.project.settings import Precision, Project
from jetson.engines.build_settings import BuildSettings
from jetson.errors import StaleError


@dataclass(frozen=True)
class MeasuredItems:
    """Graphs to measure, bundle by bundle, in each precision.

    `left_out`: variants that are not for the layers that are asked for. `without_form`: in words, which bundles have no
    form in which precision: these are left out.
    """

    items: tuple[BuildItem, ...]
    left_out: tuple[str, ...]
    without_form: tuple[str, ...]

    @property
    def folders(self) -> tuple[Path, ...]:
        """Return the folders of the variants, in order."""
        return tuple(dict.fromkeys(item.folder for item in self.items))


def items_to_measure(
    project: Project, variant_names: tuple[str, ...], layer_names: tuple[str, ...], precisions: Sequence[Precision]
) -> MeasuredItems:
    """Return what there is to measure in `precisions`.

    Raises CoopexportError as `items_of_project`, when a form in another precision is stale, and when nothing is left.
    """
    found = items_of_project(project, variant_names, layer_names)
    items: list[BuildItem] = []
    without_form: list[str] = []
    for (folder, layer), grouped in itertools.groupby(found.items, lambda item: (item.folder, item.layer)):
        bundle = list(grouped)
        for precision in precisions:
            if precision == FLOAT32:
                items += bundle
            elif (folder / precision_file_name(layer, precision)).is_file():
                whole = layer == WHOLE
                items += [item_of_whole(folder, precision)] if whole else items_of_layer(folder, layer, precision)
            else:
                without_form.append(f"{bundle[0].variant} {layer} in {precision}")
    if not items:
        raise StaleError(
            f"nothing to measure was converted to {' or '.join(precisions)}",
            fix=f"convert it with: coopexport precision --all {' '.join(f'--precision {name}' for name in precisions)}",
        )
    return MeasuredItems(tuple(items), found.left_out, tuple(without_form))


def item_settings(settings: BuildSettings, precision: str, batch: int) -> BuildSettings:
    """Return `settings` for a graph in a precision that takes `batch` samples; no DLA computes in float32."""
    dla_core = None if precision == FLOAT32 else settings.dla_core
    return settings._replace(precision=precision, batches=(batch, batch, batch), dla_core=dla_core)
