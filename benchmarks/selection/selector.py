"""Choose variant, cut and coding for one goodput and for all: exact, by the model of `latency_model`.

Two objectives: least end-to-end latency under an accuracy bound, or, with a latency bound, the least loss of accuracy.
Ties go to the other of the two, then to the first candidate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np

from benchmarks.planning.best_accuracy import best_accuracy
from benchmarks.planning.columns import Columns, Indices, columns_of, latencies_ms, least, lines_of
from benchmarks.planning.constraints import Constraints, judged
from benchmarks.planning.envelope import lower_envelope
from benchmarks.planning.hysteresis import stay_ranges
from benchmarks.planning.latency_model import INPUT, OUTPUT, Candidate, Origin, describe, latency_ms
from benchmarks.planning.quantiles import goodput_at_percentile
from jetson.errors import InputError

# The latency model's names are the selector's, too.
__all__ = [
    "IDLE", "INPUT", "OUTPUT", "Candidate", "Constraints", "Envelope", "Interval", "LinkChoice", "Options", "Origin",
    "Selection", "describe", "latency_ms", "select",
]  # fmt: skip

# The load at which times are measured: its factor is 1.
IDLE = "idle"


@dataclass(frozen=True)
class Interval:
    """Goodputs from `from_bps` up to `upto_bps` (None: infinity) at which candidate number `candidate` is best.

    `stay_from_bps`, `stay_upto_bps`: where it is held once it is chosen, so that a moving goodput does not flap.
    """

    from_bps: float
    upto_bps: float | None
    candidate: int
    stay_from_bps: float
    stay_upto_bps: float | None


@dataclass(frozen=True)
class Envelope:
    """The best candidate at every goodput, for loads of device and edge by name, and a round trip of the link.

    `bound_from_bps`: from which goodput on the latency bound is kept; 0 without one, None where it never is.
    """

    device_load: str
    edge_load: str
    round_trip_ms: float
    intervals: tuple[Interval, ...]
    bound_from_bps: float | None = 0.0


@dataclass(frozen=True)
class LinkChoice:
    """The best candidate on one link, and its latency there.

    `over_ms`: how far over the latency bound it is; then it has the least latency, because none keeps the bound there.
    """

    link: str
    goodput_bps: float
    candidate: int
    latency_ms: float
    round_trip_ms: float = 0.0
    over_ms: float = 0.0


@dataclass(frozen=True)
class Selection:
    """What `select` decided: all candidates (those left out with their reasons), intervals, and named links.

    `intervals`: of the first of `envelopes`, which is at idle machines and the first link's round trip.
    """

    candidates: tuple[Candidate, ...]
    intervals: tuple[Interval, ...]
    links: tuple[LinkChoice, ...]
    envelopes: tuple[Envelope, ...] = ()


class LinkLike(Protocol):
    """A link: its name, delivered bits per second, and round trip in milliseconds."""

    @property
    def name(self) -> str: ...
    @property
    def goodput_bps(self) -> float: ...
    @property
    def round_trip_ms(self) -> float: ...


class _Link(NamedTuple):
    name: str
    goodput_bps: float
    round_trip_ms: float


@dataclass(frozen=True)
class Options:
    """What a selection depends on beside candidates, links and the accuracy bound.

    `maximum_latency_ms`: choose the most accurate candidate within it, and not the fastest. `round_trip_ms`: of links
    that are given as goodputs. `goodput_samples_bps`: samples of a varying goodput; the choice with the least
    `latency_percentile`-th percentile of latency over them is added as a link. `device_loads`, `edge_loads`: factors on
    the times of a machine by the name of a load; `idle`, factor 1, is always among them (the load levels of BBNet's
    Algorithm 1, Zhou et al. 2021). `hysteresis_percent`: by how much another choice has to be better before one is
    left. `constraints`: what may be chosen; its accuracy bound is the selection's.
    """

    maximum_latency_ms: float | None = None
    round_trip_ms: float = 0.0
    goodput_samples_bps: tuple[float, ...] = ()
    latency_percentile: float = 95.0
    device_loads: Mapping[str, float] = field(default_factory=dict)
    edge_loads: Mapping[str, float] = field(default_factory=dict)
    hysteresis_percent: float = 5.0
    constraints: Constraints = field(default_factory=Constraints)


def select(
    candidates: Sequence[Candidate],
    goodput_bps: Mapping[str, float] | Iterable[LinkLike],
    maximum_loss_points: float,
    options: Options = Options(),
) -> Selection:
    """Return the best candidate for each link and for every goodput.

    `goodput_bps`: bits per second by link name, or links. Candidates that lose more than `maximum_loss_points`, or may
    not be chosen, are left out with that reason. Raises InputError when a number is not allowed, or no candidate keeps
    a bound; for the bound of latency, when none keeps it on any link.
    """
    _check_options(options)
    links = _links(goodput_bps, options)
    columns = columns_of(candidates)
    constraints = replace(options.constraints, maximum_loss_points=maximum_loss_points)
    found, allowed = judged(candidates, columns, constraints)
    usable = columns.at(allowed)
    choices = tuple(_on_link(usable, allowed, link, options.maximum_latency_ms) for link in links)
    if choices and all(choice.over_ms > 0 for choice in choices):
        raise InputError(_over_bound(found, choices, options.maximum_latency_ms))
    envelopes = tuple(_envelopes(usable, allowed, links, options))
    return Selection(found, envelopes[0].intervals, choices, envelopes)


def _on_link(columns: Columns, numbers: Indices, link: _Link, maximum_latency_ms: float | None) -> LinkChoice:
    """Return the best of the columns' candidates on one link; `numbers`: theirs among all."""
    times_ms = latencies_ms(columns, link.goodput_bps, link.round_trip_ms)
    row, over_ms = least(times_ms, columns.loss_points), 0.0
    if maximum_latency_ms is not None:
        within = np.flatnonzero(times_ms <= maximum_latency_ms)
        if len(within):
            row = int(within[least(columns.loss_points[within], times_ms[within])])
        else:
            over_ms = float(times_ms[row]) - maximum_latency_ms
    return LinkChoice(link.name, link.goodput_bps, int(numbers[row]), float(times_ms[row]), link.round_trip_ms, over_ms)


def _envelopes(columns: Columns, numbers: Indices, links: Sequence[_Link], options: Options) -> Iterable[Envelope]:
    """Return an envelope for each load of device and edge and each round trip, idle and the first link first."""
    round_trips_ms = dict.fromkeys([link.round_trip_ms for link in links] or [options.round_trip_ms])
    for device_load, device_factor in {IDLE: 1.0, **options.device_loads}.items():
        for edge_load, edge_factor in {IDLE: 1.0, **options.edge_loads}.items():
            loaded = columns.loaded(device_factor, edge_factor)
            for round_trip_ms in round_trips_ms:
                intervals, bound_from_bps = _intervals(loaded, numbers, round_trip_ms, options)
                yield Envelope(device_load, edge_load, round_trip_ms, intervals, bound_from_bps)


def _intervals(
    columns: Columns, numbers: Indices, round_trip_ms: float, options: Options
) -> tuple[tuple[Interval, ...], float | None]:
    margin = options.hysteresis_percent / 100.0
    bound_from_bps = 0.0
    if options.maximum_latency_ms is None:
        lines = lines_of(columns, round_trip_ms)
        chain = lower_envelope(lines)
        stay_from, stay_upto = stay_ranges(lines, chain, margin)
    else:
        best = best_accuracy(columns, round_trip_ms, options.maximum_latency_ms, margin)
        chain, stay_from, stay_upto = best.chain, best.stay_from_bps, best.stay_upto_bps
        bound_from_bps = best.bound_from_bps
    rows = zip(
        chain.from_bps.tolist(), chain.upto_bps.tolist(), numbers[chain.lines].tolist(), stay_from.tolist(),
        stay_upto.tolist(), strict=True,
    )  # fmt: skip
    intervals = tuple(
        Interval(begin, _finite(end), number, stay_begin, _finite(stay_end))
        for begin, end, number, stay_begin, stay_end in rows
    )
    return intervals, _finite(bound_from_bps)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _links(given: Mapping[str, float] | Iterable[LinkLike], options: Options) -> list[_Link]:
    """Return the links, and the one that stands for samples of the goodput; raises InputError for what is none."""
    if isinstance(given, Mapping):
        links = [_Link(name, goodput, options.round_trip_ms) for name, goodput in given.items()]
    else:
        links = [_Link(link.name, link.goodput_bps, link.round_trip_ms) for link in given]
    if options.goodput_samples_bps:
        goodput = goodput_at_percentile(options.goodput_samples_bps, options.latency_percentile)
        links.append(_Link(f"p{options.latency_percentile:g} of the samples", goodput, options.round_trip_ms))
    for link in links:
        if not 0 < link.goodput_bps < math.inf:
            raise InputError(
                f"the goodput of {link.name} is {link.goodput_bps}: it must be a positive number of bits per second"
            )
        if not 0 <= link.round_trip_ms < math.inf:
            raise InputError(
                f"the round trip of {link.name} is {link.round_trip_ms}: it must be milliseconds from 0 on"
            )
    return links


def _check_options(options: Options) -> None:
    """Raise InputError for a number that is not allowed."""
    bound = options.maximum_latency_ms
    if bound is not None and not 0 < bound < math.inf:
        raise InputError(f"maximum_latency_ms is {bound}: it must be a positive number of milliseconds")
    if not 0 <= options.hysteresis_percent < math.inf:
        raise InputError(f"hysteresis_percent is {options.hysteresis_percent}: it must be a number from 0 on")
    if not 0 <= options.round_trip_ms < math.inf:
        raise InputError(f"round_trip_ms is {options.round_trip_ms}: it must be milliseconds from 0 on")
    for name, loads in (("device_loads", options.device_loads), ("edge_loads", options.edge_loads)):
        for load, factor in loads.items():
            if not 0 < factor < math.inf:
                raise InputError(f"{name}: the factor of {load} is {factor}: it must be a positive number")
            if load == IDLE and factor != 1:
                raise InputError(
                    f"{name}: {IDLE} is the load that times are measured at, its factor is 1, not {factor:g}"
                )


def _over_bound(candidates: Sequence[Candidate], choices: Sequence[LinkChoice], bound_ms: float | None) -> str:
    """Return that no candidate keeps the latency bound, and the one that comes nearest."""
    nearest = min(choices, key=lambda choice: choice.over_ms)
    where = f"at {nearest.goodput_bps / 1e6:g} Mbit/s" + ("" if len(choices) == 1 else f" ({nearest.link})")
    return (
        f"no candidate takes at most {bound_ms:g} ms {where}: the nearest, {describe(candidates[nearest.candidate])}, "
        f"takes {nearest.latency_ms:.3f} ms"
    )
