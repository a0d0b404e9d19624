"""The most accurate candidate within a latency bound, at every goodput."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.planning.columns import Columns, Floats, Indices, latencies_ms, lines_of
from benchmarks.planning.envelope import Chain, lower_envelope
from benchmarks.planning.hysteresis import stay_ranges


@dataclass(frozen=True)
class AccuracyChain:
    """A chain, from which up to which goodput each of its lines is held, and from where on the bound is kept.

    `bound_from_bps`: infinite where no candidate ever keeps the bound. Below it, the chain has the least latency.
    """

    chain: Chain
    stay_from_bps: Floats
    stay_upto_bps: Floats
    bound_from_bps: float


def best_accuracy(columns: Columns, round_trip_ms: float, maximum_latency_ms: float, margin: float) -> AccuracyChain:
    """Return which candidate loses least within the bound at each goodput; of those with that loss, the fastest.

    A latency falls with the goodput, so that each candidate keeps the bound from some goodput on, and the least loss
    only falls. A choice is held while it keeps the bound, and no candidate of less loss would keep it with a goodput
    lower by the share `margin`; among equal losses as by `stay_ranges`.
    """
    lines = lines_of(columns, round_trip_ms)
    needed_bps = _needed_bps(columns, round_trip_ms, maximum_latency_ms)
    starts, losses = _falling_losses(needed_bps, columns.loss_points)
    ends = np.append(starts, np.inf)[1:]
    by_loss = np.argsort(columns.loss_points, kind="stable")
    sorted_loss = columns.loss_points[by_loss]
    pieces = []
    bound_from_bps = float(starts[0]) if len(starts) else np.inf
    if bound_from_bps > 0:
        everything = np.arange(len(columns))
        chain = lower_envelope(lines)
        stay_from, stay_upto = stay_ranges(lines, chain, margin)
        limit = (1.0 + margin) * bound_from_bps
        pieces.append(_clipped(chain, everything, 0.0, bound_from_bps, stay_from, np.minimum(stay_upto, limit)))
    for start, end, loss in zip(starts, ends, losses, strict=True):
        first, last = np.searchsorted(sorted_loss, loss, "left"), np.searchsorted(sorted_loss, loss, "right")
        rows = by_loss[first:last]
        alike = lines.at(rows)
        chain = lower_envelope(alike)
        stay_from, stay_upto = stay_ranges(alike, chain, margin)
        stay_from = np.maximum(stay_from, needed_bps[rows[chain.lines]])
        stay_upto = np.minimum(stay_upto, (1.0 + margin) * end)
        pieces.append(_clipped(chain, rows, float(start), float(end), stay_from, stay_upto))
    return _joined(pieces, bound_from_bps)


def _needed_bps(columns: Columns, round_trip_ms: float, maximum_latency_ms: float) -> Floats:
    """Return the goodput from which each candidate keeps the bound: 0 for always, infinity for never."""
    lines = lines_of(columns, round_trip_ms)
    left_ms = maximum_latency_ms - lines.fixed_ms
    with np.errstate(all="ignore"):
        needed = np.where(left_ms > 0, lines.slope / left_ms, np.inf)
        needed = np.where(lines.slope > 0, needed, np.where(left_ms >= 0, 0.0, np.inf))
        # The quotient is rounded: go on to where the latency, rounded itself, keeps the bound.
        rows = np.flatnonzero((needed > 0) & np.isfinite(needed))
        for doublings in range(64):
            rows = rows[latencies_ms(columns.at(rows), needed[rows], round_trip_ms) > maximum_latency_ms]
            if not len(rows):
                break
            needed[rows] = np.nextafter(needed[rows] * (1.0 + 2.0 ** (doublings - 53)), np.inf)
    return needed


def _falling_losses(needed_bps: Floats, loss_points: Floats) -> tuple[Floats, Floats]:
    """Return at which goodputs a smaller loss comes within reach, and which, both in order."""
    order = np.argsort(needed_bps, kind="stable")
    order = order[np.isfinite(needed_bps[order])]
    # One key first, both for the few that are left.
    order = order[loss_points[order] <= np.minimum.accumulate(loss_points[order])]
    order = order[np.lexsort((loss_points[order], needed_bps[order]))]
    loss = loss_points[order]
    falls = loss < np.append(np.inf, np.minimum.accumulate(loss)[:-1])
    return needed_bps[order][falls], loss[falls]


@dataclass(frozen=True)
class _Piece:
    rows: Indices
    from_bps: Floats
    stay_from_bps: Floats
    stay_upto_bps: Floats


def _clipped(
    chain: Chain, rows: Indices, from_bps: float, upto_bps: float, stay_from: Floats, stay_upto: Floats
) -> _Piece:  # fmt: skip
    """Return the part of a chain over `rows` that lies between two goodputs."""
    kept = (chain.upto_bps > from_bps) & (chain.from_bps < upto_bps)
    begins = np.maximum(chain.from_bps[kept], from_bps)
    ends = np.minimum(chain.upto_bps[kept], upto_bps)
    return _Piece(
        rows[chain.lines[kept]], begins, np.minimum(stay_from[kept], begins), np.maximum(stay_upto[kept], ends)
    )


def _joined(pieces: list[_Piece], bound_from_bps: float) -> AccuracyChain:
    """Return the pieces as one chain; neighbours that are the same candidate become one."""
    rows = np.concatenate([piece.rows for piece in pieces])
    from_bps = np.concatenate([piece.from_bps for piece in pieces])
    stay_from = np.concatenate([piece.stay_from_bps for piece in pieces])
    stay_upto = np.concatenate([piece.stay_upto_bps for piece in pieces])
    first = np.flatnonzero(np.append(True, rows[1:] != rows[:-1]))
    chain = Chain(rows[first], from_bps[first])
    stay_from, stay_upto = np.minimum.reduceat(stay_from, first), np.maximum.reduceat(stay_upto, first)
    return AccuracyChain(chain, stay_from, stay_upto, bound_from_bps)
