"""A device that is slower than the machine it runs on: for experiments on one machine."""

import time
from typing import Any, Callable

from jetson.client.device_pairs import DeviceRelease, Way


def slowed(release: DeviceRelease, factor: float) -> DeviceRelease:
    """Return the release with everything that the device computes taking `factor` times as long, by a busy wait."""
    if factor == 1.0:
        return release
    ways = {number: _slowed_way(way, factor) for number, way in release.ways.items()}
    local = None if release.local is None else ways[release.local.number]
    return release._replace(ways=ways, local=local)


def _slowed_way(way: Way, factor: float) -> Way:
    return way._replace(
        encode=None if way.encode is None else _slowed(way.encode, factor),
        compute=None if way.compute is None else _slowed(way.compute, factor),
    )


def _slowed(function: Callable[[Any], Any], factor: float) -> Callable[[Any], Any]:
    def slow(image: Any) -> Any:
        begun_s = time.perf_counter()
        found = function(image)
        until_s = begun_s + factor * (time.perf_counter() - begun_s)
        while time.perf_counter() < until_s:
            time.sleep(0)  # other threads of the process go on, as beside real work
        return found

    return slow
