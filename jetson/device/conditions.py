"""What a device was like while it measured: power mode, clocks, temperatures, and whether it was slowed down."""

from typing import Any, Dict, NamedTuple, Optional

from jetson.device.clocks import Clocks, read_clocks, read_temperatures, read_throttle_events
from jetson.device.power_mode import PowerMode, read_power_mode


class Conditions(NamedTuple):
    """One look at a device; None and empty where it does not tell.

    `temperatures`: Celsius by zone; `throttle_events`: since boot, by guard.
    """

    power_mode: Optional[PowerMode]
    clocks: Optional[Clocks]
    temperatures: Dict[str, float]
    throttle_events: Dict[str, int]


def read_conditions(root: str) -> Conditions:
    """Look at power mode, clocks, temperatures and throttle counters; `root`: the folder with the system's files."""
    return Conditions(read_power_mode()[0], read_clocks(root)[0], read_temperatures(root), read_throttle_events(root))


def describe_conditions(before: Conditions, after: Conditions) -> Dict[str, Any]:
    """Return what a latency run records of the time between two looks, without what the device does not tell.

    `throttled_meanwhile`: by guard, how often it slowed the chip; `power_mode_after` is there only where somebody else
    changed the mode.
    """
    content: Dict[str, Any] = {
        "power_mode": _mode(before.power_mode),
        "power_mode_after": None if after.power_mode == before.power_mode else _mode(after.power_mode),
        "throttled_meanwhile": {
            guard: count - before.throttle_events.get(guard, 0) for guard, count in after.throttle_events.items()
        },
    }
    for when, look in (("before", before), ("after", after)):
        content["clocks_" + when] = None if look.clocks is None else look.clocks.to_json()
        content["temperatures_" + when] = look.temperatures
        content["throttle_events_" + when] = look.throttle_events
    return {key: value for key, value in content.items() if value not in (None, {})}


def _mode(mode: Optional[PowerMode]) -> Optional[Dict[str, Any]]:
    return None if mode is None else mode.to_json()
