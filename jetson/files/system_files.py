"""The files in which Linux describes the machine, below a folder that need not be the root."""

import glob
import os
from typing import List, Optional

# Where the system's files lie: another folder for a container that has the host's files mounted, and for tests.
ROOT_VARIABLE = "COOPEXPORT_DEVICE_ROOT"


def device_root() -> str:
    """Return the folder that the device's own files lie under: the root, unless the environment says otherwise."""
    return os.environ.get(ROOT_VARIABLE, "/")


def system_path(root: str, path: str) -> str:
    """Return where the absolute `path` of the device lies below `root`."""
    return os.path.join(root, path.lstrip("/"))


def read_text(root: str, path: str) -> Optional[str]:
    """Return a small system file's text without blanks and zero bytes at its ends; None when it cannot be read."""
    try:
        with open(system_path(root, path), "rb") as file:
            return file.read(1 << 20).decode("utf-8", "replace").strip(" \t\r\n\0")
    except OSError:
        return None


def read_number(root: str, path: str) -> Optional[int]:
    """Return the whole number that a system file holds; None when it cannot be read or holds something else."""
    text = read_text(root, path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def find_files(root: str, pattern: str) -> List[str]:
    """Return the paths on the device, sorted, that a pattern of shell wildcards matches."""
    top = root.rstrip("/")
    return sorted(path[len(top) :] for path in glob.glob(glob.escape(top) + pattern))
