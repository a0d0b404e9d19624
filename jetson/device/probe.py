"""All that can be found out about this machine, in one record; what cannot is said to be unknown, and why."""

import os
import platform
from typing import Any, Dict, List, NamedTuple, Optional

from jetson.device.board import Board, read_board
from jetson.device.clocks import Clocks, read_clocks, read_temperatures, read_throttle_events
from jetson.device.memory import Memory, free_disk_bytes, read_memory
from jetson.device.numpy_check import find_numpy
from jetson.device.onnxruntime_check import find_onnxruntime
from jetson.device.power_mode import PowerMode, read_power_mode
from jetson.device.tegrastats import TegraStats, read_tegrastats
from jetson.device.tensorrt_versions import InstalledTensorRT, find_tensorrt
from jetson.engines.machine import Machine
from jetson.tensorrt_engines.trtexec import find_trtexec

SCHEMA = "coopexport.probe/1.0"
_MEBIBYTE = 1 << 20


class Probe(NamedTuple):
    """What is known of this machine. `unknown` holds by name why something is None.

    `python`, `numpy`, `onnxruntime`: versions; `trtexec`: its path; `temperatures`: Celsius by zone;
    `throttle_events`: since boot, by guard; `free_disk_bytes`: where this user's files go.
    """

    machine: Machine
    jetpack: Optional[str]
    python: str
    tensorrt: InstalledTensorRT
    trtexec: Optional[str]
    power_mode: Optional[PowerMode]
    clocks: Optional[Clocks]
    memory: Optional[Memory]
    free_disk_bytes: int
    temperatures: Dict[str, float]
    throttle_events: Dict[str, int]
    tegrastats: Optional[TegraStats]
    unknown: Dict[str, str]
    numpy: Optional[str] = None
    onnxruntime: Optional[str] = None

    def to_json(self) -> Dict[str, Any]:
        """Return the probe as `coopexport.probe/1.0` holds it."""
        parts = {
            "power_mode": self.power_mode,
            "clocks": self.clocks,
            "memory": self.memory,
            "tegrastats": self.tegrastats,
        }
        content: Dict[str, Any] = {
            "machine": self.machine.to_json(),
            "python": self.python,
            "tensorrt": {
                key: value
                for key, value in (
                    ("module", self.tensorrt.module),
                    ("package", self.tensorrt.package),
                    ("tool", self.tensorrt.tool),
                )
                if value is not None
            },
            "free_disk_bytes": self.free_disk_bytes,
            "temperatures": self.temperatures,
            "throttle_events": self.throttle_events,
            "unknown": self.unknown,
        }
        for key in ("jetpack", "trtexec", "numpy", "onnxruntime"):
            if getattr(self, key) is not None:
                content[key] = getattr(self, key)
        content.update({key: part.to_json() for key, part in parts.items() if part is not None})
        return content


def take_probe(root: str) -> Probe:
    """Look at everything once; takes seconds, most of them the import of TensorRT in another process."""
    numpy, onnxruntime = find_numpy(), find_onnxruntime()
    board = read_board(root)
    trtexec = find_trtexec(root)
    tensorrt = find_tensorrt(trtexec)
    power_mode, why_no_mode = read_power_mode()
    clocks, why_no_clocks = read_clocks(root)
    tegrastats, why_no_stats = read_tegrastats()
    memory = read_memory(root)
    unknown = {"power_mode": why_no_mode, "clocks": why_no_clocks, "tegrastats": why_no_stats}
    unknown.update({"tensorrt_" + key: reason for key, reason in tensorrt.reasons.items()})
    unknown.update(numpy=numpy.reason, onnxruntime=onnxruntime.reason)
    unknown["board"] = "" if board.model else "there is no device tree: this is not a Jetson"
    unknown["l4t"] = "" if board.l4t else "neither /etc/nv_tegra_release nor the package nvidia-l4t-core names it"
    unknown["trtexec"] = "" if trtexec else "it is neither on PATH nor in /usr/src/tensorrt/bin"
    unknown["memory"] = "" if memory else "/proc/meminfo cannot be read"
    return Probe(
        machine_of(board, tensorrt, onnxruntime.version),
        board.jetpack,
        platform.python_version(),
        tensorrt,
        trtexec,
        power_mode,
        clocks,
        memory,
        free_disk_bytes(os.path.expanduser("~")),
        read_temperatures(root),
        read_throttle_events(root),
        tegrastats,
        {key: reason for key, reason in unknown.items() if reason},
        numpy.version,
        onnxruntime.version,
    )


def machine_of(board: Board, tensorrt: InstalledTensorRT, onnxruntime: Optional[str] = None) -> Machine:
    """Return this machine as engines' identities name it; `onnxruntime`: its version, None where there is none."""
    backends = {"tensorrt": tensorrt.version, "onnxruntime": onnxruntime}
    return Machine(
        platform.system(),
        platform.machine(),
        board=board.model,
        chip=board.chip,
        l4t=board.l4t,
        compute_capability=board.compute_capability,
        cuda=tensorrt.cuda,
        backends={name: version for name, version in backends.items() if version is not None},
    )


def describe_probe(probe: Probe) -> List[str]:
    """Return the probe as lines for a person: one fact each, and what is unknown with its reason."""
    machine = probe.machine
    rows = [
        ("board", machine.board),
        ("chip", _chip(machine)),
        ("L4T", None if machine.l4t is None else "{} (JetPack {})".format(machine.l4t, probe.jetpack or "unknown")),
        ("TensorRT", _tensorrt(probe)),
        ("CUDA", machine.cuda),
        ("trtexec", probe.trtexec),
        ("Python", "{} on {}".format(probe.python, machine.platform)),
        ("NumPy", probe.numpy),
        ("ONNX Runtime", probe.onnxruntime),
        ("power mode", None if probe.power_mode is None else _power_mode(probe.power_mode)),
        ("clocks", None if probe.clocks is None else _clocks(probe.clocks)),
        ("memory", None if probe.memory is None else _memory(probe.memory)),
        ("disk", "{:,} MiB free".format(probe.free_disk_bytes // _MEBIBYTE)),
        ("temperatures", ", ".join("{} {:.1f} C".format(*item) for item in sorted(probe.temperatures.items())) or None),
        ("power", None if probe.tegrastats is None else _power(probe.tegrastats)),
        ("throttled", ", ".join("{} {} times".format(*item) for item in sorted(probe.throttle_events.items())) or None),
    ]
    lines = ["{:<13} {}".format(name, "unknown" if value is None else value) for name, value in rows]
    return lines + ["{:<13} unknown: {}".format(name, reason) for name, reason in sorted(probe.unknown.items())]


def _chip(machine: Machine) -> Optional[str]:
    if machine.chip is None:
        return None
    return "{}, compute capability {}".format(machine.chip, machine.compute_capability or "unknown")


def _tensorrt(probe: Probe) -> Optional[str]:
    version = probe.tensorrt.version
    if version is None:
        return None
    return version + ("" if probe.tensorrt.module else " (no Python module: engines are built by trtexec)")


def _power_mode(mode: PowerMode) -> str:
    return mode.name if mode.identifier is None else "{} (number {} here)".format(mode.name, mode.identifier)


def _clocks(clocks: Clocks) -> str:
    held = {True: "held", False: "not held: sudo jetson_clocks holds them", None: "held or not: unknown"}[clocks.held]
    shown = [
        "{} {:.0f} MHz".format(name, clocks.ranges[name].now_hz / 1e6)
        for name in ("GPU", "EMC")
        if name in clocks.ranges
    ]
    return ", ".join(shown + [held])


def _memory(memory: Memory) -> str:
    return "{:,} of {:,} MiB free".format(memory.available_bytes // _MEBIBYTE, memory.total_bytes // _MEBIBYTE)


def _power(stats: TegraStats) -> Optional[str]:
    return ", ".join("{} {} mW".format(*item) for item in sorted(stats.power_mw.items())) or None
