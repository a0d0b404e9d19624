"""Goodput and round trip of a link, from the traffic itself: least squares over what was seen lately.

A message of B bytes on the wire, both ways together, takes r + 8 B / g on the link, which is what the plan computes
with: a line, whose slope is the goodput's inverse. Messages of one size say nothing of the slope; then its uncertainty
is infinite, and whoever needs to know more sends a probe.
"""

import collections
import math
from typing import Deque, Iterable, NamedTuple, Optional

from jetson.runtime.partition_policy import BYTE_MS

# Of a link that changes, what is older says little.
_WINDOW, _WINDOW_S = 24, 10.0
# Times are as sure as the scheduler of the machine is, at best.
_LEAST_NOISE_MS, _LEAST_NOISE_SHARE = 0.15, 0.01
_MOST_NOISE_MS, _MOST_NOISE_SHARE = 0.5, 0.05
# So many in a row, all this far to one side: the link is another one than before.
CHANGED_RUN, _CHANGED_SIGMAS = 3, 4.0
_SIGMAS = 2.0
# A link that nothing is heard of may be twice as fast, or half, after so long.
_DOUBLE_AFTER_S = 10.0
# Further off than so many times the noise, a message was held up by something else than the link.
_OUTLIER_SIGMAS = 4.0
_LEAST_SLOPE = BYTE_MS / 1e12  # a goodput of 1 Tbit/s


class Seen(NamedTuple):
    """One message there and its answer: bytes on the wire both ways, time on the link, when it came back."""

    wire_bytes: float
    transit_ms: float
    at_s: float


class LinkState(NamedTuple):
    """What is known of a link. `low_bps` and `high_bps`: the goodput lies between them, two standard errors away."""

    goodput_bps: float
    low_bps: float
    high_bps: float
    round_trip_ms: float


class LinkEstimate:
    """Takes messages as they come back and says what the link is like now."""

    def __init__(self) -> None:
        self._seen: Deque[Seen] = collections.deque(maxlen=_WINDOW)
        self._state: Optional[LinkState] = None
        self._noise_ms = _LEAST_NOISE_MS

    def state_at(self, now_s: float) -> Optional[LinkState]:
        """Return what is known; None before two messages of different sizes came back.

        What is not seen anew becomes less sure with time.
        """
        state = self._state
        if state is None or not self._seen:
            return state
        sizes = [one.wire_bytes for one in self._seen]
        middle = (min(sizes) + max(sizes)) / 2
        told_s = max(one.at_s for one in self._seen if one.wire_bytes >= middle)  # small ones say nothing of it
        wider = 1.0 + max(0.0, now_s - told_s) / _DOUBLE_AFTER_S
        return state._replace(low_bps=state.low_bps / wider, high_bps=state.high_bps * wider)

    def observe(self, wire_bytes: float, transit_ms: float, at_s: float) -> None:
        """Take in a message. `transit_ms`: from sent to answered, less what the server was busy with it."""
        self._seen.append(Seen(wire_bytes, max(0.0, transit_ms), at_s))
        while self._seen and at_s - self._seen[0].at_s > _WINDOW_S:
            self._seen.popleft()
        self._forget_before_change()
        self._fit()

    @property
    def heard_s(self) -> float:
        """When the last message came back; negative infinity before the first."""
        return self._seen[-1].at_s if self._seen else -math.inf

    def _forget_before_change(self) -> None:
        """Drop what is older than the last few when all of those are far from what the rest says, on one side."""
        state = self._state
        if state is None or len(self._seen) <= CHANGED_RUN:
            return
        last = list(self._seen)[-CHANGED_RUN:]
        offs = []
        for one in last:
            expected_ms = state.round_trip_ms + BYTE_MS * one.wire_bytes / state.goodput_bps
            # Not more than that, or what was seen while the link changed would hide that it did.
            noise_ms = min(self._noise_ms, _MOST_NOISE_MS + _MOST_NOISE_SHARE * expected_ms)
            noise_ms = max(noise_ms, _LEAST_NOISE_SHARE * expected_ms)
            offs.append((one.transit_ms - expected_ms) / noise_ms)
        if min(offs) > _CHANGED_SIGMAS or max(offs) < -_CHANGED_SIGMAS:
            self._seen.clear()
            self._seen.extend(last)
            self._noise_ms = _LEAST_NOISE_MS

    def _fit(self) -> None:
        line = _line(self._seen)
        if line is None:
            if self._state is not None:  # the link changed, and messages of one size say of its round trip alone
                self._state = self._state._replace(
                    low_bps=BYTE_MS,
                    high_bps=BYTE_MS / _LEAST_SLOPE,
                    round_trip_ms=min(one.transit_ms for one in self._seen),
                )
            return
        noise_ms = self._noise_of(line)
        near = [
            one for one in self._seen
            if abs(_off_ms(line, one)) <= _OUTLIER_SIGMAS * max(noise_ms, _LEAST_NOISE_SHARE * one.transit_ms)
        ]  # fmt: skip
        again = _line(near)
        if again is not None:
            line = again
        self._noise_ms = self._noise_of(line)
        error = self._noise_ms / math.sqrt(line.spread)
        self._state = LinkState(
            BYTE_MS / max(line.slope, _LEAST_SLOPE),
            BYTE_MS / max(line.slope + _SIGMAS * error, _LEAST_SLOPE),
            BYTE_MS / max(line.slope - _SIGMAS * error, _LEAST_SLOPE),
            line.round_trip_ms,
        )

    def _noise_of(self, line: "_Line") -> float:
        """Return the noise of single times: the median's, so that a few that were held up do not count."""
        offs = sorted(abs(_off_ms(line, one)) for one in self._seen)
        return max(_LEAST_NOISE_MS, 1.4826 * offs[len(offs) // 2])


class _Line(NamedTuple):
    """`slope`: milliseconds per byte; `spread`: sum of squares of the sizes about their mean."""

    round_trip_ms: float
    slope: float
    spread: float


def _line(seen: Iterable[Seen]) -> Optional[_Line]:
    """Return the line of least squares, neither end below 0; None for messages of one size."""
    found = list(seen)
    if len(found) < 2:
        return None
    mean_bytes = sum(one.wire_bytes for one in found) / len(found)
    mean_ms = sum(one.transit_ms for one in found) / len(found)
    spread = sum((one.wire_bytes - mean_bytes) ** 2 for one in found)
    if spread <= 0:
        return None
    product = sum((one.wire_bytes - mean_bytes) * (one.transit_ms - mean_ms) for one in found)
    slope = max(0.0, product / spread)
    round_trip_ms = mean_ms - slope * mean_bytes
    if round_trip_ms < 0:  # then the bytes are all of it
        slope = sum(one.wire_bytes * one.transit_ms for one in found) / sum(one.wire_bytes**2 for one in found)
        round_trip_ms = 0.0
    return _Line(round_trip_ms, slope, spread)


def _off_ms(line: _Line, one: Seen) -> float:
    return one.transit_ms - line.round_trip_ms - line.slope * one.wire_bytes
