"""Taking latencies: warm-up until steady, interleaved rounds, every sample kept.

Interleaving means that all items run once in each round, so that a machine that drifts (clocks,
neighbours) slows all of them alike and ratios between them stay true. What runs after each other for one
image (head and encode of a cut, say) is a chain: it runs untimed before it is timed, so that its code and
weights are in the caches as in a stream of images, where nothing else runs in between.
"""

import itertools
import time
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from jetson.errors import one_line
from jetson.runtime.steadiness import WINDOW, remaining_trend

# After one, small parts still took half as long again as in a pair that runs image after image; after two, a tenth.
UNTIMED_RUNS = 2
# A warm-up that is not over after so many times its least length will not be over soon.
_MOST_TIMES = 5
Item = Tuple[str, Callable[[], Any]]
# Called after each round: how many are done, and how many there will be as far as is known.
OnRound = Callable[[int, int], None]


class WarmUp(NamedTuple):
    """Rounds before those that are kept: `least`, and on until all items are steady or `most` are done."""

    least: int
    most: int


def until_steady(least: int) -> WarmUp:
    """Return a warm-up of `least` rounds that goes on until all items are steady, if need be five times as long."""
    return WarmUp(least, _MOST_TIMES * max(least, WINDOW))


def fixed(rounds: int) -> WarmUp:
    """Return a warm-up of just so many rounds: for items that take care of themselves."""
    return WarmUp(rounds, rounds)


class Taken(NamedTuple):
    """What was measured.

    `samples_ms`: by item, one per round, in order; `failures`: by item that raised, the reason. `warm_up_rounds`: how
    many rounds came before. `unsteady`: by item, why its warm-up did not end steady; None where the warm-up was too
    short to tell.
    """

    samples_ms: Dict[str, List[float]]
    failures: Dict[str, str]
    warm_up_rounds: int
    unsteady: Optional[Dict[str, str]]

    @property
    def steady(self) -> Optional[bool]:
        """Tell whether all items were steady when the warm-up ended; None where it was too short to tell."""
        return None if self.unsteady is None else not self.unsteady


def sample_interleaved(
    items: Sequence[Item],
    rounds: int,
    warm_up: WarmUp,
    on_round: Optional[OnRound] = None,
    chain_of: Optional[Callable[[str], Any]] = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Taken:
    """Run every item once per round and return its latencies in milliseconds.

    `items`: (name, function without arguments), names unique. After the rounds of `warm_up`, `rounds` more
    are kept, also of items that did not become steady: those are named, with the reason.
    `chain_of`: what an item's name belongs to; items side by side of the same chain all run
    `UNTIMED_RUNS` times in each round, in their order, and then once more, timed. `clock`: in seconds.
    Items that raise have a reason and no samples: a failure is never a number. An item that failed once,
    even in the warm-up, is not run again. Raises ValueError when two items share a name.
    """
    if len({name for name, _ in items}) != len(items):
        raise ValueError("two items share a name: {}".format(", ".join(name for name, _ in items)))
    samples_ms: Dict[str, List[float]] = {name: [] for name, _ in items}
    failures: Dict[str, str] = {}

    def take_round() -> None:
        for name, run, is_timed in _in_order(items, chain_of):
            if name in failures:
                continue
            try:
                # Nothing but the call stands between the two readings.
                started = clock()
                run()
                ended = clock()
            except Exception as error:  # noqa: BLE001  any failure of an item is data of the run
                failures[name] = one_line("{}: {}".format(type(error).__name__, error))
                del samples_ms[name]
                continue
            if is_timed:
                samples_ms[name].append(1000.0 * (ended - started))

    done = 0
    trends = dict.fromkeys(samples_ms, "")  # of what has not been steady yet
    while done < warm_up.least or (trends and done < warm_up.most):
        take_round()
        done += 1
        if done >= WINDOW:
            trends = _remaining_trends(samples_ms, trends)
        if on_round is not None:
            on_round(done, max(done, warm_up.least) + rounds)
    for taken in samples_ms.values():
        taken.clear()
    for index in range(1, rounds + 1):
        take_round()
        if on_round is not None:
            on_round(done + index, done + rounds)
    unsteady = {name: trends[name] for name in samples_ms if name in trends}
    return Taken(samples_ms, failures, done, unsteady if done >= WINDOW else None)


def _remaining_trends(samples_ms: Dict[str, List[float]], names: Iterable[str]) -> Dict[str, str]:
    """Return in words, of those of `names` that still get faster or slower, how.

    What was steady once is not asked again: of many items some always seem to have a trend by chance.
    """
    trends = {name: remaining_trend(samples_ms[name]) for name in names if name in samples_ms}
    return {name: trend for name, trend in trends.items() if trend is not None}


def _in_order(
    items: Sequence[Item], chain_of: Optional[Callable[[str], Any]]
) -> Iterator[Tuple[str, Callable[[], Any], bool]]:
    """Yield what runs in a round, and whether it is timed."""
    if chain_of is None:
        for name, run in items:
            yield name, run, True
        return
    for _, grouped in itertools.groupby(items, lambda item: chain_of(item[0])):
        chain = list(grouped)
        for is_timed in (False,) * UNTIMED_RUNS + (True,):
            for name, run in chain:
                yield name, run, is_timed
