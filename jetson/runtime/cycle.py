"""Samples in turn, so that no part is timed on a single one."""

from typing import Any, Sequence

from jetson.runtime.sampling import UNTIMED_RUNS


class Cycle:
    """Hands out the items of a list in turn, each as often as a round asks for it, so that all of them are timed."""

    def __init__(self, items: Sequence[Any]) -> None:
        self._items = items
        self._calls = 0

    def __call__(self) -> Any:
        item = self._items[self._calls // (UNTIMED_RUNS + 1) % len(self._items)]
        self._calls += 1
        return item
