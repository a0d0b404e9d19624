"""One call that selects: from a project, or from candidates with numbers of any origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

from benchmarks.planning.latency_model import Candidate
from benchmarks.selection import selector
from benchmarks.selection.project_selection import options_of
from benchmarks.selection.select_project import SelectRequest, select_project
from benchmarks.selection.selector import Selection
from exporter.project.link_section import Protocol as WireProtocol
from exporter.project.overrides import overridden
from exporter.project.settings import Precision, Project, SelectSection, load_project
from jetson.errors import InputError


class HasProjectFile(Protocol):
    """What stands for a project file, as `coopexport.Project` does."""

    @property
    def file(self) -> Project:
        """What the project file says now."""


def select(
    source: Sequence[Candidate] | HasProjectFile | Project | str | Path,
    goodput_bps: Mapping[str, float] | None = None,
    maximum_loss_points: float | None = None,
    *,
    target: str | None = None,
    device_target: str | None = None,
    device_slowdown: float | None = None,
    round_trip_ms: float | None = None,
    maximum_latency_ms: float | None = None,
    goodput_samples_bps: Sequence[float] | None = None,
    latency_percentile: float | None = None,
    maximum_device_memory_bytes: float | None = None,
    maximum_device_mj: float | None = None,
    batch: int | None = None,
    precisions: Sequence[Precision] | None = None,
    upload: bool | None = None,
    cuts: Mapping[str, Sequence[str]] | None = None,
    device_loads: Mapping[str, float] | None = None,
    edge_loads: Mapping[str, float] | None = None,
    hysteresis_percent: float | None = None,
    protocol: WireProtocol | None = None,
) -> Selection:
    """Return the best way to run the network on each link, and at every goodput.

    `source`: a project, its file, or candidates; of a project the plan is written, too, as `coopexport select` does.
    All else are keys of `[select]` (docs/formats.md). Where they are None, the project file decides; for candidates
    that have no project, the defaults of `[select]`: three links, one point of accuracy, batches of 1. `target`,
    `device_target` and `device_slowdown` say where a project's times come from; candidates have theirs. Raises
    CoopexportError when a value is not allowed, something is missing or stale, or no candidate keeps the bounds: then
    it names the nearest.
    """
    request = SelectRequest(
        target or "cpu", device_slowdown, maximum_loss_points, goodput_bps, device_target, round_trip_ms,
        maximum_latency_ms, goodput_samples_bps, latency_percentile, maximum_device_memory_bytes, maximum_device_mj,
        batch, precisions, upload, cuts, device_loads, edge_loads, hysteresis_percent, protocol,
    )  # fmt: skip
    project = _project(source)
    if project is not None:
        return select_project(project, request).selected.selection
    for name, value in (("target", target), ("device_target", device_target), ("device_slowdown", device_slowdown)):
        if value is not None:
            raise InputError(f"{name} is for a project: candidates have their times already", fix=f"leave {name} out")
    settings = overridden(SelectSection(), vars(request))
    candidates = cast(Sequence[Candidate], source)
    return selector.select(candidates, settings.goodput_bps, settings.maximum_loss_points, options_of(settings))


def _project(source: Sequence[Candidate] | HasProjectFile | Project | str | Path) -> Project | None:
    """Return the project that is meant; None for candidates."""
    if isinstance(source, Project):
        return source
    if isinstance(source, (str, Path)):
        return load_project(Path(source))
    return None if isinstance(source, Sequence) else source.file
