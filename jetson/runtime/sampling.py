"""Taking latencies: warm-up, interleaved rounds, every sample kept.

Interleaving means that all items run once in each round, so that a machine that drifts (clocks,
neighbours) slows all of them alike and ratios between them stay true.
"""

import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from jetson.errors import one_line

Item = Tuple[str, Callable[[], Any]]


def sample_interleaved(
    items: Sequence[Item],
    rounds: int,
    warm_up: int,
    on_round: Optional[Callable[[int], None]] = None,
) -> Tuple[Dict[str, List[float]], Dict[str, str]]:
    """Run every item once per round and return its latencies in milliseconds.

    `items`: (name, function without arguments), names unique. The first `warm_up` rounds are not
    kept; `rounds` more are. `on_round` is called after each round with its number, from 0 on.
    Returns samples by name, and for items that raised, the reason by name instead: a failure is
    never a number. An item that failed once, even in the warm-up, is not run again.
    Raises ValueError when two items share a name.
    """
    samples: Dict[str, List[float]] = {name: [] for name, _ in items}
    if len(samples) != len(items):
        raise ValueError("two items share a name: {}".format(", ".join(name for name, _ in items)))
    failures: Dict[str, str] = {}
    for index in range(warm_up + rounds):
        for name, run in items:
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
            if index >= warm_up:
                samples[name].append(1000.0 * (ended - started))
        if on_round is not None:
            on_round(index)
    return samples, failures
