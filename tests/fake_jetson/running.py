"""Which processes run, read from /proc: the tests need no further tools for it."""

from __future__ import annotations

import contextlib
from pathlib import Path


def children_of(process_id: int) -> list[int]:
    """Return the ids of a process's direct children."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # "pid (name) state parent ...", and the name may hold anything.
            parent = status.read_text(errors="replace").rpartition(")")[2].split()[1]
            if int(parent) == process_id:
                found.append(int(status.parent.name))
    return found


def running_with(text: str) -> list[str]:
    """Return the command lines of all processes that hold `text` there or in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if text in line or text.encode() in (path.parent / "environ").read_bytes():
                found.append(line)
    return found
