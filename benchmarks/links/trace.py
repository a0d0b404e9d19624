"""Traces: how fast a link was over time, from a CSV file."""

from __future__ import annotations

import csv
import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jetson.errors import DamagedFileError, InputError

COLUMNS = ("time_s", "goodput_bps")


@dataclass(frozen=True)
class Trace:
    """A time series: `goodput_bps[i]` from `time_s[i]` on, until the next; the last for as long as the one before."""

    time_s: tuple[float, ...]
    goodput_bps: tuple[float, ...]

    @property
    def durations_s(self) -> tuple[float, ...]:
        """Return how long each goodput holds; 1 s if there is only one."""
        steps = [after - before for before, after in itertools.pairwise(self.time_s)]
        return (*steps, steps[-1] if steps else 1.0)


@dataclass(frozen=True)
class GoodputDistribution:
    """Goodputs, ascending, each once, and the share of time of each; shares add up to 1."""

    goodput_bps: tuple[float, ...]
    shares: tuple[float, ...]

    def quantile(self, share: float) -> float:
        """Return the least goodput that the link was at or below for at least `share` of the time.

        It is one that was there, never one between two. Raises ValueError for a share outside of 0 to 1.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"{share} is no share of time")
        reached = np.cumsum(self.shares)
        # A sum of shares may miss by its rounding what it should reach.
        index = int(np.searchsorted(reached, share - 1e-12))
        return self.goodput_bps[min(index, len(self.goodput_bps) - 1)]

    @property
    def mean_bps(self) -> float:
        """Return the mean over time: all bits over all seconds."""
        return float(np.dot(self.goodput_bps, self.shares))


def distribution(trace: Trace) -> GoodputDistribution:
    """Return the empirical distribution of a trace, weighted by how long each goodput held."""
    values, where = np.unique(np.asarray(trace.goodput_bps, dtype=np.float64), return_inverse=True)
    sums = np.bincount(where.ravel(), weights=np.asarray(trace.durations_s, dtype=np.float64))
    return GoodputDistribution(tuple(values.tolist()), tuple((sums / sums.sum()).tolist()))


def read_trace(path: Path) -> Trace:
    """Read a trace (docs/formats.md); raises CoopexportError naming line and value that are wrong."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"there is no trace {path}", path=path, fix="check the path") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})", path=path) from None
    except UnicodeDecodeError:
        raise DamagedFileError(f"{path} is no text in UTF-8, which a trace is", path=path) from None
    times: list[float] = []
    goodputs: list[float] = []
    header, *rows = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()] or [(1, "")]
    if tuple(next(csv.reader([header[1]]), ())) != COLUMNS:
        raise InputError(
            f"{path}: line {header[0]} is {header[1][:80]!r}: the header of a trace is {','.join(COLUMNS)}", path=path
        )
    for number, line in rows:
        time_s, goodput_bps = _numbers(path, number, line)
        if times and time_s <= times[-1]:
            raise InputError(
                f"{path}: line {number}: time_s is {time_s:g} after {times[-1]:g}: time has to go on", path=path
            )
        if goodput_bps <= 0:
            raise InputError(
                f"{path}: line {number}: goodput_bps is {goodput_bps:g}, not a positive number of bits per second",
                path=path,
            )
        times.append(time_s)
        goodputs.append(goodput_bps)
    if not times:
        raise InputError(f"{path}: the trace has no rows", path=path, fix=f"give one per line: {','.join(COLUMNS)}")
    return Trace(tuple(times), tuple(goodputs))


def _numbers(path: Path, number: int, line: str) -> tuple[float, float]:
    cells = next(csv.reader([line]))
    if len(cells) != len(COLUMNS):
        raise InputError(
            f"{path}: line {number} has {len(cells)} columns, not {len(COLUMNS)}: {line[:80]!r}", path=path
        )
    values = []
    for column, cell in zip(COLUMNS, cells, strict=True):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{path}: line {number}: {column} is {cell[:80]!r}, not a number", path=path)
        values.append(value)
    return values[0], values[1]
