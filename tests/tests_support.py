"""What several tests need and no fixture is for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def files_below(folder: Path) -> set[str]:
    """Return all files below `folder`, relative to it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def unshare_command() -> list[str] | None:
    """Return the command that gives a process its own mounts, with or without root; None where neither works."""
    if shutil.which("unshare") is None:
        return None
    for options in (["--mount"], ["--map-root-user", "--mount"]):
        command = ["unshare", *options, "sh", "-c"]
        if subprocess.run([*command, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode == 0:
            return command
    return None
