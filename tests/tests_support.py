"""What several tests need and no fixture is for."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

STUCK_S = 600  # so long only when something waits for ever


def files_below(folder: Path) -> set[str]:
    """Return all files below `folder`, relative to it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Return when `is_so`; fails saying `what` was waited for when it never is."""
    ends_at_s = time.monotonic() + STUCK_S
    while not is_so():
        assert time.monotonic() < ends_at_s, f"it never came: {what}"
        time.sleep(0.02)


def unshare_command() -> list[str] | None:
    """Return the command that gives a process its own mounts, with or without root; None where neither works."""
    if shutil.which("unshare") is None:
        return None
    for options in (["--mount"], ["--map-root-user", "--mount"]):
        command = ["unshare", *options, "sh", "-c"]
        if subprocess.run([*command, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode == 0:
            return command
    return None
