"""One line of tegrastats, whose form changes from JetPack to JetPack."""

import re
import subprocess
import threading
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

from jetson.errors import DeviceError, one_line
from jetson.processes import end_with_parent, find_program

_TIMEOUT_S = 10.0
_INTERVAL_MS = 100
# "VDD_IN 4872mW/4872mW" since JetPack 5, with a third number on JetPack 7.2; "POM_5V_IN 2200/2200" before, in mW.
_POWER = re.compile(r"\b([A-Z][A-Z0-9_]+|NC) (-?\d+)(?:mW)?/(-?\d+)(?:mW)?(?:/-?\d+mW)?(?= |$)")
_TEMPERATURE = re.compile(r"(\S+)@(-?[\d.]+)C\b")
# PMIC always reads 100; the others read -256 when their zone is off.
_MIN_CELSIUS = -100.0


class TegraStats(NamedTuple):
    """One sample. Memory in MiB, rates in MHz, load in percent, temperatures in Celsius, power in mW (present value).

    None, or no entry, is what this release does not tell. Supplies that are not connected ("NC") are left out.
    """

    memory_used_mib: Optional[int]
    memory_total_mib: Optional[int]
    gpu_load_percent: Optional[int]
    gpu_mhz: Optional[int]
    memory_mhz: Optional[int]
    temperatures: Dict[str, float]
    power_mw: Dict[str, int]

    def to_json(self) -> Dict[str, Any]:
        """Return the sample as a probe records it, without what is not known."""
        return {key: value for key, value in self._asdict().items() if value not in (None, {})}


def read_tegrastats() -> Tuple[Optional[TegraStats], str]:
    """Start tegrastats for one line; return it and "", or None and why there is none."""
    try:
        process = _start(_INTERVAL_MS)
    except DeviceError as error:
        return None, str(error)
    try:
        return _next_line(process), ""
    except DeviceError as error:
        return None, str(error)
    finally:
        _end(process)


class TegraStatsStream:
    """Reads the power of some supplies from tegrastats, which runs until this is closed, every `interval_s` seconds."""

    def __init__(self, rails: Sequence[str], interval_s: float) -> None:
        self._rails = rails
        self._process = _start(int(1000 * interval_s))

    def read(self) -> float:
        """Wait for the next line, and return the sum of the supplies in milliwatts; raises DeviceError without one."""
        power_mw = _next_line(self._process).power_mw
        for name in self._rails:
            if name not in power_mw:
                raise DeviceError("{} cannot be read any more: tegrastats does not say it".format(name))
        return float(sum(power_mw[name] for name in self._rails))

    def close(self) -> None:
        """End tegrastats."""
        _end(self._process)


def _start(interval_ms: int) -> Any:
    """Start tegrastats, which runs until it is ended; raises DeviceError where there is none."""
    program = find_program("tegrastats", ("/usr/bin",))
    if program is None:
        raise DeviceError("there is no tegrastats")
    try:
        return subprocess.Popen(
            [program, "--interval", str(interval_ms)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            universal_newlines=True,
            preexec_fn=end_with_parent,
        )
    except OSError as error:
        raise DeviceError("tegrastats cannot be started: {}".format(error.strerror)) from None


def _next_line(process: Any) -> TegraStats:
    """Return the next sample; raises DeviceError when there is none within some seconds."""
    watch = threading.Timer(_TIMEOUT_S, process.kill)
    watch.start()
    try:
        line = process.stdout.readline()
    finally:
        watch.cancel()
    stats = parse_tegrastats(line)
    if stats is None:
        raise DeviceError("tegrastats says something else: {}".format(one_line(line)[:80] or "nothing"))
    return stats


def _end(process: Any) -> None:
    process.kill()
    process.communicate()


def parse_tegrastats(line: str) -> Optional[TegraStats]:
    """Return what one line says; None when it is not a line of tegrastats. A date may stand before it."""
    memory = re.search(r"\bRAM (\d+)/(\d+)MB", line)
    if memory is None:
        return None
    # "GR3D_FREQ 0%@76" up to JetPack 5, "GR3D_FREQ 0%@[305,305]" on Orin later, "GR3D_FREQ @[0,0,0]" on Thor.
    gpu = re.search(r"\bGR3D_FREQ (?:(\d+)%)?(?:@\[?(\d+))?", line)
    # The load alone is "EMC_FREQ 0%": the rate is root's to know on JetPack 4.
    emc = re.search(r"\bEMC_FREQ (?:\d+%)?@(\d+)", line)
    temperatures = {name: float(value) for name, value in _TEMPERATURE.findall(line)}
    return TegraStats(
        int(memory.group(1)),
        int(memory.group(2)),
        _number(gpu, 1),
        _number(gpu, 2),
        _number(emc, 1),
        {name: value for name, value in temperatures.items() if value > _MIN_CELSIUS and name != "PMIC"},
        {name: int(now) for name, now, _ in _POWER.findall(line) if name not in ("NC", "RAM", "SWAP")},
    )


def _number(found: Any, group: int) -> Optional[int]:
    return int(found.group(group)) if found is not None and found.group(group) is not None else None
