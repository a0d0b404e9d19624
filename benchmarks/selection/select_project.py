"""Choose network, cut and coding for every link of a project, and write the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.selection.partition_policy import write_partition_policy
from benchmarks.selection.project_selection import ProjectSelection, select_for_project
from exporter.project.overrides import overridden
from exporter.project.settings import Project


@dataclass(frozen=True)
class SelectRequest:
    """What to select for; None: as the project file says.

    `target`: whose latencies stand for the edge; `device_slowdown`: how many times slower the device is taken to be;
    `maximum_loss_points`: accuracy bound against the unpruned network, in points; `goodput_bps`: delivered bits per
    second by name of the link.
    """

    target: str = "cpu"
    device_slowdown: float | None = None
    maximum_loss_points: float | None = None
    goodput_bps: Mapping[str, float] | None = None


@dataclass(frozen=True)
class SelectResult:
    """What was selected, with all that explains it, and the plan file that holds it."""

    selected: ProjectSelection
    path: Path


def select_project(
    project: Project,
    request: SelectRequest = SelectRequest(),
    on_result: Callable[[ProjectSelection], None] | None = None,
) -> SelectResult:
    """Choose for every link, and for every goodput, the fastest candidate within the accuracy bound.

    `on_result` is given the selection before the plan is written. Raises CoopexportError when a value is not allowed,
    bundles or latencies are missing or stale, or no candidate is left; OSError when the plan cannot be written.
    """
    settings = overridden(
        project.settings.select,
        {
            "device_slowdown": request.device_slowdown,
            "maximum_loss_points": request.maximum_loss_points,
            "goodput_bps": request.goodput_bps,
        },
    )
    selected = select_for_project(project, settings, request.target)
    if on_result is not None:
        on_result(selected)
    return SelectResult(selected, write_partition_policy(project, selected))
