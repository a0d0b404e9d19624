"""A measured link on disk: every window and message as it was, and what follows from them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from benchmarks.latency.statistics import Summary, summarise
from benchmarks.links.link import Link
from benchmarks.links.windows import Goodput, Window, goodput_of
from exporter.bundles.records import read_record
from jetson.errors import DamagedFileError
from jetson.files.json_files import write_json

SCHEMA = "coopexport.link/1.0"
_Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# By how much a number may miss what follows from windows and messages: it is written in full.
_TOLERANCE = 1e-6


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Direction(_Record):
    """What arrived in one direction, in windows of (bytes, seconds); `goodput_bps` is their median."""

    windows: Annotated[tuple[tuple[PositiveInt, _Seconds], ...], Field(min_length=1)]
    goodput_bps: _Seconds

    @property
    def goodput(self) -> Goodput:
        """Return the goodput with its interval."""
        return goodput_of([Window(*window) for window in self.windows])


class Messages(_Record):
    """Small messages, one after another, there and back through one open ssh channel.

    `packet_bytes`: what one of them takes in one direction with ssh and TCP/IP, counted, not measured.
    """

    message_bytes: PositiveInt
    packet_bytes: PositiveInt
    p50_ms: _Seconds
    samples_ms: Annotated[tuple[_Seconds, ...], Field(min_length=1)]

    @property
    def summary(self) -> Summary:
        """Return median and percentiles, in milliseconds."""
        return summarise(self.samples_ms)


class LinkMeasurement(_Record):
    """A link between this machine (`host`) and `device`, as `coopexport probe --link` measured it."""

    device: str
    host: str
    started_at: str
    from_device: Direction
    to_device: Direction
    messages: Messages

    @property
    def message_transmission_ms(self) -> float:
        """Return the milliseconds that a message's own bytes take, there and back, at the measured goodputs."""
        slowness = 1 / self.to_device.goodput_bps + 1 / self.from_device.goodput_bps
        return 8000 * self.messages.packet_bytes * slowness

    @property
    def round_trip_ms(self) -> float:
        """Return the median round trip of a message less the transmission of its bytes, which a plan counts apart."""
        return max(0.0, self.messages.summary.p50_ms - self.message_transmission_ms)


def write_measurement(path: Path, measurement: LinkMeasurement) -> None:
    """Write a measurement, whole or not at all; raises OSError."""
    content: dict[str, Any] = measurement.model_dump(mode="json")
    write_json(str(path), SCHEMA, content)


def read_measurement(path: Path) -> LinkMeasurement:
    """Read a measurement; raises CoopexportError when it is missing, malformed, or contradicts itself."""
    found = read_record(LinkMeasurement, path, SCHEMA, "measure again: coopexport probe --link")
    for name, direction in (("from_device", found.from_device), ("to_device", found.to_device)):
        _check(path, f"{name}.goodput_bps", direction.goodput_bps, direction.goodput.median_bps)
    _check(path, "messages.p50_ms", found.messages.p50_ms, found.messages.summary.p50_ms)
    return found


def link_of(name: str, measurement: LinkMeasurement, file: str) -> Link:
    """Return a measured link as a plan takes it: the goodput from the device, and the round trip."""
    goodput, p50_ms = measurement.from_device.goodput, measurement.messages.summary.p50_ms
    source = (
        f"measured: {file}, {measurement.started_at}, from {measurement.device}; round trip {p50_ms:.3g} ms as "
        f"measured, of which {measurement.message_transmission_ms:.3g} ms are the message's own bytes"
    )
    if goodput.reason:
        source += f"; not steady: {goodput.reason}"
    return Link(name, goodput.median_bps, measurement.round_trip_ms, None, source)


def _check(path: Path, key: str, said: float, follows: float) -> None:
    if not math.isclose(said, follows, rel_tol=_TOLERANCE):
        raise DamagedFileError(
            f"{path}: {key} is {said:g}, but {follows:g} follows from what was measured",
            path=path,
            fix="measure again: coopexport probe --link",
        )
