"""The queue before the tails: bounded, with deadlines, several requests of one pair at once.

Who brings a request also works (`Queue.work`), so that a lone request is never handed from thread to thread: that took
as long as a small tail. At most `slots` threads compute at a time, and none of them stops while something waits; where
another one could help, `on_waiting` is called.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from engines.serving.served_pair import Arrays, ServedPair, run_batch
from jetson.errors import one_line
from jetson.stream import refusals

_LONGEST_REASON = 200
# Of a new time in the moving mean: after ten batches nine tenths of it are of them.
_WEIGHT = 0.2


@dataclass(frozen=True)
class Refusal:
    """Why a request has no result: a number of `jetson.stream.refusals`, and words."""

    reason: int
    words: str


@dataclass(frozen=True)
class Result:
    """The bytes of a request's outputs, and how long it waited and was computed on (decoding included)."""

    outputs: tuple[bytes, ...]
    queue_ms: float
    compute_ms: float
    batch: int


@dataclass(frozen=True)
class Request:
    """What is asked. `deadline_s`: on the queue's clock, infinite for none; `answer`: called once, from any thread."""

    served: ServedPair
    payload: bytes
    deadline_s: float
    answer: Callable[[Result | Refusal], None]


@dataclass(frozen=True)
class Limits:
    """What a queue takes: requests and bytes that wait, threads that compute at once."""

    most_waiting: int = 256
    most_waiting_bytes: int = 64 << 20
    slots: int = 1


@dataclass
class _Waiting:
    request: Request
    since_s: float


@dataclass
class _State:
    waiting: deque[_Waiting] = field(default_factory=deque)
    waiting_bytes: int = 0
    computing: int = 0
    # Moving mean of seconds per batch, by pair: what one more has to wait for.
    batch_s: dict[int, float] = field(default_factory=dict)


class Queue:
    """Requests that wait for a tail, and the work on them. All methods may be called from any thread."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.clock = clock
        self.on_waiting: Callable[[], None] = lambda: None
        self._state = _State()
        self._changed = threading.Condition()

    def put(self, request: Request) -> Refusal | None:
        """Let a request wait; returns why it is refused at once, and then does not answer it."""
        state, limits = self._state, self.limits
        with self._changed:
            if len(state.waiting) >= limits.most_waiting:
                return Refusal(refusals.BUSY, f"{limits.most_waiting} requests wait already")
            if state.waiting and state.waiting_bytes + len(request.payload) > limits.most_waiting_bytes:
                return Refusal(refusals.BUSY, f"{state.waiting_bytes:,} bytes wait already")
            now_s = self.clock()
            ready_s = now_s + self._expected_s(request.served)
            # With nothing before it a request is tried: a tail that was slow once would never be asked again.
            if ready_s > request.deadline_s and (state.waiting or state.computing):
                left_ms = 1000 * (request.deadline_s - now_s)
                took_ms = 1000 * (ready_s - now_s)
                return Refusal(refusals.LATE, f"it would take {took_ms:.0f} ms, and {left_ms:.0f} ms are left")
            state.waiting.append(_Waiting(request, now_s))
            state.waiting_bytes += len(request.payload)
        return None

    def work(self) -> None:
        """Compute in this thread until nothing waits, unless enough threads do so already."""
        while (batch := self._take()) is not None:
            try:
                self._compute(batch)
            finally:
                with self._changed:
                    self._state.computing -= 1
                    self._changed.notify_all()

    def drain(self, timeout_s: float) -> bool:
        """Sleep until nothing waits and nothing is computed; returns whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._state.waiting and not self._state.computing, timeout_s)

    def _may_work(self) -> bool:
        return bool(self._state.waiting) and self._state.computing < self.limits.slots

    def _expected_s(self, served: ServedPair) -> float:
        """Return how long a request takes from now on: what waits before it, and itself."""
        state = self._state
        batches: dict[int, int] = {}
        for one in state.waiting:
            key = id(one.request.served)
            batches[key] = batches.get(key, 0) + 1
        most = {id(one.request.served): one.request.served.most_batch for one in state.waiting}
        ahead_s = sum(-(-count // most[key]) * state.batch_s.get(key, 0.0) for key, count in batches.items())
        return ahead_s / self.limits.slots + state.batch_s.get(id(served), 0.0)

    def _take(self) -> list[_Waiting] | None:
        """Take what is computed next, all of one pair; None when there is nothing to do for this thread.

        The eldest request, and others of its pair behind it. What is past its deadline is refused on the way.
        """
        late: list[Request] = []
        state = self._state
        batch: list[_Waiting] = []
        with self._changed:
            if state.computing < self.limits.slots:
                now_s, kept = self.clock(), deque[_Waiting]()
                while state.waiting:
                    one = state.waiting.popleft()
                    if one.request.deadline_s <= now_s:
                        late.append(one.request)
                    elif not batch or (
                        one.request.served is batch[0].request.served
                        and len(batch) < batch[0].request.served.most_batch
                    ):
                        batch.append(one)
                    else:
                        kept.append(one)
                        continue
                    state.waiting_bytes -= len(one.request.payload)
                state.waiting = kept
                if batch:
                    state.computing += 1
            others_could_help = bool(batch) and self._may_work()
        for request in late:
            _answer(request, Refusal(refusals.LATE, "its deadline passed while it waited"))
        if others_could_help:
            self.on_waiting()
        return batch or None

    def _compute(self, batch: list[_Waiting]) -> None:
        begun_s = self.clock()
        served = batch[0].request.served
        fit: list[_Waiting] = []
        inputs: list[Arrays] = []
        for one in batch:
            try:
                inputs.append(served.decode(one.request.payload))
            except Exception as error:  # noqa: BLE001  a payload that makes any decoder fail costs its own request
                _answer(one.request, Refusal(refusals.DAMAGED, one_line(error)[:_LONGEST_REASON]))
            else:
                fit.append(one)
        if not fit:
            return
        try:
            results = run_batch(served, inputs)
        except Exception as error:  # noqa: BLE001  whatever a runtime raises, the server goes on
            words = one_line(f"{type(error).__name__}: {error}")[:_LONGEST_REASON]
            for one in fit:
                _answer(one.request, Refusal(refusals.FAILED, words))
            return
        took_s = self.clock() - begun_s
        with self._changed:
            key, times = id(served), self._state.batch_s
            times[key] = took_s if key not in times else (1 - _WEIGHT) * times[key] + _WEIGHT * took_s
        for one, outputs in zip(fit, results, strict=True):
            _answer(one.request, Result(outputs, 1000 * (begun_s - one.since_s), 1000 * took_s, len(fit)))


def _answer(request: Request, found: Result | Refusal) -> None:
    """Answer one request; whoever cannot take the answer costs neither the others nor this thread."""
    with contextlib.suppress(Exception):
        request.answer(found)
