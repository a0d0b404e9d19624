"""Energy of runs by planted power: a fake sysfs tree, a fake clock for the runs, and the real one for readings."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jetson.errors import DeviceError
from jetson.runtime.energy import energy_fields, measure_energy, power_record
from jetson.runtime.power_rails import PowerSource, Rail, RailReader

RAIL = Rail("VDD_IN", ("/in1_input", "/curr1_input"), 1e-3)


class Board:
    """A board with one rail of 5 V; `clock` goes on by what runs take, and each of them takes a moment of real time."""

    def __init__(self, root: Path, interval_s: float = 0.001) -> None:
        self.root, self.now = root, 0.0
        (root / "in1_input").write_text("5000\n")
        self.set_power(2000)
        self.source = PowerSource("ina3221", ("VDD_IN",), interval_s, lambda: RailReader(str(root), (RAIL,)))

    def set_power(self, milliwatts: int) -> None:
        part = self.root / "part"
        part.write_text(f"{milliwatts // 5}\n")
        part.rename(self.root / "curr1_input")

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.set_power(2000)
        time.sleep(0.02)

    def item(self, ms: float, milliwatts: int, then: Callable[[int], None] | None = None) -> Callable[[], None]:
        calls = [0]

        def run() -> None:
            if calls[0] == 0:
                self.set_power(milliwatts)
            calls[0] += 1
            self.now += ms / 1000
            time.sleep(0.001)
            if then is not None:
                then(calls[0])

        return run

    def measure(self, *items: Callable[[], None], seconds: float = 0.1) -> dict[str, dict]:
        named = [(str(number), run) for number, run in enumerate(items)]
        self.taken = measure_energy(named, self.source, seconds, clock=self.clock, sleep=self.sleep)
        return energy_fields(self.taken)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_5_watts_for_2_milliseconds_are_10_millijoules(board: Board) -> None:
    found = board.measure(board.item(2.0, 5000), board.item(5.0, 3000))
    assert found["0"] == {"energy_mj": pytest.approx(10.0), "energy_above_idle_mj": pytest.approx(6.0)}
    assert found["1"] == {"energy_mj": pytest.approx(15.0), "energy_above_idle_mj": pytest.approx(5.0)}
    record = power_record(board.source, 0.1, board.taken)
    assert record == {
        "source": "ina3221", "rails": ["VDD_IN"], "interval_ms": 1.0, "seconds": 0.1, "idle_mw": pytest.approx(2000.0),
    }  # fmt: skip


def test_the_mean_is_over_time_and_not_the_first_or_last_reading(board: Board) -> None:
    """Half of the runs at 3 W and half at 7 W; what ran before the power counted is not in it."""
    lead, runs = 10, 100

    def change(calls: int) -> None:
        if calls == lead + runs // 2:
            board.set_power(7000)

    found = board.measure(board.item(1.0, 3000, change))
    assert found["0"]["energy_mj"] == pytest.approx(5.0, rel=0.15)


def test_a_rail_that_vanishes_midway_is_a_reason_for_that_item_and_not_for_the_next(board: Board) -> None:
    def vanish(calls: int) -> None:
        if calls == 30:
            (board.root / "in1_input").unlink()
        if calls == 100:
            (board.root / "in1_input").write_text("5000\n")

    found = board.measure(board.item(1.0, 5000, vanish), board.item(2.0, 5000))
    assert found["0"] == {"unknown": {"energy_mj": "VDD_IN cannot be read any more (/in1_input)"}}
    assert found["1"]["energy_mj"] == pytest.approx(10.0)


def test_an_item_that_raises_is_a_reason(board: Board) -> None:
    def fails(calls: int) -> None:
        if calls == 40:
            raise ValueError("no\nkernel")

    def is_away(calls: int) -> None:
        raise DeviceError("the GPU is away")

    found = board.measure(board.item(1.0, 5000, fails), board.item(1.0, 5000, is_away), board.item(2.0, 5000))
    assert found["0"] == {"unknown": {"energy_mj": "ValueError: no kernel"}}
    assert found["1"] == {"unknown": {"energy_mj": "the GPU is away"}}
    assert found["2"]["energy_mj"] == pytest.approx(10.0)


def test_a_run_that_takes_no_more_than_idle_has_no_energy_above_it(board: Board) -> None:
    found = board.measure(board.item(2.0, 1000))
    assert found["0"]["energy_mj"] == pytest.approx(2.0)
    assert "energy_above_idle_mj" not in found["0"]
    assert found["0"]["unknown"]["energy_above_idle_mj"].startswith("the mean power while it ran was not above")


def test_too_few_readings_are_no_mean(tmp_path: Path) -> None:
    board = Board(tmp_path, interval_s=0.03)
    found = board.measure(board.item(10.0, 5000))
    said = "power while nothing runs: VDD_IN read 1 times only; at least 5 are needed"
    assert found == {"0": {"unknown": {"energy_mj": said}}}
    assert "idle_mw" not in power_record(board.source, 0.1, board.taken)


def test_a_reading_that_was_waited_for_until_after_the_work_is_not_counted() -> None:
    until, now = [0.0], [0.0]

    class Waiting:
        def read(self) -> float:
            time.sleep(0.01)
            return 5000.0 if time.monotonic() < until[0] else 0.0

        def close(self) -> None:
            """There is nothing to end."""

    def run() -> None:
        until[0] = time.monotonic() + 0.107
        time.sleep(0.105)
        now[0] += 0.1

    source = PowerSource("tegrastats", ("VDD_IN",), 0.01, Waiting, waits=True)
    taken = measure_energy([("a", run)], source, 0.1, clock=lambda: now[0])
    assert taken.energies["a"].mj == pytest.approx(500.0, rel=0.02)


def test_each_item_runs_once_at_least_and_progress_is_told(board: Board) -> None:
    told: list[tuple[int, int]] = []
    items = [("a", board.item(500.0, 5000, lambda _: time.sleep(0.01)))]
    taken = measure_energy(items, board.source, 0.1, lambda *one: told.append(one), board.clock, board.sleep)
    assert taken.energies["a"].mj == pytest.approx(2500.0)
    assert told == [(1, 1)]
