"""The partition policy: which candidate is best at which goodput, decided by bisection and without any dependency.

A device reads the plan once, looks up the envelope of its loads and its link, and asks `held` for every image:

    envelope = envelope_at(policy, device_load="busy")
    position = choose_position(envelope, goodput_bps)      # the first time
    position = held(envelope, position, goodput_bps)       # from then on
    candidate = policy.candidates[envelope.candidates[position]]
"""

from bisect import bisect_right
from typing import Any, Dict, List, NamedTuple, Optional

from jetson.errors import DamagedFileError, InputError
from jetson.files.atomic_files import sha256_of_file
from jetson.files.json_files import read_json

SCHEMA = "coopexport.plan/1.2"
IDLE = "idle"
# Layers of candidates without a cut: the image is sent, or nothing is.
INPUT, OUTPUT = "input", "output"
# Milliseconds of one byte at one bit per second.
BYTE_MS = 8000.0
_INFINITE = float("inf")


class Interval(NamedTuple):
    """Goodputs, in bits per second, at which one candidate (an index) is best; `upto_bps` None is infinity."""

    from_bps: float
    upto_bps: Optional[float]
    candidate: int


class Envelope(NamedTuple):
    """What is best at every goodput, for one load of device and edge and one round trip; lists of one length.

    `from_bps`: where each interval begins, rising from 0. `candidates`: the best there. `stay_from_bps` and
    `stay_upto_bps`: where it is held once it is chosen; they hold the interval itself. All in bits per second.
    """

    device_load: str
    edge_load: str
    round_trip_ms: float
    from_bps: List[float]
    candidates: List[int]
    stay_from_bps: List[float]
    stay_upto_bps: List[float]


class PartitionPolicy(NamedTuple):
    """A policy as read from its file: intervals from the lowest goodput to the highest, and the candidates.

    `envelopes`: one for each load and round trip, that of `intervals` first.
    """

    intervals: List[Interval]
    candidates: List[Dict[str, Any]]
    content: Dict[str, Any]
    envelopes: List[Envelope]


def read_partition_policy(path: str) -> PartitionPolicy:
    """Read a policy's file, plan.json; raises CoopexportError when it is missing, malformed or of another schema.

    Plans of version 1.1 have one envelope, whose choices are not held beyond their intervals.
    """
    content = read_json(path, SCHEMA)
    try:
        candidates = content["candidates"]
        if not isinstance(candidates, list) or not all(isinstance(item, dict) for item in candidates):
            raise ValueError("its candidates are not a list of objects")
        intervals = _intervals(content["intervals"], len(candidates))
        if "envelopes" in content:
            envelopes = [_envelope(item, len(candidates)) for item in content["envelopes"]]
        else:
            envelopes = [_envelope({"intervals": content["intervals"]}, len(candidates))]
        _check_envelopes(envelopes, intervals)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedFileError(
            "{} is malformed ({})".format(path, _said(error)), path=path, fix="make it with: coopexport select"
        ) from None
    return PartitionPolicy(intervals, candidates, content, envelopes)


def release_name(path: str) -> str:
    """Return what device and edge call the same plan: the first 16 digits of its file's SHA-256."""
    return sha256_of_file(path)[:16]


def envelope_at(
    policy: PartitionPolicy, device_load: str = IDLE, edge_load: str = IDLE, round_trip_ms: Optional[float] = None
) -> Envelope:
    """Return the envelope for loads by name, and of these the one with the nearest round trip (None: the plan's first).

    Raises CoopexportError naming the loads of the plan when it has none of these.
    """
    found = [one for one in policy.envelopes if (one.device_load, one.edge_load) == (device_load, edge_load)]
    if not found:
        known = ", ".join("{}/{}".format(one.device_load, one.edge_load) for one in policy.envelopes)
        raise InputError("the plan has no loads {}/{} (device/edge); it has {}".format(device_load, edge_load, known))
    if round_trip_ms is None:
        return found[0]
    wanted = round_trip_ms
    return min(found, key=lambda one: abs(one.round_trip_ms - wanted))


def choose(policy: PartitionPolicy, goodput_bps: float) -> int:
    """Return the index of the candidate that is best at `goodput_bps`, of the plan's first envelope.

    Raises CoopexportError if the goodput is not positive.
    """
    envelope = policy.envelopes[0]
    return envelope.candidates[choose_position(envelope, goodput_bps)]


def choose_position(envelope: Envelope, goodput_bps: float) -> int:
    """Return which interval of an envelope `goodput_bps` lies in; raises CoopexportError if it is not positive."""
    if not goodput_bps > 0:
        raise InputError("goodput must be a positive number of bits per second, not {}".format(goodput_bps))
    return bisect_right(envelope.from_bps, goodput_bps) - 1


def held(envelope: Envelope, position: int, goodput_bps: float) -> int:
    """Return which interval's candidate to use now, where that of `position` is in use.

    It is held as long as the plan's margin lets it be: no goodput that moves to and fro about a switch point makes the
    choice flap, and none is held that is worse than the best by more than the margin. Raises CoopexportError if the
    goodput is not positive.
    """
    if goodput_bps > 0 and envelope.stay_from_bps[position] <= goodput_bps < envelope.stay_upto_bps[position]:
        return position
    return choose_position(envelope, goodput_bps)


def _intervals(items: Any, count: int) -> List[Interval]:
    """Return intervals as they stand in the file; raises KeyError, TypeError, ValueError, OverflowError."""
    if not isinstance(items, list):
        raise ValueError("its intervals are not a list")
    intervals = [_interval(item, count) for item in items]
    _check_cover(intervals)
    return intervals


def _interval(item: Dict[str, Any], count: int) -> Interval:
    upto_bps, candidate = item["upto_bps"], item["candidate"]
    if type(candidate) is not int or not 0 <= candidate < count:  # True is an int as well
        raise ValueError("its intervals name candidate {!r} of {}".format(candidate, count))
    return Interval(_number(item["from_bps"]), None if upto_bps is None else _number(upto_bps), candidate)


def _envelope(item: Dict[str, Any], count: int) -> Envelope:
    """Return an envelope as it stands in the file; raises as `_intervals`."""
    intervals = _intervals(item["intervals"], count)
    stays = [_stay(fields, _interval(fields, count)) for fields in item["intervals"]]
    names = [item.get(key, IDLE) for key in ("device_load", "edge_load")]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("its loads are not names")
    round_trip_ms = _number(item.get("round_trip_ms", 0.0))
    if round_trip_ms < 0:
        raise ValueError("its round trip is negative")
    return Envelope(
        names[0],
        names[1],
        round_trip_ms,
        [interval.from_bps for interval in intervals],
        [interval.candidate for interval in intervals],
        [stay_from for stay_from, _ in stays],
        [stay_upto for _, stay_upto in stays],
    )


def _stay(item: Dict[str, Any], interval: Interval) -> List[float]:
    """Return from where up to where an interval's candidate is held; without hysteresis, in the interval."""
    ends = _INFINITE if interval.upto_bps is None else interval.upto_bps
    stay_from, stay_upto = item.get("stay_from_bps", interval.from_bps), item.get("stay_upto_bps", interval.upto_bps)
    found = [_number(stay_from), _INFINITE if stay_upto is None else _number(stay_upto)]
    if not 0 <= found[0] <= interval.from_bps or found[1] < ends:
        raise ValueError("a choice is not held in its own interval")
    return found


def _number(value: Any) -> float:
    """Return a number of the file as float; raises TypeError, OverflowError for what is none."""
    if type(value) not in (int, float):
        raise TypeError("{!r} is not a number".format(value))
    return float(value)


def _check_cover(intervals: List[Interval]) -> None:
    """Raise ValueError unless the intervals cover every goodput from 0 to infinity once, in order."""
    starts = [interval.from_bps for interval in intervals]
    ends = [interval.upto_bps for interval in intervals]
    if not intervals or starts[0] != 0 or ends[-1] is not None or ends[:-1] != starts[1:]:
        raise ValueError("its intervals do not cover every goodput once")
    if any(upto_bps is not None and not upto_bps > from_bps for from_bps, upto_bps, _ in intervals):
        raise ValueError("its intervals are not in order")


def _check_envelopes(envelopes: List[Envelope], intervals: List[Interval]) -> None:
    """Raise ValueError unless there are envelopes, each once, and the first is that of the plan's intervals."""
    keys = [(one.device_load, one.edge_load, one.round_trip_ms) for one in envelopes]
    if not keys or len(set(keys)) != len(keys):
        raise ValueError("its envelopes are not one for each load and round trip")
    same_starts = envelopes[0].from_bps == [interval.from_bps for interval in intervals]
    if not same_starts or envelopes[0].candidates != [interval.candidate for interval in intervals]:
        raise ValueError("its intervals are not those of its first envelope")


def _said(error: Exception) -> str:
    """Return what an error says; a KeyError says the key alone."""
    return "{} is missing".format(error) if isinstance(error, KeyError) else str(error)
