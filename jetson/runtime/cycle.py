"""Samples in turn, so that no part is timed on a single one."""

from typing import Any, Callable, Sequence

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


def calls_in_turn(function: Callable[[Any], Any], items: Sequence[Any], batch: int = 1) -> Callable[[], Any]:
    """Return what calls `function` with the next item, or once for each of the next `batch` items.

    The last item is repeated where the items do not fill a batch.
    """
    if batch == 1:
        in_turn = Cycle(items)
        return lambda: function(in_turn())
    filled = list(items) + [items[-1]] * (-len(items) % batch)
    groups = Cycle([filled[start : start + batch] for start in range(0, len(filled), batch)])
    return lambda: [function(item) for item in groups()]
