"""ONNX Runtime is looked for without importing it here: missing, broken, or one that ends the process, each by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
LOOK = (
    "import sys\nfrom jetson.device.onnxruntime_check import find_onnxruntime\nfound = find_onnxruntime()\n"
    "assert 'onnxruntime' not in sys.modules\nprint(found.version, found.reason, sep='|')"
)


def look(*folders: Path, flags: tuple[str, ...] = ()) -> tuple[str, str]:
    path = os.pathsep.join(str(folder) for folder in (*folders, REPOSITORY))
    ended = subprocess.run(
        [sys.executable, *flags, "-c", LOOK], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert ended.returncode == 0, ended.stderr
    version, _, reason = ended.stdout.strip().partition("|")
    return version, reason


def test_the_one_that_is_here_is_found() -> None:
    assert look() == (onnxruntime.__version__, "")


def test_none_is_said_with_how_to_install_it() -> None:
    version, reason = look(flags=("-S",))
    assert version == "None"
    assert reason == f"{sys.executable} has no ONNX Runtime; install it: {sys.executable} -m pip install onnxruntime"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os\nos.abort()\n", r"importing ONNX Runtime (PLACE) ends Python by SIGABRT; install another: "),
        (
            "raise ImportError('libgomp.so.1: no such file')\n",
            "cannot be imported (libgomp.so.1: no such file); install",
        ),
        ("__version__ = '1.0'\n", "PLACE is imported as ONNX Runtime and is something else; rename or remove it"),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, source: str, said: str) -> None:
    (tmp_path / "onnxruntime").mkdir()
    (tmp_path / "onnxruntime/__init__.py").write_text(source)
    version, reason = look(tmp_path)
    assert version == "None"
    assert said.replace("PLACE", str(tmp_path / "onnxruntime")) in reason
