"""Folders on file systems of their own, small or read-only, seen by one process alone."""

from __future__ import annotations

import json
import os
import shlex
import shutil
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


# Runs command lines one after the other, each in a folder of its own; importing what they need takes longest.
_RUN_ALL = """
import contextlib, io, json, os, sys
from coopexport.command_line import run
results = []
for folder, arguments in json.loads(sys.argv[1]):
    os.chdir(folder)
    sys.argv = ["coopexport", *arguments]
    code, output, errors = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            run()
        except SystemExit as ended:
            code = ended.code
    files = [os.path.join(where, name) for where, _, names in os.walk("out") for name in names]
    results.append((code, output.getvalue(), errors.getvalue(), files))
print(json.dumps(results))
"""


@pytest.fixture
def in_mounts(tmp_path: Path, fresh_project: Path) -> Callable[..., list[MountResult]]:
    """Run command lines, each in a project whose `out/` is a fresh tmpfs: given as (`size=16k` or `ro`, arguments)."""
    unshare = unshare_command()
    if unshare is None:
        pytest.skip("left out: needs its own mounts; run as root, or allow unprivileged user namespaces")

    def run(*commands: tuple[str, list[str]]) -> list[MountResult]:
        mounts, jobs = [], []
        for number, (options, arguments) in enumerate(commands):
            project = Path(shutil.copytree(fresh_project, tmp_path / f"project{number}"))
            out = project / "out"
            out.mkdir()
            size = "16m" if options == "ro" else options.removeprefix("size=")
            mounts.append(f"mount -t tmpfs -o size={size} none {out}")
            if options == "ro":
                mounts.append(f"mount -o remount,ro {out}")
            jobs.append((str(project), arguments))
        script = " && ".join([*mounts, shlex.join([sys.executable, "-c", _RUN_ALL, json.dumps(jobs)])])
        completed = subprocess.run(
            [*unshare, script],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        )
        assert completed.returncode == 0, completed.stderr
        return [MountResult(*result[:3], set(result[3])) for result in json.loads(completed.stdout)]

    return run
