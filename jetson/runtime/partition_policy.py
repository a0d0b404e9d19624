"""The partition policy: which candidate is best at which goodput, evaluated with two comparisons and no dependency."""

from typing import Any, Dict, List, NamedTuple, Optional

from jetson.errors import DamagedFileError, InputError
from jetson.files.json_files import read_json

SCHEMA = "coopexport.plan/1.1"


class Interval(NamedTuple):
    """Goodputs, in bits per second, at which one candidate (an index) is best; `upto_bps` None is infinity."""

    from_bps: float
    upto_bps: Optional[float]
    candidate: int


class PartitionPolicy(NamedTuple):
    """A policy as read from its file: intervals from the lowest goodput to the highest, and the candidates."""

    intervals: List[Interval]
    candidates: List[Dict[str, Any]]
    content: Dict[str, Any]


def read_partition_policy(path: str) -> PartitionPolicy:
    """Read a policy's file, plan.json; raises CoopexportError when it is missing, malformed or of another schema."""
    content = read_json(path, SCHEMA)
    try:
        candidates = content["candidates"]
        if not isinstance(candidates, list) or not all(isinstance(item, dict) for item in candidates):
            raise ValueError("its candidates are not a list of objects")
        intervals = [_interval(item, len(candidates)) for item in content["intervals"]]
        _check_cover(intervals)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedFileError(
            "{} is malformed ({})".format(path, error), path=path, fix="make it with: coopexport select"
        ) from None
    return PartitionPolicy(intervals, candidates, content)


def _interval(item: Dict[str, Any], count: int) -> Interval:
    """Return an interval as it stands in the file; raises KeyError, TypeError, ValueError, OverflowError."""
    upto_bps, candidate = item["upto_bps"], item["candidate"]
    if type(candidate) is not int or not 0 <= candidate < count:  # True is an int as well
        raise ValueError("its intervals name candidate {!r} of {}".format(candidate, count))
    return Interval(float(item["from_bps"]), None if upto_bps is None else float(upto_bps), candidate)


def _check_cover(intervals: List[Interval]) -> None:
    """Raise ValueError unless the intervals cover every goodput from 0 to infinity once, in order."""
    starts = [interval.from_bps for interval in intervals]
    ends = [interval.upto_bps for interval in intervals]
    if not intervals or starts[0] != 0 or ends[-1] is not None or ends[:-1] != starts[1:]:
        raise ValueError("its intervals do not cover every goodput once")
    if any(upto_bps is not None and not upto_bps > from_bps for from_bps, upto_bps, _ in intervals):
        raise ValueError("its intervals are not in order")


def choose(policy: PartitionPolicy, goodput_bps: float) -> int:
    """Return the index of the candidate that is best at `goodput_bps`; raises CoopexportError if not positive."""
    if not goodput_bps > 0:
        raise InputError("goodput must be a positive number of bits per second, not {}".format(goodput_bps))
    for interval in policy.intervals:
        if interval.upto_bps is None or goodput_bps < interval.upto_bps:
            return interval.candidate
    return policy.intervals[-1].candidate
