"""The links of a project: its sections `[links.<name>]`, or else the goodputs of `[select]`."""

from __future__ import annotations

from benchmarks.links.link import Link
from benchmarks.links.measurement import link_of, read_measurement
from benchmarks.links.presets import find_preset
from benchmarks.links.trace import GoodputDistribution, distribution, read_trace
from exporter.project.link_section import LEAST_BPS, MOST_BPS, LinkSection, unlikely
from exporter.project.settings import PROJECT_FILE, Project
from jetson.errors import CoopexportError, InputError, reworded


def project_links(project: Project) -> tuple[Link, ...]:
    """Return the links of `[links]`, in the file's order; without that section those of `[select] goodput_bps`.

    Raises CoopexportError naming the link when its preset does not exist, or its file is missing or damaged.
    """
    sections = project.settings.links
    if not sections:
        goodputs = project.settings.select.goodput_bps
        return tuple(
            Link(name, bps, source=f"[select] goodput_bps of {PROJECT_FILE}") for name, bps in goodputs.items()
        )
    return tuple(_named(name, project, section) for name, section in sections.items())


def trace_distribution(project: Project, name: str) -> GoodputDistribution:
    """Return how the goodput of the link `name` is distributed over time; raises InputError if it has no trace."""
    section = project.settings.links.get(name)
    if section is None or section.trace is None:
        raise InputError(f'the link "{name}" has no trace', fix=f'give it one: [links."{name}"] trace = "FILE.csv"')
    return distribution(read_trace(project.path(section.trace)))


def _named(name: str, project: Project, section: LinkSection) -> Link:
    try:
        return _link(name, project, section)
    except CoopexportError as error:
        raise reworded(error, f"links.{name}: {error}") from None


def _link(name: str, project: Project, section: LinkSection) -> Link:
    if section.measured is not None:
        measured = link_of(name, read_measurement(project.path(section.measured)), section.measured)
        return Link(name, measured.goodput_bps, measured.round_trip_ms, section.loss, measured.source)
    if section.preset is not None:
        preset = find_preset(section.preset)
        round_trip_ms = preset.round_trip_ms if section.round_trip_ms is None else section.round_trip_ms
        return Link(name, preset.goodput_bps, round_trip_ms, section.loss, f"preset {preset.name}: {preset.source}")
    if section.trace is not None:
        return _of_trace(name, project, section, section.trace)
    assert section.goodput_bps is not None
    source = f"[links.{name}] of {PROJECT_FILE}"
    return Link(name, section.goodput_bps, section.round_trip_ms or 0.0, section.loss, source)


def _of_trace(name: str, project: Project, section: LinkSection, file: str) -> Link:
    trace = read_trace(project.path(file))
    found = distribution(trace)
    low, median, high = (found.quantile(share) for share in (0.1, 0.5, 0.9))
    if not LEAST_BPS <= median <= MOST_BPS:
        raise InputError(f"{file}: its median is {unlikely(median)}", path=project.path(file))
    source = (
        f"{file}: median over {sum(trace.durations_s):.3g} s (10 % of the time at or below {low / 1e6:.3g} Mbit/s, "
        f"90 % at or below {high / 1e6:.3g})"
    )
    return Link(name, median, section.round_trip_ms or 0.0, section.loss, source)
