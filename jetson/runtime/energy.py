"""Energy of one run: each item runs alone for about a second while a thread reads the machine's power.

Energy per run is the mean power times the time, by the number of runs. Power when nothing runs is measured before, so
that what the run adds to it is known, too.
"""

import functools
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from jetson.errors import DeviceError, one_line
from jetson.runtime.power_rails import PowerSource
from jetson.runtime.sampling import Item

FIELD, ABOVE_IDLE = "energy_mj", "energy_above_idle_mj"
_NOT_ABOVE = "the mean power while it ran was not above that while nothing ran"
# Before the power counts, so that a sensor's average has forgotten what ran before.
_LEAD = 0.1
# Fewer say nothing of a mean.
_LEAST_READINGS = 5
Clock = Callable[[], float]


class RunEnergy(NamedTuple):
    """Millijoules of one run: all that the rails delivered meanwhile, and above what they deliver when nothing runs.

    `above_idle_mj`: None where the rails delivered no more than that.
    """

    mj: float
    above_idle_mj: Optional[float]


class Energies(NamedTuple):
    """`idle_mw`: mean power while nothing ran, None where it could not be read; by item its energy, or the reason."""

    idle_mw: Optional[float]
    energies: Dict[str, RunEnergy]
    failures: Dict[str, str]


class Power(NamedTuple):
    """Mean power in milliwatts, over how many readings."""

    mean_mw: float
    readings: int


def measure_energy(
    items: Sequence[Item],
    source: PowerSource,
    seconds: float,
    on_item: Optional[Callable[[int, int], None]] = None,
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Energies:
    """Run every item by itself for at least `seconds`, and return the energy of one run of each.

    An item that raises, and a rail that cannot be read meanwhile or was read too seldom, is a reason. Without the power
    at idle nothing is measured. `on_item`: called with how many are done, and of how many.
    """
    try:
        idle, _ = _with_power(source, lambda: sleep(seconds))
    except DeviceError as error:
        reason = "power while nothing runs: {}".format(error)
        return Energies(None, {}, {name: reason for name, _ in items})
    found = Energies(idle.mean_mw, {}, {})
    for index, (name, run) in enumerate(items):
        try:
            _repeat(run, _LEAD * seconds, clock)
            power, (count, elapsed_s) = _with_power(source, functools.partial(_repeat, run, seconds, clock))
        except Exception as error:  # noqa: BLE001  any failure of an item is data of the run
            told = isinstance(error, DeviceError)
            found.failures[name] = str(error) if told else one_line("{}: {}".format(type(error).__name__, error))
        else:
            found.energies[name] = _of_one_run(power.mean_mw, idle.mean_mw, elapsed_s / count)
        if on_item is not None:
            on_item(index + 1, len(items))
    return found


def energy_fields(taken: Energies) -> Dict[str, Dict[str, Any]]:
    """Return by item the fields of a latency run's row: energies in millijoules, and why one of them is `unknown`."""
    found: Dict[str, Dict[str, Any]] = {name: {"unknown": {FIELD: why}} for name, why in taken.failures.items()}
    for name, energy in taken.energies.items():
        above = energy.above_idle_mj
        more: Dict[str, Any] = {ABOVE_IDLE: above} if above is not None else {"unknown": {ABOVE_IDLE: _NOT_ABOVE}}
        found[name] = dict(more, **{FIELD: energy.mj})
    return found


def power_record(source: PowerSource, seconds: float, taken: Energies) -> Dict[str, Any]:
    """Return what a latency run records of how its energies were measured, without what is not known."""
    record = dict(source.to_json(), seconds=seconds)
    return record if taken.idle_mw is None else dict(record, idle_mw=taken.idle_mw)


def _of_one_run(mean_mw: float, idle_mw: float, run_s: float) -> RunEnergy:
    above_mw = mean_mw - idle_mw
    return RunEnergy(mean_mw * run_s, above_mw * run_s if above_mw > 0 else None)


def _repeat(run: Callable[[], Any], seconds: float, clock: Clock) -> Tuple[int, float]:
    """Run until `seconds` are over, at least once; return how often, and how long it took."""
    started = clock()
    count = 0
    while True:
        run()
        count += 1
        elapsed_s = clock() - started
        if elapsed_s >= seconds:
            return count, elapsed_s


def _with_power(source: PowerSource, work: Callable[[], Any]) -> Tuple[Power, Any]:
    """Return the mean power while `work` is done, and what it returns; raises DeviceError when power cannot be read."""
    reader = source.open()
    try:
        thread = _Readings(reader, source)
        thread.start()
        try:
            result = work()
        finally:
            thread.stop()
        return thread.power(), result
    finally:
        reader.close()


class _Readings(threading.Thread):
    """Reads power at the source's own rate until it is stopped; each reading stands for the time since the one before.

    The clock is the real one: it says how much of the time a reading stands for.
    """

    def __init__(self, reader: Any, source: PowerSource) -> None:
        threading.Thread.__init__(self, daemon=True)
        self._reader, self._source = reader, source
        self._stopped = threading.Event()
        self._taken: List[Tuple[float, float]] = []  # milliwatts, seconds
        self._failure: Optional[str] = None

    def run(self) -> None:
        """Read until it is stopped, or a reading fails."""
        pause_s = 0.0 if self._source.waits else self._source.interval_s
        try:
            self._reader.read()  # from here on
            before = time.monotonic()
            while True:
                stopped = self._stopped.wait(pause_s)
                power_mw, now = self._reader.read(), time.monotonic()
                if self._source.waits and self._stopped.is_set():
                    return  # it was waited for until after the work was done
                self._taken.append((power_mw, now - before))
                before = now
                if stopped:
                    return
        except Exception as error:  # noqa: BLE001  a thread has nobody above it to tell
            told = isinstance(error, DeviceError)
            self._failure = str(error) if told else one_line("{}: {}".format(type(error).__name__, error))

    def stop(self) -> None:
        """Take the last reading and end."""
        self._stopped.set()
        self.join()

    def power(self) -> Power:
        """Return the mean over time; raises DeviceError when a reading failed, or there were too few."""
        if self._failure is not None:
            raise DeviceError(self._failure)
        if len(self._taken) < _LEAST_READINGS:
            raise DeviceError(
                "{} read {} times only; at least {} are needed".format(
                    " and ".join(self._source.rails), len(self._taken), _LEAST_READINGS
                )
            )
        seconds = sum(taken[1] for taken in self._taken)
        if not seconds > 0:
            raise DeviceError("the clock stood still while power was read")
        return Power(sum(power_mw * taken_s for power_mw, taken_s in self._taken) / seconds, len(self._taken))
