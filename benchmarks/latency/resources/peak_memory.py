"""What memory each engine needs on this machine: a helper process forks a child for each (jetson.runtime.peak_memory).

python -m benchmarks.latency.resources.peak_memory < job.json
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmarks.latency.run import LatencyRun, RunItem
from engines.building.build_items import WHOLE, BuildItem, item_of_whole, items_of_layer
from engines.building.open_engine import open_engine
from engines.targets.target import Target
from exporter.bundles.bundle import read_golden
from exporter.bundles.golden import golden_tail_inputs
from exporter.onnx_graphs.session import import_onnxruntime
from jetson.cuda.free_memory import open_gpu
from jetson.engines.golden_check import in_batches
from jetson.errors import CoopexportError, one_line
from jetson.runtime.peak_memory import Begin, PeakMemory, Run, peak_memory
from jetson.tensorrt_engines.library import open_library

FIELD = "peak_memory_bytes"
_ONNXRUNTIME = "onnxruntime"
_CUDA = "CUDAExecutionProvider"
# Variant, layer, role, precision and batch of an engine.
EngineKey = tuple[str, str, str, str, int]


def measure_peak_memory(
    items: Sequence[BuildItem], target: Target, batches: Sequence[int] = (1,)
) -> dict[EngineKey, PeakMemory]:  # fmt: skip
    """Return what each engine of `items`, built for `target` and each of `batches`, needs while it is loaded and run.

    Each in a child of a process that has only the runtime imported. An engine that fails there has its reason, as all
    have when that process cannot do its work.
    """
    engines = list(itertools.product(items, batches))
    job = {
        "target": asdict(target),
        "engines": [[str(item.folder), item.layer, item.role, item.precision, batch] for item, batch in engines],
    }
    keys = [(item.variant, item.layer, item.role, item.precision, batch) for item, batch in engines]
    command = [sys.executable, "-m", "benchmarks.latency.resources.peak_memory"]
    ended = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if ended.returncode != 0 or len(lines) != len(keys):
        said = [line for line in ended.stderr.splitlines() if line.strip()] or ["it says no more"]
        reason = f"the process that measures it ended with code {ended.returncode} ({one_line(said[-1])})"
        return dict.fromkeys(keys, PeakMemory(None, reason))
    return {key: PeakMemory(**json.loads(line)) for key, line in zip(keys, lines, strict=True)}


def with_peak_memory(run: LatencyRun, peaks: Mapping[EngineKey, PeakMemory]) -> LatencyRun:
    """Return a run with what each of its engines needs, or why that is not known; what failed stays as it is."""
    return run.model_copy(update={"items": tuple(_with_peak(item, peaks) for item in run.items)})


def _with_peak(item: RunItem, peaks: Mapping[EngineKey, PeakMemory]) -> RunItem:
    peak = peaks.get((item.variant, item.layer, item.part, item.precision, item.batch))
    if peak is None or item.samples_ms is None:
        return item
    if peak.bytes is None:
        return item.model_copy(update={"unknown": {**(item.unknown or {}), FIELD: peak.reason}})
    return item.model_copy(update={FIELD: peak.bytes})


def main() -> int:
    """Measure the engines of the job on stdin; print a line for each, and return the exit code."""
    job = json.load(sys.stdin)
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in job["target"].items()
    }
    target = Target(**fields)
    if target.backend == _ONNXRUNTIME:
        import_onnxruntime()
    else:
        open_library(target.backend)
    on_gpu = target.backend != _ONNXRUNTIME or _CUDA in target.providers
    for folder, layer, role, precision, batch in job["engines"]:
        work = _work(Path(folder), layer, role, precision, batch, target)
        peak = peak_memory(work, open_gpu if on_gpu else None)
        print(json.dumps(peak._asdict()), flush=True)
    return 0


def _work(
    folder: Path, layer: str, role: str, precision: str, batch: int, target: Target
) -> Callable[[Begin], Run]:  # fmt: skip
    def work(begin: Begin) -> Run:
        item = _item(folder, layer, role, precision)
        inputs = _inputs(item, batch)
        begin()
        runner = open_engine(item, target, (batch, batch, batch))
        return lambda: runner(inputs)

    return work


def _item(folder: Path, layer: str, role: str, precision: str) -> BuildItem:
    if role == WHOLE:
        return item_of_whole(folder, precision)
    return next(item for item in items_of_layer(folder, layer, precision) if item.role == role)


def _inputs(item: BuildItem, batch: int) -> list[NDArray[Any]]:
    """Return the engine's inputs for the first `batch` golden images, the last one repeated where there are fewer."""
    golden = read_golden(item.folder, item.golden)
    arrays = golden_tail_inputs(golden) if item.role == "tail" else [golden["inputs"]]
    return in_batches([array[:batch] for array in arrays], batch)[0]


if __name__ == "__main__":
    try:
        code = main()
    except CoopexportError as error:
        print(error, file=sys.stderr)
        code = 2
    sys.exit(code)
