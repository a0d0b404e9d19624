"""Run every tool on a case: interleaved rounds for the times, fresh processes for the memory."""

from __future__ import annotations

import copy
import gc
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.studies.peers import torch_pruning_tool
from benchmarks.studies.peers.case_files import write_case
from benchmarks.studies.peers.cases import Case
from benchmarks.studies.peers.footprint import checkpoint_bytes, macs, parameters
from benchmarks.studies.peers.memory import COOPEXPORT, measure_peak_bytes, run_module, run_tool
from benchmarks.studies.peers.rows import BenchmarkCase, Measured, NotMeasured, Row
from exporter.parity import SHRINK_BOUND, relative_error
from exporter.shrinking.shrink import ShrinkOptions, shrink_unproven
from exporter.shrinking.slice_modules import apply_shrink_plan
from exporter.tracing.trace import run_network
from jetson.errors import CoopexportError, DeviceError, ParityError, one_line
from jetson.runtime.sampling import fixed, sample_interleaved

TORCH_PRUNING = "Torch-Pruning"
NNI = "NNI"
_NAMES = {COOPEXPORT: COOPEXPORT, "any": f"{TORCH_PRUNING}, masked in any", "all": f"{TORCH_PRUNING}, masked in all"}
_REASON_LENGTH = 160

# Prepares, outside of the time that is measured, what a tool changes in place, and returns what is timed.
Preparation = Callable[[], Callable[[], nn.Module]]


@dataclass(frozen=True)
class Timed:
    """Times in seconds, one per round, by the clock and of the processor, and the network of the last round."""

    times_s: tuple[float, ...]
    processor_times_s: tuple[float, ...]
    network: nn.Module


class _Trial:
    """One tool in the rounds: prepared untimed, then run; the clock is the harness's, the processor's time its own."""

    def __init__(self, prepare: Preparation) -> None:
        self.processor_times_s: list[float] = []
        self.network: nn.Module | None = None
        self._prepare = prepare
        self._job: Callable[[], nn.Module] | None = None

    def prepare(self) -> None:
        """Let the last network go, and set up the next run."""
        self.network = None
        self._job = self._prepare()

    def run(self) -> None:
        """Run the tool once, on what was prepared for it."""
        if self._job is None:
            raise DeviceError("it was not prepared")
        started = time.process_time()
        self.network = self._job()
        self.processor_times_s.append(time.process_time() - started)
        self._job = None


def time_interleaved(
    tools: Mapping[str, Preparation], rounds: int, warm_up: int = 1
) -> tuple[dict[str, Timed], dict[str, str]]:
    """Run every tool once per round; the first `warm_up` rounds are not kept.

    Returns what was timed by tool, and, for tools that raised, the reason instead.
    """
    trials = {name: _Trial(prepare) for name, prepare in tools.items()}
    items: list[tuple[str, Callable[[], Any]]] = []
    for name, trial in trials.items():
        items += [(f"{name} prepared", trial.prepare), (name, trial.run)]

    def collect(_done: int = 0, _rounds: int = 0) -> None:
        gc.collect()

    collect()
    taken = sample_interleaved(items, rounds, fixed(warm_up), collect)
    timed: dict[str, Timed] = {}
    failures: dict[str, str] = {}
    for name, trial in trials.items():
        reason = taken.failures.get(f"{name} prepared", taken.failures.get(name))
        if reason is not None or trial.network is None:
            failures[name] = f"fails: {(reason or 'it returned nothing')[:_REASON_LENGTH]}"
            continue
        times_s = tuple(ms / 1000 for ms in taken.samples_ms[name])
        timed[name] = Timed(times_s, tuple(trial.processor_times_s[warm_up:]), trial.network)
    return timed, failures


def measure(case: Case, rounds: int, nni_python: str | None = None, *, memory: bool = True) -> tuple[Row, ...]:
    """Return one row per tool, in the order of the table.

    `nni_python`: the Python of an environment in which NNI works; without it NNI is a row with that reason.
    Raises CoopexportError when the network cannot be compared.
    """
    removed = [int((~keep).sum()) for keep in case.masks.keep.values()]
    benchmark_case = BenchmarkCase(
        case.source.name,
        case.masks.meaning,
        parameters(case.network),
        macs(case.network, case.sample),
        checkpoint_bytes(case.network),
        sum(removed),
        sum(len(keep) for keep in case.masks.keep.values()),
    )
    reference = {dtype: outputs(case.masked(), case.inputs, dtype) for dtype in (torch.float32, torch.float64)}
    own_error = _error(reference, copy.deepcopy(case.zeroed), case, torch.float64)
    if own_error > SHRINK_BOUND:
        raise ParityError(
            f"{case.source.name}: what the other tools are given is off by {own_error:.1e} already", number=own_error
        )
    tools = [COOPEXPORT]
    rows: list[Row] = []
    try:
        tied = not torch_pruning_tool.same_either_way(copy.deepcopy(case.zeroed), case.masks.keep, case.sample)
        tools += ["any", "all"] if tied else ["any"]
    except ImportError:
        rows.append(NotMeasured(benchmark_case, TORCH_PRUNING, "not run: not installed"))
    except Exception as error:  # noqa: BLE001  any failure of a tool is a result
        rows.append(NotMeasured(benchmark_case, TORCH_PRUNING, f"fails: {_reason(error)}"))
    names = {tool: _NAMES[tool] if "all" in tools or tool == COOPEXPORT else TORCH_PRUNING for tool in tools}
    timed, failures = time_interleaved({tool: _preparation(tool, case) for tool in tools}, rounds)
    made: list[Row] = []
    for tool in tools:
        if tool in failures:
            made.append(NotMeasured(benchmark_case, names[tool], failures[tool]))
        else:
            made.append(_row(benchmark_case, names[tool], tool, case, timed.pop(tool), reference, memory))
    return (*made, *rows, measure_nni(benchmark_case, case, reference, nni_python))


def _preparation(tool: str, case: Case) -> Preparation:
    network = case.network if tool == COOPEXPORT else case.zeroed

    def prepare() -> Callable[[], nn.Module]:
        own = network if tool == COOPEXPORT else copy.deepcopy(network)
        return lambda: run_tool(tool, own, case.masks.keep, case.masks.meaning, case.inputs)

    return prepare


Reference = Mapping[torch.dtype, NDArray[Any]]


def _row(
    benchmark_case: BenchmarkCase, name: str, tool: str, case: Case, timed: Timed, reference: Reference, memory: bool
) -> Row:
    try:
        left = parameters(timed.network), macs(timed.network, case.sample)
        single = _error(reference, timed.network, case, torch.float32)
        network = _in_double(case) if tool == COOPEXPORT else timed.network
        double = _error(reference, network, case, torch.float64)
    except Exception as error:  # noqa: BLE001  a result that does not run is a failure of its tool
        return NotMeasured(benchmark_case, name, f"its result does not run: {_reason(error)}")
    peak, note = None, ""
    if memory:
        try:
            peak = measure_peak_bytes(tool, case.stored, case.network if tool == COOPEXPORT else case.zeroed)
        except (CoopexportError, OSError) as error:
            note = f"memory: {_reason(error)}"
    return Measured(benchmark_case, name, timed.times_s, timed.processor_times_s, *left, double, single, peak, note)


def _in_double(case: Case) -> nn.Module:
    """Return what coopexport's proof compares: the plan carried out in float64."""
    _, plan, _ = shrink_unproven(case.network, case.masks, case.inputs, ShrinkOptions())
    return apply_shrink_plan(copy.deepcopy(case.network).double(), plan)


def _error(reference: Reference, network: nn.Module, case: Case, dtype: torch.dtype) -> float:
    return relative_error(reference[dtype], outputs(network, case.inputs, dtype), "outputs")


def outputs(network: nn.Module, inputs: torch.Tensor, dtype: torch.dtype) -> NDArray[Any]:
    """Return a network's one output in `dtype`, which the network is converted to; raises CoopexportError."""
    (result,) = run_network(network.to(dtype).eval(), inputs.to(dtype))
    return result.numpy()


def measure_nni(benchmark_case: BenchmarkCase, case: Case, reference: Reference, python: str | None) -> Row:
    """Return NNI's row: one run, in a process of its own."""
    if python is None:
        return NotMeasured(benchmark_case, NNI, "not run: no environment with NNI was given (--nni-python)")
    with tempfile.TemporaryDirectory() as folder:
        write_case(Path(folder), case.stored, case.zeroed)
        try:
            found = run_module("benchmarks.studies.peers.nni_tool", [folder], python)
            errors = [
                relative_error(values, np.load(Path(folder) / f"{str(dtype).removeprefix('torch.')}.npy"), "outputs")
                for dtype, values in reference.items()
            ]
        except CoopexportError as error:
            return NotMeasured(benchmark_case, NNI, f"fails: {_reason(error)}")
    return Measured(
        benchmark_case,
        f"{NNI} {found['version']}",
        (found["seconds"],),
        (found["processor_seconds"],),
        found["parameters"],
        found["macs"],
        errors[1],
        errors[0],
        found["peak_bytes"],
        "; ".join(filter(None, ("one run", found["note"]))),
    )


def _reason(error: BaseException) -> str:
    text = one_line(error)
    if not isinstance(error, CoopexportError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= _REASON_LENGTH else f"{text[: _REASON_LENGTH - 3]}..."
