"""Where a machine shows its power: a Jetson's INA3221 and INA238 through sysfs, tegrastats, or a PC's RAPL.

Files as in the kernel's documentation (hwmon/ina3221, hwmon/ina238, power/powercap) and, for JetPack 4's own driver, as
boards have them: iio:device*/rail_name_0, in_power0_input.
"""

import functools
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from jetson.device.tegrastats import TegraStatsStream, read_tegrastats
from jetson.errors import DeviceError
from jetson.files.system_files import find_files, read_number, read_text

# The input of the whole module or board: the other rails are parts of it. Where a board has none, all are summed up.
_TOTALS = ("VDD_IN", "POM_5V_IN", "VIN")
_NOT_CONNECTED = "NC"
# INA3221 drivers tell how long a conversion of all channels takes; reading more often repeats what was read.
_LEAST_INTERVAL_S = 0.02
_TEGRASTATS_INTERVAL_S = 0.1
_RAPL = "/sys/class/powercap/intel-rapl:*"  # of AMD's processors, too


class PowerSource(NamedTuple):
    """Where power is read. `kind`: "ina3221", "iio", "tegrastats" or "rapl"; `rails`: their sum is what is read.

    `interval_s`: seconds between two readings. `open()` returns a reader: its `read()` returns milliwatts, now or since
    the reading before, and raises DeviceError when a rail cannot be read any more; `close()` ends it. A reader that
    `waits` takes `interval_s` for a reading itself.
    """

    kind: str
    rails: Tuple[str, ...]
    interval_s: float
    open: Callable[[], Any]
    waits: bool = False

    def to_json(self) -> Dict[str, Any]:
        """Return what a latency run records of it."""
        return {"source": self.kind, "rails": list(self.rails), "interval_ms": 1000.0 * self.interval_s}


class Rail(NamedTuple):
    """One supply: the product of what its `files` hold, times `scale`, is its power in milliwatts."""

    name: str
    files: Tuple[str, ...]
    scale: float


def find_power_source(root: str, with_processor: bool = False) -> Tuple[Optional[PowerSource], str]:
    """Return where power is shown below `root` and "", or None and why nowhere.

    The first that works of: sysfs, tegrastats and, `with_processor`, RAPL, which tells of a PC's processors alone.
    """
    for kind, rails, interval_s in (
        ("ina3221", _hwmon_rails(root), _hwmon_interval_s(root)),
        ("iio", _iio_rails(root), _LEAST_INTERVAL_S),
    ):
        summed = _summed(rails)
        if summed:
            names = tuple(rail.name for rail in summed)
            return PowerSource(kind, names, interval_s, functools.partial(RailReader, root, summed)), ""
    stats, reason = read_tegrastats()
    if stats is not None and stats.power_mw:
        names = _total(tuple(stats.power_mw))
        source = PowerSource(
            "tegrastats",
            names,
            _TEGRASTATS_INTERVAL_S,
            lambda: TegraStatsStream(names, _TEGRASTATS_INTERVAL_S),
            waits=True,
        )
        return source, ""
    if with_processor:
        counters = _rapl_counters(root)
        if counters:
            names = tuple(counter.name for counter in counters)
            return PowerSource("rapl", names, _LEAST_INTERVAL_S, lambda: RaplReader(root, counters)), ""
        reason += "; no processor's energy is readable in {}".format(_RAPL.rpartition("/")[0])
    return None, "no rail is in /sys/class/hwmon or below iio; {}".format(reason or "tegrastats shows no power")


class RailReader:
    """Reads rails: the files are small, and each reading asks the sensor."""

    def __init__(self, root: str, rails: Sequence[Rail]) -> None:
        self._root, self._rails = root, rails

    def read(self) -> float:
        """Return the sum of all rails in milliwatts; raises DeviceError naming the rail that cannot be read."""
        total_mw = 0.0
        for rail in self._rails:
            power = rail.scale
            for path in rail.files:
                value = read_number(self._root, path)
                if value is None:
                    raise DeviceError("{} cannot be read any more ({})".format(rail.name, path))
                power *= value
            total_mw += power
        return total_mw

    def close(self) -> None:
        """There is nothing to end."""


class Counter(NamedTuple):
    """An energy counter of RAPL: `path` holds microjoules, which start again after `most_uj`."""

    name: str
    path: str
    most_uj: int


class RaplReader:
    """Turns energy counters into the power since the reading before; the first reading is 0."""

    def __init__(self, root: str, counters: Sequence[Counter], clock: Callable[[], float] = time.monotonic) -> None:
        self._root, self._counters, self._clock = root, counters, clock
        self._last: Optional[Tuple[float, List[int]]] = None

    def read(self) -> float:
        """Return the processors' power in milliwatts; raises DeviceError naming the counter that cannot be read."""
        now, energies_uj = self._clock(), []
        for counter in self._counters:
            value = read_number(self._root, counter.path)
            if value is None:
                raise DeviceError("{} cannot be read any more ({})".format(counter.name, counter.path))
            energies_uj.append(value)
        last, self._last = self._last, (now, energies_uj)
        if last is None or now <= last[0]:
            return 0.0
        spent_uj = sum(
            (after - before) % (counter.most_uj + 1)
            for counter, before, after in zip(self._counters, last[1], energies_uj)  # noqa: B905  Python 3.10
        )
        return spent_uj / 1000.0 / (now - last[0])

    def close(self) -> None:
        """There is nothing to end."""


def _hwmon_rails(root: str) -> List[Rail]:
    """Return the rails of the kernel's own drivers, JetPack 5 on; a channel without a current is a sum of others."""
    found = []
    for folder in find_files(root, "/sys/class/hwmon/hwmon*"):
        sensor = read_text(root, folder + "/name")
        if sensor == "ina3221":
            for path in find_files(root, folder + "/in[0-9]*_label"):
                channel = path.rpartition("/in")[2][: -len("_label")]
                files = "{}/in{}_input".format(folder, channel), "{}/curr{}_input".format(folder, channel)
                found.append(Rail(read_text(root, path) or "", files, 1e-3))  # mV times mA are microwatts
        elif sensor == "ina238":  # of Thor's whole board
            found.append(Rail("VIN", (folder + "/power1_input",), 1e-3))
    return [rail for rail in found if _is_readable(root, rail)]


def _iio_rails(root: str) -> List[Rail]:
    """Return the rails of JetPack 4's own driver."""
    found = []
    for pattern in ("/sys/bus/i2c/drivers/ina3221x/*/iio:device*", "/sys/bus/iio/devices/iio:device*"):
        for path in find_files(root, pattern + "/rail_name_*"):
            folder, _, name = path.rpartition("/")
            channel = name[len("rail_name_") :]
            power = "{}/in_power{}_input".format(folder, channel)
            found.append(Rail(read_text(root, path) or "", (power,), 1.0))
        if found:
            break  # both patterns lead to the same sensors
    return [rail for rail in found if _is_readable(root, rail)]


def _is_readable(root: str, rail: Rail) -> bool:
    named = rail.name not in ("", _NOT_CONNECTED)
    return named and all(read_number(root, path) is not None for path in rail.files)


def _hwmon_interval_s(root: str) -> float:
    """Return how long the slowest INA3221 takes for a reading, and not less than is useful."""
    longest_ms = 0
    for folder in find_files(root, "/sys/class/hwmon/hwmon*"):
        if read_text(root, folder + "/name") == "ina3221":
            longest_ms = max(longest_ms, read_number(root, folder + "/update_interval") or 0)
    return max(_LEAST_INTERVAL_S, longest_ms / 1000.0)


def _summed(rails: Sequence[Rail]) -> List[Rail]:
    names = _total(tuple(rail.name for rail in rails))
    return [rail for rail in rails if rail.name in names]


def _total(names: Tuple[str, ...]) -> Tuple[str, ...]:
    """Return the rail that has all of the board's power, or else all rails, which are then summed up."""
    for name in _TOTALS:
        if name in names:
            return (name,)
    return names


def _rapl_counters(root: str) -> List[Counter]:
    """Return the energy counters of all processors that may be read: mostly by root alone."""
    found = []
    for folder in find_files(root, _RAPL):
        name, most_uj = read_text(root, folder + "/name") or "", read_number(root, folder + "/max_energy_range_uj")
        counter = Counter(name, folder + "/energy_uj", most_uj or 0)
        if name.startswith("package") and most_uj and read_number(root, counter.path) is not None:
            found.append(counter)
    return found
