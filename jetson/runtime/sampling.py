"""Taking latencies: warm-up, interleaved rounds, every sample kept.

Interleaving means that all items run once in each round, so that a machine that drifts (clocks,
neighbours) slows all of them alike and ratios between them stay true. What runs after each other for one
image (head and encode of a cut, say) is a chain: it runs untimed before it is timed, so that its code and
weights are in the caches as in a stream of images, where nothing else runs in between.
"""

import itertools
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from jetson.errors import one_line

# After one, small parts still took half as long again as in a pair that runs image after image; after two, a tenth.
UNTIMED_RUNS = 2
Item = Tuple[str, Callable[[], Any]]


def sample_interleaved(
    items: Sequence[Item],
    rounds: int,
    warm_up: int,
    on_round: Optional[Callable[[int], None]] = None,
    chain_of: Optional[Callable[[str], Any]] = None,
) -> Tuple[Dict[str, List[float]], Dict[str, str]]:
    """Run every item once per round and return its latencies in milliseconds.

    `items`: (name, function without arguments), names unique. The first `warm_up` rounds are not
    kept; `rounds` more are. `on_round` is called after each round with its number, from 0 on.
    `chain_of`: what an item's name belongs to; items side by side of the same chain all run
    `UNTIMED_RUNS` times in each round, in their order, and then once more, timed.
    Returns samples by name, and for items that raised, the reason by name instead: a failure is
    never a number. An item that failed once, even in the warm-up, is not run again.
    Raises ValueError when two items share a name.
    """
    samples: Dict[str, List[float]] = {name: [] for name, _ in items}
    if len(samples) != len(items):
        raise ValueError("two items share a name: {}".format(", ".join(name for name, _ in items)))
    failures: Dict[str, str] = {}
    for index in range(warm_up + rounds):
        for name, run, is_timed in _in_order(items, chain_of):
            if name in failures:
                continue
            started = time.perf_counter()
            try:
                run()
            except Exception as error:  # noqa: BLE001  any failure of an item is data of the run
                failures[name] = one_line("{}: {}".format(type(error).__name__, error))
                del samples[name]
                continue
            ended = time.perf_counter()
            if is_timed and index >= warm_up:
                samples[name].append(1000.0 * (ended - started))
        if on_round is not None:
            on_round(index)
    return samples, failures


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
