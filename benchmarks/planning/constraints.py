"""What a candidate has to keep to be chosen, and why each of the others is left out."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.planning.columns import Columns, Indices
from benchmarks.planning.latency_model import BYTE_MS, INPUT, Candidate, describe
from exporter.bundles.accuracy_bound import keeps_bound
from jetson.errors import InputError

_REASONS_SHOWN = 3
_has_reason = attrgetter("reason")


@dataclass(frozen=True)
class Constraints:
    """What may be chosen; as it is made, everything.

    `maximum_device_memory_bytes`, `maximum_device_mj`: of one run on the device. `batch`, `precisions`: only these.
    `upload`: whether the input may leave the device. `cuts`: layers by variants, both as patterns with `*` and `?`;
    `input` and `output` are layers, too. A variant that fits none of the patterns may be cut anywhere.
    """

    maximum_loss_points: float = math.inf
    maximum_device_memory_bytes: float | None = None
    maximum_device_mj: float | None = None
    batch: int | None = None
    precisions: tuple[str, ...] = ()
    upload: bool = True
    cuts: Mapping[str, Sequence[str]] = field(default_factory=dict)


class _Bound(NamedTuple):
    """An upper bound, what a candidate has of it (None: not measured), and the words for it."""

    most: float
    has: float | None
    kept: bool
    verb: str
    number: str
    unit: str

    @property
    def reason(self) -> str:
        """Return why the bound is not kept."""
        if self.has is None:
            return f"{self.unit} not measured, the limit is {self.most:g}"
        return _over(self.verb, self.number, self.unit, self.most)


def judged(
    candidates: Sequence[Candidate], columns: Columns, constraints: Constraints
) -> tuple[tuple[Candidate, ...], Indices]:  # fmt: skip
    """Return the candidates, those left out with their reasons, and the numbers of the rest, int64.

    Raises InputError when a pattern fits nothing, or none is left: then it says which bound cannot be kept, and which
    candidate comes nearest.
    """
    _check_numbers(constraints)
    _check_patterns(candidates, constraints.cuts)
    found = list(candidates)
    if all(item.batch == constraints.batch for item in found):  # nothing to ask each of them
        constraints = replace(constraints, batch=None)
    usable = _usable(columns)
    allowed = usable & ~np.fromiter(map(_has_reason, found), np.bool_, len(found))
    # A candidate is looked at by itself only where there is something to ask, or to say.
    kept = allowed & keeps_bound(columns.loss_points, constraints.maximum_loss_points)
    asks, is_usable = _asks(constraints), usable.tolist()
    for index in range(len(found)) if asks else np.flatnonzero(~kept).tolist():
        item = found[index]
        reason = item.reason or ("" if is_usable[index] else _unusable(item))
        reason = reason or (_not_allowed(item, constraints) if asks else "") or _over_a_bound(item, constraints)
        allowed[index] = not reason
        if reason != item.reason:
            found[index] = _left_out(item, reason)
    if not allowed.any():
        eligible = [
            item for index, item in enumerate(candidates)
            if usable[index] and not item.reason and not _not_allowed(item, constraints)
        ]  # fmt: skip
        raise InputError(_nothing_left(found, eligible, constraints))
    return tuple(found), np.flatnonzero(allowed)


def device_costs(candidate: Candidate, constraints: Constraints) -> list[str]:
    """Return what a candidate takes of each bound on the device that is set: "takes 5 mJ on the device, ..."."""
    return [bound.reason for bound in _bounds(candidate, constraints)[1:]]


def _left_out(candidate: Candidate, reason: str) -> Candidate:
    """Return a candidate with a reason; as `dataclasses.replace`, in a tenth of the time: fields are taken as one."""
    found = object.__new__(Candidate)
    found.__dict__.update(vars(candidate), reason=reason)
    return found


def _usable(columns: Columns) -> NDArray[np.bool_]:
    """Return which rows are all numbers, none negative, and none so large that its latency is infinite."""
    with np.errstate(all="ignore"):
        fixed_ms, slope = columns.device_ms + columns.edge_ms, BYTE_MS * columns.crossing_bytes
        known = np.isfinite(fixed_ms) & np.isfinite(slope) & np.isfinite(columns.loss_points)
        positive = (columns.device_ms >= 0) & (columns.edge_ms >= 0) & (columns.crossing_bytes >= 0)
    return np.asarray(known & positive)


def _unusable(candidate: Candidate) -> str:
    """Return why the numbers of a candidate are none to compute with."""
    names = ("device_ms", "edge_ms", "payload_bytes", "wire_bytes")
    for name in names:
        value = getattr(candidate, name)
        if value is not None and value < 0:
            return f"{name} is {value:g}: it cannot be negative"
    return "not measured"


def _over_a_bound(candidate: Candidate, constraints: Constraints) -> str:
    """Return which bound a candidate does not keep, or nothing: accuracy first, which is what most lack."""
    loss, most = candidate.loss_points, constraints.maximum_loss_points
    if not keeps_bound(loss, most):
        return _over("loses", f"{loss:.2f}", "points", most)
    return next((bound.reason for bound in _bounds(candidate, constraints) if not bound.kept), "")


def _over(verb: str, number: str, unit: str, most: float) -> str:
    return f"{verb} {number} {unit}, the limit is {most:g}"


def _asks(constraints: Constraints) -> bool:
    """Tell whether more than the accuracy is constrained."""
    return replace(constraints, maximum_loss_points=math.inf) != Constraints()


def _not_allowed(candidate: Candidate, constraints: Constraints) -> str:
    """Return why what a candidate is, and not what it costs, is not allowed."""
    if candidate.layer == INPUT and not constraints.upload:
        return "sends the input, which may not be uploaded"
    if constraints.precisions and candidate.precision not in constraints.precisions:
        return f"is {candidate.precision}, allowed is {', '.join(constraints.precisions)}"
    if constraints.batch is not None and candidate.batch != constraints.batch:
        return f"is for batches of {candidate.batch}, wanted are {constraints.batch}"
    fitting = [layers for variant, layers in constraints.cuts.items() if fnmatchcase(candidate.variant, variant)]
    layers = [layer for some in fitting for layer in some]
    if fitting and not any(fnmatchcase(candidate.layer, layer) for layer in layers):
        return f"{candidate.variant} may be cut at {', '.join(layers)} only"
    return ""


def _bounds(candidate: Candidate, constraints: Constraints) -> list[_Bound]:
    """Return the upper bounds that are set, with what a candidate has of each; always in the same order."""
    loss, most = candidate.loss_points, constraints.maximum_loss_points
    bounds = [_Bound(most, loss, keeps_bound(loss, most), "loses", f"{loss:.2f}", "points")]
    for most_or_none, has, unit in (
        (constraints.maximum_device_memory_bytes, candidate.device_memory_bytes, "bytes of device memory"),
        (constraints.maximum_device_mj, candidate.device_mj, "mJ on the device"),
    ):
        if most_or_none is not None:
            # What is not a number keeps no bound either.
            known = has if has is not None and 0 <= has < math.inf else None
            kept = known is not None and known <= most_or_none
            bounds.append(
                _Bound(most_or_none, known, kept, "takes", f"{known:.10g}" if known is not None else "", unit)
            )
    return bounds


def _nothing_left(judged_: Sequence[Candidate], eligible: Sequence[Candidate], constraints: Constraints) -> str:
    """Return which bound nothing keeps, by how much and what comes nearest; `eligible`: but for the bounds, usable."""
    reasons = list(dict.fromkeys(item.reason for item in judged_ if item.reason)) or ["there are no candidates"]
    if not eligible:
        return f"no candidate is left to choose from: {_some(reasons)}"
    # What is eligible but for a bound says so itself.
    others = [reason for reason in reasons if "the limit is" not in reason]
    rest = f"; others are left out: {_some(others)}" if others else ""
    table = [_bounds(item, constraints) for item in eligible]
    for position, bound in enumerate(table[0]):
        rows = [(row[position], item) for row, item in zip(table, eligible, strict=True)]
        if any(one.kept for one, _ in rows):
            continue
        limit = f"no candidate keeps {bound.most:g} {bound.unit}"
        known = [(one.has, number, one, item) for number, (one, item) in enumerate(rows) if one.has is not None]
        if not known:
            return f"{limit}: that was not measured of any{rest}"
        _, _, nearest, candidate = min(known, key=lambda row: row[:2])
        return f"{limit}: the nearest, {describe(candidate)}, {nearest.verb} {nearest.number}{rest}"
    return f"no candidate keeps all bounds at once: {_some(reasons)}"


def _some(reasons: Sequence[str]) -> str:
    """Return the first reasons, and how many more there are."""
    more = len(reasons) - _REASONS_SHOWN
    return "; ".join(reasons[:_REASONS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _check_numbers(constraints: Constraints) -> None:
    """Raise InputError for a bound that is negative or no number."""
    for name in ("maximum_loss_points", "maximum_device_memory_bytes", "maximum_device_mj"):
        value = getattr(constraints, name)
        if value is not None and not value >= 0:
            raise InputError(f"{name} is {value:g}: it must be a number from 0 on")


def _check_patterns(candidates: Sequence[Candidate], cuts: Mapping[str, Sequence[str]]) -> None:
    """Raise InputError for a pattern that fits no variant, or no layer of the variants that it is for."""
    for variant, layers in cuts.items():
        of_variant = [item for item in candidates if fnmatchcase(item.variant, variant)]
        _check_fits(variant, "variant", [item.variant for item in candidates], bool(of_variant))
        known = [item.layer for item in of_variant]
        for layer in layers:
            _check_fits(layer, f"layer of {variant}", known, any(fnmatchcase(name, layer) for name in known))


def _check_fits(pattern: str, what: str, known: Sequence[str], fits: bool) -> None:
    if fits or not known:
        return
    names = list(dict.fromkeys(known))
    nearest = difflib.get_close_matches(pattern, names, n=1)
    advice = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(names[:8])}"
    raise InputError(f'cuts: "{pattern}" fits no {what}; {advice}')
