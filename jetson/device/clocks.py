"""Clock rates of CPU, GPU and memory, and whether they are held; temperatures; how often the chip was slowed down."""

import re
from typing import Any, Dict, NamedTuple, Optional, Tuple

from jetson.errors import DeviceError, UnsupportedError
from jetson.files.system_files import find_files, read_number, read_text
from jetson.processes import find_program, run_program

_TIMEOUT_S = 20.0
_LINE = re.compile(r"^(cpu\d+|GPU|EMC)\b:?(.*)$", re.MULTILINE)


class ClockRange(NamedTuple):
    """Least, most and present rate in Hz."""

    least_hz: int
    most_hz: int
    now_hz: int


class Clocks(NamedTuple):
    """Rates by name: "cpu0" and so on, "GPU", "EMC" (memory).

    `held`: whether jetson_clocks, or somebody else, holds the GPU at one rate; None where that cannot be seen.
    """

    ranges: Dict[str, ClockRange]
    held: Optional[bool]

    def to_json(self) -> Dict[str, Any]:
        """Return the clocks as a probe records them."""
        content: Dict[str, Any] = {name: dict(item._asdict()) for name, item in self.ranges.items()}
        if self.held is not None:
            content["held"] = self.held
        return content


def read_clocks(root: str) -> Tuple[Optional[Clocks], str]:
    """Return the clocks and "", or None and why they are not known.

    jetson_clocks shows them to root alone; for others some of the system's files below `root` are readable.
    """
    program = find_program("jetson_clocks", ("/usr/bin",))
    reason = "there is no jetson_clocks"
    if program is not None:
        try:
            answer = run_program([program, "--show"], _TIMEOUT_S)
            ranges = parse_clocks(answer.output)
            reason = "jetson_clocks --show: {}".format(answer.last_words)
        except (UnsupportedError, DeviceError) as error:
            ranges, reason = {}, str(error)
        if ranges:
            return Clocks(ranges, _held(ranges)), ""
    ranges = _from_files(root)
    return (Clocks(ranges, _held(ranges)), "") if ranges else (None, reason)


def parse_clocks(text: str) -> Dict[str, ClockRange]:
    """Return the rates in what `jetson_clocks --show` prints, such as
    "cpu0: Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1728000 CurrentFreq=729600 ..." (kHz) and
    "GPU MinFreq=306000000 MaxFreq=1020000000 CurrentFreq=306000000" (Hz, EMC likewise).
    """
    ranges = {}
    for name, rest in _LINE.findall(text):
        fields = dict(re.findall(r"(MinFreq|MaxFreq|CurrentFreq)=(\d+)", rest))
        if len(fields) == 3:
            scale = 1000 if name.startswith("cpu") else 1
            ranges[name] = ClockRange(*(scale * int(fields[key]) for key in ("MinFreq", "MaxFreq", "CurrentFreq")))
    return ranges


def _from_files(root: str) -> Dict[str, ClockRange]:
    ranges: Dict[str, ClockRange] = {}
    for folder in find_files(root, "/sys/devices/system/cpu/cpu[0-9]*/cpufreq"):
        rates = [read_number(root, "{}/scaling_{}_freq".format(folder, which)) for which in ("min", "max", "cur")]
        _add(ranges, folder.split("/")[-2], rates, 1000)
    # 57000000.gpu on a Nano, 17000000.gv11b on a Xavier, 17000000.ga10b and 17000000.gpu on an Orin.
    for folder in find_files(root, "/sys/class/devfreq/*.g[pva]*"):
        rates = [read_number(root, "{}/{}_freq".format(folder, which)) for which in ("min", "max", "cur")]
        _add(ranges, "GPU", rates, 1)
    return ranges


def _add(ranges: Dict[str, ClockRange], name: str, rates: Any, scale: int) -> None:
    if None not in rates:
        ranges[name] = ClockRange(*(scale * rate for rate in rates))


def _held(ranges: Dict[str, ClockRange]) -> Optional[bool]:
    gpu = ranges.get("GPU")
    return None if gpu is None else gpu.least_hz == gpu.most_hz


# Zones that are switched off read so.
_MIN_CELSIUS = -100.0


def read_temperatures(root: str) -> Dict[str, float]:
    """Return degrees Celsius by zone, of the zones below `root` that are on."""
    found = {}
    for folder in find_files(root, "/sys/class/thermal/thermal_zone*"):
        name, value = read_text(root, folder + "/type"), read_number(root, folder + "/temp")
        if name and value is not None and value / 1000.0 > _MIN_CELSIUS and not name.startswith("PMIC"):
            found[name] = value / 1000.0
    return found


def read_throttle_events(root: str) -> Dict[str, int]:
    """Return how often since boot each over-current guard has slowed the chip; empty where that is not told.

    "oc1": under-voltage; "oc2": average, "oc3": instantaneous over-current. Only differences mean something.
    """
    found = {}
    for folder in find_files(root, "/sys/class/hwmon/hwmon*"):
        if read_text(root, folder + "/name") == "soctherm_oc":
            for path in find_files(root, folder + "/oc*_event_cnt"):
                value = read_number(root, path)
                if value is not None:
                    found[path.split("/")[-1].split("_")[0]] = value
    return found
