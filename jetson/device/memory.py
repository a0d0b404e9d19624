"""Memory and disk that are free: on a Jetson CPU and GPU share one memory."""

import os
import re
from typing import Any, Dict, NamedTuple, Optional

from jetson.files.system_files import read_text


class Memory(NamedTuple):
    """Bytes of the whole memory, of what a new program can have of it, and of free swap (None: not known)."""

    total_bytes: int
    available_bytes: int
    swap_free_bytes: Optional[int]

    def to_json(self) -> Dict[str, Any]:
        """Return the memory as a probe records it, without what is not known."""
        return {key: value for key, value in self._asdict().items() if value is not None}


def read_memory(root: str) -> Optional[Memory]:
    """Return what /proc/meminfo below `root` says; None when it cannot be read."""
    sizes = {
        name: 1024 * int(kibibytes)
        for name, kibibytes in re.findall(r"^(\w+): +(\d+) kB$", read_text(root, "/proc/meminfo") or "", re.MULTILINE)
    }
    if "MemTotal" not in sizes or "MemAvailable" not in sizes:
        return None
    return Memory(sizes["MemTotal"], sizes["MemAvailable"], sizes.get("SwapFree"))


def free_disk_bytes(path: str) -> int:
    """Return the bytes that this user may still write where `path` is, or will be; raises OSError."""
    folder = os.path.abspath(path)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize
