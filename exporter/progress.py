"""How a long verb says how far it is: a callback, so that no room prints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class OnProgress(Protocol):
    """Is told what is being done, how many parts of it are done, and of how many."""

    def __call__(self, task: str, done: int, total: int, /) -> None:
        """Take note; must be quick, and must not raise."""


def no_progress(task: str, done: int, total: int, /) -> None:
    """Ignore all progress."""


def counter(on_progress: OnProgress, task: str, total: int, before: int = 0) -> Callable[[int], None]:
    """Return what passes on how many parts of one task are done; `before`: of its parts, those done already."""
    return lambda done: on_progress(task, before + done, total)


def ignore(_found: object, /) -> None:
    """Ignore what a verb tells as it goes."""
