"""A folder on a file system of its own, small or read-only, seen by one command alone."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests_support import unshare_command

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class MountResult:
    """What a command printed, how it ended, and the files that it left in `out/`."""

    code: int
    output: str
    errors: str
    files: set[str]

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.errors.splitlines() if line.strip()]


@pytest.fixture
def in_mount() -> Callable[..., MountResult]:
    """Run the command line with the project's `out/` on a fresh tmpfs: `size=16k`, or `ro`."""
    unshare = unshare_command()
    if unshare is None:
        pytest.skip("left out: needs its own mounts; run as root, or allow unprivileged user namespaces")

    def run(project: Path, options: str, *arguments: str) -> MountResult:
        out = project / "out"
        out.mkdir()
        command = shlex.join([sys.executable, "-m", "coopexport", *arguments])
        script = (
            f"mount -t tmpfs -o size={'16m' if options == 'ro' else options.removeprefix('size=')} none {out} && "
            + (f"mount -o remount,ro {out} && " if options == "ro" else "")
            + f"{{ {command}; code=$?; cd {project} && find out -type f -o -type l > files.txt; exit $code; }}"
        )
        completed = subprocess.run(
            [*unshare, script],
            cwd=project,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        )
        files = set((project / "files.txt").read_text().split())
        return MountResult(completed.returncode, completed.stdout, completed.stderr, files)

    return run
