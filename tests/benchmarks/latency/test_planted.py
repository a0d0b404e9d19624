"""Runs under a clock that the test moves: what goes wrong with a machine is recognised, and a crash is no number."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.latency.bench import run_benchmark, time_functions
from benchmarks.latency.run import LatencyRun, read_run, write_run
from benchmarks.latency.stages import TimedStage
from benchmarks.latency.summaries import summarise_item
from engines.targets.lookup import find_target
from jetson.runtime.sampling import until_steady

CPU = find_target("cpu")
ROUNDS = 100
# Of the number of its call, counted from 0 and including the untimed ones, in milliseconds.
Duration = Callable[[int], float]


class Machine:
    """Runs stages whose durations are given; `clock` is the only time there is."""

    def __init__(self, spread: float = 0.01) -> None:
        self.now_s = 0.0
        self.calls = 0
        self._noise = np.random.default_rng(6).normal(1, spread, 1 << 16).tolist()

    def clock(self) -> float:
        return self.now_s

    def stage(self, part: str, duration_ms: Duration, variant: str = "pruned", layer: str = "conv4_1") -> TimedStage:
        calls = [0]

        def run() -> None:
            taken_ms = duration_ms(calls[0])
            calls[0] += 1
            self.calls += 1
            self.now_s += taken_ms * self._noise[self.calls] / 1000

        return TimedStage(variant, layer, part, None, f"sha of {part}", run)

    def run(self, *stages: TimedStage, rounds: int = ROUNDS) -> LatencyRun:
        reference = self.stage("whole", lambda call: 0.4, "reference", "whole")
        return run_benchmark(stages, CPU, rounds, until_steady(10), reference=reference, clock=self.clock)


def timed(call: int) -> int:
    """Return the number of the round, from the number of the call: two are untimed before each timed one."""
    return call // 3


def flags_of(run: LatencyRun) -> dict[str, list[str]]:
    """Return the texts of all flags by part; of the reference as well."""
    items = [*run.items, *([] if run.reference is None else [run.reference])]
    found = {}
    for item in items:
        summary = summarise_item(run, item)
        found[f"{item.variant} {item.part}"] = [] if summary is None else [flag.text for flag in summary.flags]
    return found


def test_a_quiet_machine_has_no_flag_and_a_warm_up_of_the_least_length(tmp_path: Path) -> None:
    machine = Machine()
    run = machine.run(machine.stage("head", lambda call: 2.0), machine.stage("tail", lambda call: 5.0))
    assert (run.steady, run.warm_up) == (True, 10)
    assert flags_of(run) == {"pruned head": [], "pruned tail": [], "reference whole": []}
    assert read_run(write_run(tmp_path, run)) == run


def test_planted_drift_is_recognised_in_the_part_that_drifts() -> None:
    machine = Machine()
    run = machine.run(
        machine.stage("head", lambda call: 2.0 * (1 + 0.003 * max(timed(call) - 10, 0))),
        machine.stage("tail", lambda call: 5.0),
    )
    assert run.steady is True
    (text,) = flags_of(run)["pruned head"]
    # Medians of the thirds: 2 x 1.05 and 2 x 1.25.
    assert re.fullmatch(r"drift: the last third is (18|19|20) % slower than the first", text)
    assert flags_of(run)["pruned tail"] == []


def test_a_machine_that_is_throttled_meanwhile_drifts_in_all_parts_and_its_ratios_stay() -> None:
    machine = Machine()

    def slowed(ms: float) -> Duration:
        return lambda call: ms * (1.0 if timed(call) < 70 else 1.6)

    head, reference = machine.stage("head", slowed(2.0)), machine.stage("whole", slowed(0.4), "reference", "whole")
    run = run_benchmark([head], CPU, ROUNDS, until_steady(10), reference=reference, clock=machine.clock)
    found = flags_of(run)
    for part in ("pruned head", "reference whole"):
        assert re.fullmatch(r"drift: the last third is (59|60|61) % slower than the first", found[part][0])
    assert run.reference is not None and run.reference.samples_ms is not None
    ratios = np.divide(run.items[0].samples_ms, run.reference.samples_ms)
    assert ratios == pytest.approx(5.0, rel=0.08)
    told = run.model_copy(update={"conditions": {"throttled_meanwhile": {"oc1": 0, "oc2": 4}}})
    assert flags_of(told)["pruned head"][-1] == "throttled: oc2 4 times"


def test_planted_modes_are_recognised() -> None:
    machine = Machine(spread=0.001)
    run = machine.run(machine.stage("head", lambda call: 2.0 if timed(call) % 3 else 2.6))
    assert flags_of(run)["pruned head"] == ["bimodal: 33 % of the samples are around 2.6 ms, the others 2 ms"]


def test_planted_outliers_are_recognised() -> None:
    machine = Machine(spread=0.0)
    run = machine.run(machine.stage("head", lambda call: 40.0 if timed(call) % 12 == 5 else 2.0))
    assert flags_of(run)["pruned head"] == ["outliers: 8 % of the samples are far slower, up to 20 times the median"]


def test_an_unsteady_start_makes_the_warm_up_longer_and_is_not_in_the_samples() -> None:
    machine = Machine(spread=0.001)
    run = machine.run(machine.stage("head", lambda call: 2.0 + 3.0 * 0.85 ** timed(call)))
    assert run.steady is True
    assert 20 < run.warm_up < 50
    assert run.items[0].samples_ms is not None
    assert max(run.items[0].samples_ms) < 2.1
    assert flags_of(run)["pruned head"] == []


def test_what_never_becomes_steady_is_measured_and_marked() -> None:
    machine = Machine(spread=0.001)
    run = machine.run(
        machine.stage("head", lambda call: 2.0 + 0.05 * timed(call)), machine.stage("tail", lambda _: 1.0)
    )
    assert (run.steady, run.warm_up) == (False, 50)
    assert len(run.items[0].samples_ms or ()) == ROUNDS
    assert flags_of(run)["pruned head"][-1] == (
        "unsteady: in the last 10 rounds of the warm-up it still got 6 % slower"
    )
    assert flags_of(run)["pruned tail"] == []


@pytest.mark.parametrize("round_", [0, 12, 60])
def test_an_engine_that_crashes_has_a_reason_and_no_number(tmp_path: Path, round_: int) -> None:
    machine = Machine()

    def crashes(call: int) -> float:
        if timed(call) == round_:
            raise RuntimeError("CUDA error 700:\nan illegal memory access")
        return 2.0

    run = machine.run(machine.stage("head", crashes), machine.stage("tail", lambda call: 5.0))
    head, tail = run.items
    assert (head.samples_ms, head.failure) == (None, "RuntimeError: CUDA error 700: an illegal memory access")
    assert summarise_item(run, head) is None
    assert len(tail.samples_ms or ()) == ROUNDS
    assert flags_of(run)["pruned tail"] == []
    assert read_run(write_run(tmp_path, run)) == run


def test_functions_of_ones_own_are_flagged_alike() -> None:
    machine = Machine(spread=0.001)
    hot, cool = (machine.stage(name, duration).run for name, duration in (
        ("hot", lambda call: 1.0 + 0.02 * call), ("cool", lambda call: 1.0)))  # fmt: skip
    found = time_functions({"hot": hot, "cool": cool}, rounds=60, clock=machine.clock)
    assert [flag.kind for flag in found["hot"].flags] == ["drift", "few samples", "unsteady"]
    assert found["cool"].flags == ()
