"""Candidates as NumPy columns, so that a million of them are planned in a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.planning.latency_model import BYTE_MS, Candidate

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Columns:
    """What the selector computes with, one row for each candidate; times in milliseconds, all float64 of one length.

    What is not known is NaN.
    """

    device_ms: Floats
    edge_ms: Floats
    crossing_bytes: Floats
    loss_points: Floats

    def __len__(self) -> int:
        return len(self.device_ms)

    def at(self, rows: Indices) -> Columns:
        """Return some of the rows."""
        return Columns(self.device_ms[rows], self.edge_ms[rows], self.crossing_bytes[rows], self.loss_points[rows])

    def loaded(self, device_factor: float, edge_factor: float) -> Columns:
        """Return the same with both machines slower by a factor."""
        return Columns(
            self.device_ms * device_factor, self.edge_ms * edge_factor, self.crossing_bytes, self.loss_points
        )


@dataclass(frozen=True)
class Lines:
    """Latencies as straight lines over x = 1 / goodput: `fixed_ms + slope * x`, x in seconds per bit.

    `slope`: milliseconds at one bit per second. `loss_points` decides between lines that are the same.
    """

    fixed_ms: Floats
    slope: Floats
    loss_points: Floats

    def __len__(self) -> int:
        return len(self.fixed_ms)

    def at(self, rows: Indices) -> Lines:
        """Return some of the lines."""
        return Lines(self.fixed_ms[rows], self.slope[rows], self.loss_points[rows])


def columns_of(candidates: Sequence[Candidate]) -> Columns:
    """Return the columns of some candidates, in their order."""

    def column(values: list[float | None]) -> Floats:
        return np.array(values, dtype=np.float64)  # None becomes NaN

    return Columns(
        column([item.device_ms for item in candidates]),
        column([item.edge_ms for item in candidates]),
        column([item.payload_bytes if item.wire_bytes is None else item.wire_bytes for item in candidates]),
        column([item.loss_points for item in candidates]),
    )


def lines_of(columns: Columns, round_trip_ms: float) -> Lines:
    """Return the latencies as lines; a round trip is spent where anything crosses."""
    fixed_ms = columns.device_ms + columns.edge_ms
    if round_trip_ms:
        fixed_ms = fixed_ms + np.where(columns.crossing_bytes > 0, round_trip_ms, 0.0)
    return Lines(fixed_ms, BYTE_MS * columns.crossing_bytes, columns.loss_points)


def latencies_ms(columns: Columns, goodput_bps: float | Floats, round_trip_ms: float = 0.0) -> Floats:
    """Return all latencies in milliseconds, to the last bit those of `latency_model.latency_ms`.

    `goodput_bps`: of the one link, or one for each row.
    """
    transmission_ms = BYTE_MS * columns.crossing_bytes / goodput_bps
    transmission_ms = transmission_ms + np.where(columns.crossing_bytes > 0, round_trip_ms, 0.0)
    return np.asarray(columns.device_ms + transmission_ms + columns.edge_ms)


def least(first: Floats, second: Floats) -> int:
    """Return the row where `first` is least; of those with that, where `second` is least; of those, the first row."""
    ties = np.flatnonzero(first == first.min())
    return int(ties[np.argmin(second[ties])])
