"""Time parts of candidates, or any functions, against each other on this host: interleaved, every sample kept."""

from __future__ import annotations

import platform
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from benchmarks.latency.host import allowed_cpus, describe_host
from benchmarks.latency.reference import REFERENCE
from benchmarks.latency.run import GpuMs, LatencyRun, RunItem
from benchmarks.latency.stages import TimedStage
from benchmarks.latency.statistics import Summary, summarise
from benchmarks.latency.summaries import with_flags
from engines.building.build import builder_version
from engines.building.build_items import WHOLE
from engines.targets.lookup import Target
from jetson.device.half_arithmetic import computes_in_half
from jetson.errors import DeviceError
from jetson.files.system_files import device_root
from jetson.runtime.gpu_rounds import GpuRounds
from jetson.runtime.sampling import OnRound, Taken, WarmUp, sample_interleaved, until_steady
from jetson.wire.pictures import picture_libraries
from jetson.wire.rans import rans_implementation


def run_benchmark(
    stages: Sequence[TimedStage],
    target: Target,
    rounds: int,
    warm_up: WarmUp,
    on_round: OnRound | None = None,
    reference: TimedStage | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencyRun:
    """Time `stages` and return the run. Stages that raise are in it with their reason, as are unsteady ones.

    Stages are timed as a stream of images runs them: those of the device, of the edge or of a picture codec after each
    other, right after they all ran untimed. `reference` is in the same rounds, a chain of its own.
    """
    started = datetime.now(timezone.utc)
    host = {
        **describe_host(),
        "rans": rans_implementation().name,
        "pictures": picture_libraries(),
        **_float16(stages, target),
    }
    named = {stage.key: stage for stage in stages}
    chains: dict[str, object] = {name: _chain(stage) for name, stage in named.items()}
    items = [(stage.key, stage.run) for stage in stages]
    if reference is not None:
        chains[REFERENCE] = REFERENCE
        items.insert(0, (REFERENCE, reference.run))
    gpu = GpuRounds({name: stage.gpu_times for name, stage in named.items() if stage.gpu_times is not None})

    def after_round(done: int, total: int) -> None:
        gpu.take()
        if on_round is not None:
            on_round(done, total)

    taken = sample_interleaved(items, rounds, warm_up, after_round, chains.__getitem__, clock)
    gpu_ms = gpu.medians(rounds)
    return LatencyRun(
        run=f"{started:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}",
        started_at=started.isoformat(timespec="milliseconds"),
        target=target.name,
        host=host,
        backend=target.backend,
        backend_version=builder_version(target),
        threads=1,
        warm_up=taken.warm_up_rounds,
        rounds=rounds,
        interleaved=True,
        in_chains=True,
        steady=taken.steady,
        affinity=allowed_cpus(),
        reference=None if reference is None else _item(reference, REFERENCE, taken),
        items=tuple(_item(stage, name, taken, gpu_ms.get(name)) for name, stage in named.items()),
    )


def _float16(stages: Sequence[TimedStage], target: Target) -> dict[str, str]:
    """Return in what ONNX Runtime computes float16 on this processor, where that is asked and is not float16."""
    on_cpu = target.backend == "onnxruntime" and target.providers == ("CPUExecutionProvider",)
    if not on_cpu or not any(stage.precision == "fp16" for stage in stages):
        return {}
    return {} if computes_in_half(platform.machine(), device_root()) else {"float16": "float32"}


def _item(stage: TimedStage, name: str, taken: Taken, gpu_ms: dict[str, float] | None = None) -> RunItem:
    """Return what was measured of a stage that was called `name`; `gpu_ms`: what its runs were made of, on a GPU."""
    return RunItem(
        variant=stage.variant,
        layer=stage.layer,
        part=stage.part,
        codec=stage.codec,
        precision=stage.precision,
        batch=stage.batch,
        source_sha256=stage.source_sha256,
        samples_ms=tuple(taken.samples_ms[name]) if name in taken.samples_ms else None,
        failure=taken.failures.get(name),
        unsteady=(taken.unsteady or {}).get(name),
        load_ms=stage.load_ms,
        gpu_ms=None if gpu_ms is None or name not in taken.samples_ms else GpuMs(**gpu_ms),
    )


def _chain(stage: TimedStage) -> tuple[object, ...]:
    """Return what runs with a stage for one batch: on the device, on the edge, or with a picture codec."""
    where = stage.codec or ""
    if stage.layer != WHOLE:
        where = "device" if stage.part in ("head", "encode") else "edge"
    return stage.variant, stage.layer, where, stage.precision, stage.batch


def time_functions(
    functions: Mapping[str, Callable[[], Any]],
    rounds: int = 100,
    warm_up: int = 10,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Summary]:
    """Time functions against each other in interleaved rounds and return the summary of each, in milliseconds.

    `warm_up`: the least number of rounds before those that count; it goes on until all functions are steady, at most
    five times that, and what is not steady by then has a flag that says so. `clock`: in seconds. Raises CoopexportError
    naming the function when one fails: a failure is never a number.
    """
    taken = sample_interleaved(list(functions.items()), rounds, until_steady(warm_up), clock=clock)
    for name, reason in taken.failures.items():
        raise DeviceError(f"'{name}' cannot be measured: {reason}")
    unsteady = taken.unsteady or {}
    return {name: with_flags(summarise(taken.samples_ms[name]), unsteady.get(name)) for name in functions}
