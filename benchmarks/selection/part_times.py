"""The times of a candidate's parts, on the edge and on the device, out of the latency table's rows."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from benchmarks.latency.table import Latency
from benchmarks.planning.latency_model import Origin
from engines.building.build_items import FLOAT32, WHOLE

# Target, variant, layer, part, codec: what names a row of the latency table.
Key = tuple[str, str, str, str, str]
_Part = tuple[str, str, str, str]


@dataclass(frozen=True)
class TargetTimes:
    """What is known of one target in one precision and batch.

    Its rows, why others failed or do not count any more, and what was predicted.
    """

    target: str
    rows: Mapping[_Part, Latency]
    failed: Mapping[_Part, str] = field(default_factory=dict)
    predicted: Mapping[_Part, Latency] = field(default_factory=dict)
    expired: Mapping[_Part, str] = field(default_factory=dict)


def times_of_target(
    target: str, rows: Iterable[Latency], failed: Mapping[Key, str], predicted: Iterable[Latency] = (),
    expired: Mapping[Key, str] | None = None,
) -> TargetTimes:  # fmt: skip
    """Return what `rows`, `failed`, `predicted` and `expired` hold of one target."""
    return TargetTimes(
        target,
        {_part_of(row): row for row in rows if row.target == target},
        {key[1:]: reason for key, reason in failed.items() if key[0] == target},
        {_part_of(row): row for row in predicted if row.target == target},
        {key[1:]: reason for key, reason in (expired or {}).items() if key[0] == target},
    )


def _part_of(row: Latency) -> _Part:
    return row.variant, row.layer, row.part, row.codec


def median_ms(row: Latency) -> float:
    """Return what a part takes, as its target's newest sitting would have measured it where the two can be compared."""
    return row.p50_ms if row.factor is None else row.factor * row.p50_ms


@dataclass(frozen=True)
class Sources:
    """Where times come from: the edge's target, and the device's, or how many times slower the device is taken to be.

    Without a device, and for parts that were not measured on it, the device takes `device_slowdown` times the edge's.
    `compared_parts`: over how many parts that both measured it is the median ratio; 0 where it is assumed. All is of
    one precision (what handles images is of float32) and of batches of `batch` images. `others`: by name the sources of
    other precisions. `slowdown_from`: the precision that `device_slowdown` was measured in, where that is another.
    """

    edge: TargetTimes
    device_slowdown: float
    device: TargetTimes | None = None
    compared_parts: int = 0
    batch: int = 1
    others: Mapping[str, Sources] = field(default_factory=dict)
    slowdown_from: str = ""

    def of(self, precision: str) -> Sources:
        """Return the sources of a precision; raises KeyError when it has none."""
        return self if precision == FLOAT32 else self.others[precision]

    def with_slowdown(self, device_slowdown: float) -> Sources:
        """Return the same with another slowdown, in all precisions."""
        others = {name: one.with_slowdown(device_slowdown) for name, one in self.others.items()}
        return replace(self, device_slowdown=device_slowdown, others=others)


def measured_slowdown(device: TargetTimes, edge: TargetTimes) -> tuple[float, int] | None:
    """Return how many times slower the device is, and over how many parts: the median ratio of those both measured.

    Over networks (head, tail, whole) where there are any, and else over all parts; None without a part in common on the
    same graph. An assumed slowdown beside measured times would let what was never run there win by a guess.
    """
    ratios = {
        key: median_ms(row) / median_ms(edge.rows[key])
        for key, row in device.rows.items()
        if key in edge.rows and row.source_sha256 == edge.rows[key].source_sha256 and median_ms(edge.rows[key]) > 0
    }
    of_networks = [ratio for (_, _, part, _), ratio in ratios.items() if part in ("head", "tail", WHOLE)]
    chosen = of_networks or list(ratios.values())
    return (statistics.median(chosen), len(chosen)) if chosen else None


@dataclass(frozen=True)
class PartTime:
    """The time of one part in milliseconds, and where it comes from.

    `slowdown`: it is the edge's, and the device's is so many times as long; None: it is not scaled. `slowdown_from`: as
    in its sources. `note`: how sure a prediction is.
    """

    part: str
    ms: float
    origin: Origin
    slowdown: float | None = None
    slowdown_from: str = ""
    note: str = ""


@dataclass(frozen=True)
class SideTime:
    """The time of one side, None where a part of it is not known; the least certain origin of its parts; a note."""

    ms: float | None
    origin: Origin | None
    note: str = ""


def sum_of(sources: Sources, *parts: PartTime | None) -> SideTime:
    """Return the parts of one side together."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return SideTime(None, None)
    total = sum(part.ms for part in known if part.slowdown is None)
    scaled = [part for part in known if part.slowdown is not None]
    # One product for all that is scaled alike, so that a sum of medians is rounded once.
    for slowdown in dict.fromkeys(part.slowdown for part in scaled if part.slowdown is not None):
        total += slowdown * sum(part.ms for part in scaled if part.slowdown == slowdown)
    origins = [part.origin for part in known]
    origin: Origin = "predicted" if "predicted" in origins else "scaled" if scaled else "measured"
    notes = [f"{part.part} {part.note}" for part in known if part.note]
    if sources.device is not None and scaled:
        notes.append(f"{', '.join(part.part for part in scaled)} not measured on {sources.device.target}")
    notes += [
        f"{', '.join(part.part for part in scaled if part.slowdown_from == precision)} scaled as in {precision}"
        for precision in dict.fromkeys(part.slowdown_from for part in scaled if part.slowdown_from)
    ]
    return SideTime(total, origin, "; ".join(notes))


def sum_mj(*parts_mj: float | None) -> float | None:
    """Return the energy of parts together, in millijoules; None where that of one is not known."""
    known = [part for part in parts_mj if part is not None]
    return sum(known) if len(known) == len(parts_mj) else None


class PartTimes:
    """Medians of one layer's parts; remembers which failed, were missing or stale.

    `hashes`: by part what it has to have been measured on, "" for the parts that are not named. `precision`: of the
    networks; what handles images does not depend on it.
    """

    def __init__(
        self, sources: Sources, variant: str, layer: str, hashes: Mapping[str, str], precision: str = FLOAT32
    ) -> None:
        self._sources = sources
        self._precision = precision
        self._key = (variant, layer)
        self._hashes = hashes
        self._failed: list[str] = []
        self._missing: list[str] = []
        self._expired: list[str] = []
        self._stale: list[str] = []

    def edge(self, part: str, codec: str = "") -> PartTime | None:
        """Return a part's median on the edge, None when it is missing or of another graph."""
        key = (*self._key, part, codec)
        times = self._sources_of(part).edge
        row = times.rows.get(key)
        if row is None and key in times.failed:
            self._failed.append(f"{part} failed when it was measured ({times.failed[key]})")
            return None
        if row is not None and self._fits(row):
            return PartTime(part, median_ms(row), "measured")
        predicted = times.predicted.get(key)
        if predicted is not None and self._fits(predicted):
            return PartTime(part, median_ms(predicted), "predicted", note="; ".join(predicted.flags))
        if row is None and key in times.expired:
            self._expired.append(f"{part} was measured under other conditions ({times.expired[key]})")
        else:
            (self._missing if row is None else self._stale).append(part)
        return None

    def device(self, part: str, codec: str = "") -> PartTime | None:
        """Return a part's median on the device, or the edge's, which is to be scaled; None when there is neither.

        A part that failed on the device has no time there: one of another machine would hide that it does not run.
        """
        sources = self._sources_of(part)
        times = sources.device
        key = (*self._key, part, codec)
        if times is not None:
            if key not in times.rows and key in times.failed:
                self._failed.append(f"{part} failed when it was measured on {times.target} ({times.failed[key]})")
                return None
            row, predicted = times.rows.get(key), times.predicted.get(key)
            if row is not None and self._fits(row):
                return PartTime(part, median_ms(row), "measured")
            if predicted is not None and self._fits(predicted):
                return PartTime(part, median_ms(predicted), "predicted", note="; ".join(predicted.flags))
        here = self.edge(part, codec)
        if here is None:
            return None
        return replace(
            here,
            origin="predicted" if here.origin == "predicted" else "scaled",
            slowdown=sources.device_slowdown,
            slowdown_from=sources.slowdown_from,
        )

    def device_memory_bytes(self, part: str) -> int | None:
        """Return the peak memory of a part's engine on the device; None where it was not measured there."""
        row = self._measured_on_device(part, "")
        return None if row is None else row.peak_memory_bytes

    def device_mj(self, part: str, codec: str = "") -> float | None:
        """Return the energy of one run of a part on the device, in millijoules; None where it was not measured."""
        row = self._measured_on_device(part, codec)
        return None if row is None else row.energy_mj

    def _measured_on_device(self, part: str, codec: str) -> Latency | None:
        times = self._sources_of(part).device
        row = None if times is None else times.rows.get((*self._key, part, codec))
        return row if row is not None and self._fits(row) else None

    def reason(self) -> str:
        """Return why a latency made of these parts is not known, or nothing."""
        if self._failed:
            return "; ".join(self._failed)
        if self._expired:
            return f"{'; '.join(self._expired)}; run: {self._command()}"
        if self._missing:
            return f"{', '.join(self._missing)} not measured; run: {self._command()}"
        if self._stale:
            return f"{', '.join(self._stale)} measured on an older graph or other images; run: {self._command()}"
        return ""

    def _command(self) -> str:
        """Return what measures these parts."""
        precision = "" if self._precision == FLOAT32 else f" --precision {self._precision}"
        batch = "" if self._sources.batch == 1 else f" --batch {self._sources.batch}"
        return f"coopexport bench{precision}{batch}"

    def _sources_of(self, part: str) -> Sources:
        """Return where the times of a part come from: preprocessing and coded images have no precision."""
        _, layer = self._key
        return self._sources if layer == WHOLE and part != WHOLE else self._sources.of(self._precision)

    def _fits(self, row: Latency) -> bool:
        return row.source_sha256 == self._hashes.get(row.part, self._hashes[""])
