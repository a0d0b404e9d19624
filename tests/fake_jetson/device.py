"""Making a fake Jetson: a folder with the system's files, the tools that JetPack brings, and a home."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests_support import STUCK_S, wait_until

from fake_jetson.boards import FakeBoard

TESTS = Path(__file__).resolve().parent.parent
PROGRAM = Path(__file__).resolve().parent / "trtexec_program.py"


def python_3_6() -> str | None:
    """Return a real Python 3.6 with NumPy, as JetPack 4 has it, or None."""
    given = os.environ.get("COOPEXPORT_PYTHON36")
    found = shutil.which(given or "python3.6")
    # A shim of pyenv is there without the Python behind it.
    usable = found and subprocess.run([found, "-c", "import numpy"], capture_output=True).returncode == 0
    return found if usable else None


def any_python_3_6() -> str | None:
    """Return a real Python 3.6, with or without NumPy, or None."""
    found = shutil.which(os.environ.get("COOPEXPORT_PYTHON36") or "python3.6")
    asked = found and subprocess.run([found, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
    # A shim of pyenv is there without the Python behind it, and is not what the Python calls itself.
    return asked.stdout.strip() if asked and asked.returncode == 0 else None


@dataclass(frozen=True)
class Barrier:
    """Where trtexec stops: it makes the file `reached` in `folder`, and goes on when the gate is opened."""

    folder: Path

    @property
    def fault(self) -> dict[str, str]:
        """What a fault of `set_faults` needs for trtexec to stop there."""
        return {"reached": str(self.folder / "reached"), "until": str(self.folder / "open")}

    def wait(self) -> None:
        """Return when trtexec stands at the barrier."""
        wait_until((self.folder / "reached").exists, "trtexec at the barrier")

    def open(self) -> None:
        """Let trtexec go on."""
        (self.folder / "open").touch()


@dataclass(frozen=True)
class FakeDevice:
    """A fake Jetson below `root`. Its processes run with `environment`."""

    board: FakeBoard
    root: Path
    python: str
    module: bool = False

    @property
    def home(self) -> Path:
        """The user's home folder on it."""
        return self.root / "home" / "jetson user"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a session on it: its tools before this machine's."""
        version = ".".join(map(str, self.board.tensorrt[:2]))
        double = {"PYTHONPATH": str(TESTS / "tensorrt_doubles/site"), "COOPEXPORT_DOUBLE": version}
        return {
            **(double if self.module else {}),
            "HOME": str(self.home),
            "PATH": f"{self.root}/usr/bin:{self.root}/usr/sbin:/usr/local/bin:/usr/bin:/bin",
            "COOPEXPORT_DEVICE_ROOT": str(self.root),
            "OMP_NUM_THREADS": "1",
            "LANG": "C.UTF-8",
        }

    def run(self, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command on it, to its end."""
        return subprocess.run([str(item) for item in arguments], capture_output=True, text=True, timeout=STUCK_S,
                              env=self.environment, cwd=cwd or self.home)  # fmt: skip

    def agent(self, agent_file: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the agent on it."""
        return self.run("python3", agent_file, *arguments)

    def set_faults(self, *faults: dict[str, Any]) -> None:
        """Say what trtexec does wrong from now on; see `play_fault`."""
        (self.root / "faults.json").write_text(json.dumps(faults))

    def set_free_memory(self, mebibytes: int) -> None:
        """Say how much memory is free."""
        self._write("/proc/meminfo", meminfo(self.board.memory_kib, 1024 * mebibytes))

    def _write(self, path: str, text: str) -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def make_device(board: FakeBoard, root: Path, module: bool = False, onnxruntime: bool = False) -> FakeDevice:
    """Make a fake board below `root`, which is new; `module`: with TensorRT's Python module, a double that executes.

    `onnxruntime`: with a Python that has it, which is this one.
    """
    device = FakeDevice(board, root, sys.executable if onnxruntime else python_3_6() or sys.executable, module)
    device.home.mkdir(parents=True)
    device._write("/proc/device-tree/model", board.model + "\0")
    device._write("/proc/device-tree/compatible", "".join(name + "\0" for name in board.compatible))
    device._write("/proc/meminfo", meminfo(board.memory_kib, board.memory_kib * 3 // 4))
    device._write("/etc/nv_tegra_release", board.release + "\n")
    for path, text in board.files.items():
        device._write(path, text + "\n")
    device._write("/power_mode", board.power_mode)
    modes = "\n".join(f"< POWER_MODEL ID={number} NAME={name} >" for number, name in enumerate(board.power_modes))
    device._write("/etc/nvpmodel.conf", modes + "\n")
    cuda = board.package.rpartition("+cuda")[2]
    packages = {f"libnvinfer{board.tensorrt[0]}": board.package, f"libnvinfer-plugin{board.tensorrt[0]}": board.package,
                "nvidia-l4t-core": f"{board.l4t}-20250107174145", "cuda-toolkit": cuda}  # fmt: skip
    trtexec = shlex.join([sys.executable, str(PROGRAM), ".".join(map(str, board.tensorrt))])
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    tools = {
        "/usr/bin/python3": f'exec {shlex.quote(device.python)} "$@"',
        "/usr/bin/tegrastats": f"while :; do echo {shlex.quote(board.tegrastats)}; sleep 0.1; done",
        "/usr/sbin/nvpmodel": _nvpmodel_script(board, root),
        "/usr/bin/jetson_clocks": _clocks_script(board),
        "/usr/bin/dpkg-query": _dpkg_script(packages),
        "/usr/src/tensorrt/bin/trtexec": f'PYTHONPATH={shlex.quote(paths)} exec {trtexec} "$@"',
    }
    for path, script in tools.items():
        device._write(path, f"#!/bin/sh\n{script}\n")
        (root / path.lstrip("/")).chmod(0o755)
    return device


def meminfo(total_kib: int, available_kib: int) -> str:
    """Return /proc/meminfo's first lines."""
    return f"MemTotal: {total_kib:>14} kB\nMemFree: {available_kib // 2:>15} kB\nMemAvailable: {available_kib:>10} kB\n"


def _nvpmodel_script(board: FakeBoard, root: Path) -> str:
    """Answer -q, and change the mode for -m N: not to one that takes a restart, to which nobody says yes."""
    cases = "\n".join(
        f"  {number}) echo 'NVPM WARN: Reboot required for changing to this power mode: {number}' ;;"
        if name in board.restarting
        else f'  {number}) printf \'NV Power Mode: {name}\n{number}\n\' > "$state.new"; mv "$state.new" "$state" ;;'
        for number, name in enumerate(board.power_modes)
    )
    return f"""\
state={shlex.quote(str(root / "power_mode"))}
[ "$1" = -q ] && {{ cat "$state"; exit; }}
[ "$1" = -m ] || exit 1
echo "$2" >> "$state.set"
[ -e "$state.locked" ] && {{ echo 'NVPM ERROR: Error opening /var/lib/nvpmodel/status: 13' >&2; exit 1; }}
case "$2" in
{cases}
  *) echo "NVPM ERROR: invalid mode $2" >&2; exit 1 ;;
esac"""


def _clocks_script(board: FakeBoard) -> str:
    if board.clocks is None:
        return 'echo "Error: Failed to access CPU clocks, run as root" >&2\nexit 1'
    return f'[ "$1" = --show ] || exit 1\nprintf %s {shlex.quote(board.clocks)}'


def _dpkg_script(packages: dict[str, str]) -> str:
    """Answer `--show --showformat=F PATTERN` for the forms that the agent asks for."""
    lines = "\n".join(f"match {shlex.quote(name)} {shlex.quote(version)}" for name, version in packages.items())
    return f"""\
[ "$1" = --show ] || exit 2
form="${{2#--showformat=}}"
found=1
match() {{
  case "$1" in $pattern) ;; *) return ;; esac
  found=0
  printf '%b' "$(printf '%s' "$form" | sed "s|\\${{Package}}|$1|; s|\\${{Version}}|$2|")"
}}
pattern="$3"
{lines}
[ $found = 0 ] || echo "dpkg-query: no packages found matching $3" >&2
exit $found"""
