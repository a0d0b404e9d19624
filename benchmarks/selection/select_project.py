"""Choose network, cut and coding for every link of a project, and write the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.links.link import Link
from benchmarks.selection.partition_policy import write_partition_policy
from benchmarks.selection.project_selection import ProjectSelection, select_for_project
from exporter.project.link_section import Protocol
from exporter.project.overrides import overridden
from exporter.project.settings import Precision, Project


@dataclass(frozen=True)
class SelectRequest:
    """What to select for; None: as the project file says.

    `target`: whose latencies stand for the edge. All others are keys of `[select]`: `device_target`: whose latencies
    are the device's; `device_slowdown`: how many times slower the device is taken to be, where it was not measured;
    `maximum_loss_points`: accuracy bound against the unpruned network, in points; `goodput_bps`: delivered bits per
    second by name of the link; `maximum_latency_ms`: choose the most accurate within it; `latency_percentile`: over
    `goodput_samples_bps`; `maximum_device_memory_bytes`, `maximum_device_mj`, `batch`, `precisions`, `upload`, `cuts`:
    what may be chosen; `device_loads`, `edge_loads`: factors by name; `hysteresis_percent`: of the plan;
    `protocol`: what carries messages.
    """

    target: str = "cpu"
    device_slowdown: float | None = None
    maximum_loss_points: float | None = None
    goodput_bps: Mapping[str, float] | None = None
    device_target: str | None = None
    round_trip_ms: float | None = None
    maximum_latency_ms: float | None = None
    goodput_samples_bps: Sequence[float] | None = None
    latency_percentile: float | None = None
    maximum_device_memory_bytes: float | None = None
    maximum_device_mj: float | None = None
    batch: int | None = None
    precisions: Sequence[Precision] | None = None
    upload: bool | None = None
    cuts: Mapping[str, Sequence[str]] | None = None
    device_loads: Mapping[str, float] | None = None
    edge_loads: Mapping[str, float] | None = None
    hysteresis_percent: float | None = None
    protocol: Protocol | None = None


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
    """Choose for every link, and for every goodput, the best candidate within the bounds.

    `on_result` is given the selection before the plan is written. Raises CoopexportError when a value is not allowed,
    bundles or latencies are missing or stale, or no candidate is left; OSError when the plan cannot be written.
    """
    settings = overridden(project.settings.select, vars(request))
    links = None
    if request.goodput_bps is not None:  # given here, it is in the place of the project file's links
        links = [Link(name, bps, settings.round_trip_ms) for name, bps in request.goodput_bps.items()]
    selected = select_for_project(project, settings, request.target, links)
    if on_result is not None:
        on_result(selected)
    return SelectResult(selected, write_partition_policy(project, selected))
