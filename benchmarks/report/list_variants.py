"""List all variants of a project's network with what they cost and are worth, and draw accuracy against both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from benchmarks.report.variants_figures import Quantity, accuracy_figure
from benchmarks.report.variants_table import VariantRow, sorted_rows, variant_rows
from calibration.variants.registry import open_registry
from exporter.progress import OnProgress, no_progress
from exporter.project.settings import Project
from exporter.variants.layer_graphs import variants
from exporter.variants.record import VariantRecord
from jetson.files.atomic_files import write_files

QUANTITIES: tuple[Quantity, ...] = ("macs", "bytes")


@dataclass(frozen=True)
class VariantsRequest:
    """How to list. `sort`: by `macs` or `bytes` (fewest first) or `metric` (best first); None: the project's order."""

    sort: Literal["macs", "bytes", "metric"] | None = None


@dataclass(frozen=True)
class VariantsResult:
    """All variants, as sorted; `original`: the record that the others are compared with.

    `outdated`: by variant, why its record does not hold and no other could be made. `figures`: the files drawn; none
    without matplotlib.
    """

    rows: tuple[VariantRow, ...]
    original: VariantRecord
    outdated: dict[str, str]
    figures: tuple[Path, ...] = ()


def list_variants(
    project: Project,
    request: VariantsRequest = VariantsRequest(),
    on_progress: OnProgress = no_progress,
    on_result: Callable[[VariantsResult], None] | None = None,
) -> VariantsResult:
    """Return every variant, measured again where its record no longer holds, and write both figures.

    `on_result` is given the result before the figures are drawn, without them. Raises CoopexportError when there are no
    evaluation data, or no record of a variant and no way to one; OSError when the figures cannot be written.
    """
    task, total = "measuring variants", len(variants(project))
    on_progress(task, 0, total)
    registry = open_registry(project, lambda done: on_progress(task, done, total))
    rows = variant_rows(project, registry)
    result = VariantsResult(tuple(sorted_rows(rows, request.sort)), rows[0].record, dict(registry.outdated))
    if on_result is not None:
        on_result(result)
    if find_spec("matplotlib") is None:
        return result
    return replace(result, figures=_write_figures(project, rows))


def _write_figures(project: Project, rows: list[VariantRow]) -> tuple[Path, ...]:
    """Write both figures, or none, and return their paths; `rows` in the project's order."""
    bound = project.settings.select.maximum_loss_points
    files = {
        f"accuracy_against_{name}.svg": accuracy_figure(rows, name, rows[0].record.metric.name, bound)
        for name in QUANTITIES
    }
    folder = project.output / "figures"
    write_files(str(folder), files)
    return tuple(folder / name for name in files)
