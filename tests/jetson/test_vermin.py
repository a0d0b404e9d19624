"""vermin, which knows what came with which Python, finds nothing newer than 3.6 on the ground floor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jetson

ROOM = Path(jetson.__file__).parent
COMMAND = [
    sys.executable,
    "-c",
    "import vermin; vermin.main()",
    "--target=3.6-",
    "--processes=1",
    "--violations",
    "--no-tips",
    "--eval-annotations",
]


def run_vermin(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, str(path)], capture_output=True, text=True, timeout=120)


def test_the_ground_floor_is_python_3_6() -> None:
    ended = run_vermin(ROOM)
    assert ended.returncode == 0, ended.stdout


def test_vermin_sees_what_it_should(tmp_path: Path) -> None:
    (tmp_path / "newer.py").write_text("import time\n\n\ndef now():\n    return time.perf_counter_ns()\n")
    ended = run_vermin(tmp_path / "newer.py")
    assert ended.returncode == 1
    assert "time.perf_counter_ns" in ended.stdout
