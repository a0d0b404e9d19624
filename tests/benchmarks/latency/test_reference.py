"""The reference network is the same bits everywhere, and where a target does not take it, that is said."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from benchmarks.latency.bench import run_benchmark
from benchmarks.latency.reference import reference_input, reference_model, reference_sha256, reference_stage
from benchmarks.latency.run import read_run, write_run
from benchmarks.latency.stages import TimedStage
from engines.preflight.check import preflight
from engines.target_files.target_file import target_file
from engines.targets.lookup import find_target
from jetson.engines.build_settings import BuildSettings
from jetson.runtime.sampling import fixed

CPU = find_target("cpu")


def test_its_bits_are_fixed() -> None:
    assert reference_sha256() == "77f5849a1b971de359fc998d16ef1193aeb7246588a79546aa2df7c0905f845e"
    onnx.checker.check_model(reference_model(), full_check=True)


def test_it_computes_something_that_depends_on_its_input() -> None:
    evaluator = ReferenceEvaluator(reference_model())
    outputs = reference_stage(CPU).run()[0]
    assert outputs.shape == (1, 10, 1, 1)
    assert np.abs(outputs - evaluator.run(None, {"input": reference_input()})[0]).max() < 1e-5
    assert np.abs(outputs - evaluator.run(None, {"input": np.flip(reference_input(), 3)})[0]).max() > 0.01
    assert outputs.std() > 0.1


@pytest.mark.parametrize("name", ["cpu", "rtx-turing", "rtx-ada", "nano@4.6.1", "orin-nano@6.2", "nano-cpu@4.6.1"])
def test_preflight_of_every_kind_of_target_lets_it_pass(name: str) -> None:
    target = find_target(name)
    file = target_file(reference_model(), target, (1, 1, 1), "the reference")
    assert [problem for problem in preflight(file, target, BuildSettings()) if problem.refused] == []


def test_a_target_that_does_not_take_it_has_a_run_that_says_why(tmp_path) -> None:
    clock = iter(map(float, range(10**6)))
    unusable = replace(CPU, providers=("NoExecutionProvider",))
    stage = TimedStage("pruned", "whole", "whole", None, "sha", lambda: None)
    run = run_benchmark([stage], CPU, 4, fixed(1), reference=reference_stage(unusable), clock=lambda: next(clock))
    assert run.reference is not None
    assert run.reference.samples_ms is None
    assert run.reference.failure is not None
    assert "this build of ONNX Runtime has no NoExecutionProvider" in run.reference.failure
    assert run.items[0].samples_ms == (1000.0,) * 4
    assert read_run(write_run(tmp_path, run)) == run


def test_a_variant_may_be_called_like_it() -> None:
    ticks = [0]

    def takes(number: int):
        def run() -> None:
            ticks[0] += number

        return run

    of_user = TimedStage("reference", "whole", "whole", None, "of the user", takes(1))
    reference = TimedStage("reference", "whole", "whole", None, "of the house", takes(3))
    run = run_benchmark([of_user], CPU, 2, fixed(0), reference=reference, clock=lambda: Fraction(ticks[0]))
    assert run.reference is not None
    assert (run.reference.source_sha256, run.reference.samples_ms) == ("of the house", (3000.0,) * 2)
    assert [(item.source_sha256, item.samples_ms) for item in run.items] == [("of the user", (1000.0,) * 2)]
