"""Energy on this machine: by the counters of its processors, planted in a tree of system files."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from small_runs import item, run_of

from benchmarks.latency.resources.energy import with_energy

FOLDER = "sys/class/powercap/intel-rapl:0"


@pytest.fixture
def counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COOPEXPORT_DEVICE_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))  # no tegrastats
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    for name, content in (("name", "package-0"), ("max_energy_range_uj", "99999999"), ("energy_uj", "99990000")):
        (folder / name).write_text(f"{content}\n")
    return folder / "energy_uj"


def test_runs_that_move_the_counter_by_10_millijoules_take_10_millijoules(counter: Path) -> None:
    def spend() -> None:
        part = counter.with_name("part")
        part.write_text(f"{(int(counter.read_text()) + 10_000) % 100_000_000}\n")
        part.rename(counter)
        time.sleep(0.003)

    told: list[tuple[int, int]] = []
    run = run_of(item("head"), item("tail", failure="it broke"), item("encode", codec="raw"), conditions={"a": 1})
    found = with_energy(run, [spend, spend, lambda: time.sleep(0.003)], 0.3, lambda *one: told.append(one))
    head, tail, encode = found.items
    # The counter is read before and after: a run at either end may be in it or not.
    assert head.energy_mj == pytest.approx(10.0, rel=0.05)
    assert head.energy_above_idle_mj == pytest.approx(head.energy_mj)
    assert tail == run.items[1]
    assert (encode.energy_mj, encode.energy_above_idle_mj) == (0.0, None)
    assert set(encode.unknown or {}) == {"energy_above_idle_mj"}
    power = {"source": "rapl", "rails": ["package-0"], "interval_ms": 20.0, "seconds": 0.3, "idle_mw": 0.0}
    assert found.conditions == {"a": 1, "power": power}
    assert told == [(1, 2), (2, 2)]


def test_a_machine_without_such_counters_says_so_in_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COOPEXPORT_DEVICE_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    run = run_of(item("head", unknown={"peak_memory_bytes": "why"}), item("tail", failure="it broke"))
    found = with_energy(run, [lambda: None] * 2, 0.1)
    assert set(found.items[0].unknown or {}) == {"peak_memory_bytes", "energy_mj"}
    assert "no processor's energy is readable" in (found.items[0].unknown or {})["energy_mj"]
    assert found.items[1] == run.items[1]
    assert found.conditions == {}
