"""Temperatures, and how often the chip was slowed down because of its supply."""

from typing import Dict

from jetson.files.system_files import find_files, read_number, read_text

# Zones that are switched off read so.
_LEAST_CELSIUS = -100.0


def read_temperatures(root: str) -> Dict[str, float]:
    """Return degrees Celsius by zone, of the zones below `root` that are on."""
    found = {}
    for folder in find_files(root, "/sys/class/thermal/thermal_zone*"):
        name, value = read_text(root, folder + "/type"), read_number(root, folder + "/temp")
        if name and value is not None and value / 1000.0 > _LEAST_CELSIUS and not name.startswith("PMIC"):
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
