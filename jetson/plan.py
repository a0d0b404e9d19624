"""The plan: which candidate is best at which goodput, evaluated with two comparisons and no dependency."""

from typing import Any, Dict, List, NamedTuple, Optional

from jetson.errors import CoopexportError
from jetson.json_files import read_json

SCHEMA = "coopexport.plan/1.0"


class Interval(NamedTuple):
    """Goodputs, in bits per second, at which one candidate (an index) is best; `upto_bps` None is infinity."""

    from_bps: float
    upto_bps: Optional[float]
    candidate: int


class Plan(NamedTuple):
    """A plan as read from its file: intervals from the lowest goodput to the highest, and the candidates."""

    intervals: List[Interval]
    candidates: List[Dict[str, Any]]
    content: Dict[str, Any]


def read_plan(path: str) -> Plan:
    """Read a plan file; raises CoopexportError when it is missing, malformed or of another schema."""
    content = read_json(path, SCHEMA)
    try:
        candidates = content["candidates"]
        intervals = [
            Interval(float(item["from_bps"]), item.get("upto_bps"), int(item["candidate"]))
            for item in content["intervals"]
        ]
        if any(not 0 <= interval.candidate < len(candidates) for interval in intervals) or not intervals:
            raise ValueError("its intervals name no candidate")
    except (KeyError, TypeError, ValueError) as error:
        raise CoopexportError("{} is malformed ({}); make it with: coopexport select".format(path, error)) from None
    return Plan(intervals, candidates, content)


def choose(plan: Plan, goodput_bps: float) -> int:
    """Return the index of the candidate that is best at `goodput_bps`; raises CoopexportError if not positive."""
    if not goodput_bps > 0:
        raise CoopexportError("goodput must be a positive number of bits per second, not {}".format(goodput_bps))
    for interval in plan.intervals:
        if interval.upto_bps is None or goodput_bps < interval.upto_bps:
            return interval.candidate
    return plan.intervals[-1].candidate
