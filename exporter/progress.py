"""How a long verb says how far it is: a callback, so that no room prints."""

from __future__ import annotations

from typing import Protocol


class OnProgress(Protocol):
    """Is told what is being done, how many parts of it are done, and of how many."""

    def __call__(self, task: str, done: int, total: int, /) -> None:
        """Take note; must be quick, and must not raise."""


def no_progress(task: str, done: int, total: int, /) -> None:
    """Ignore all progress."""
