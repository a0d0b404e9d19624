"""Latencies of networks against each other: interleaved blocks of runs, ratios within rounds.

Each round runs every network a few times in a row. The first run finds its weights outside of the processor's nearest
caches, where the networks before it have been; the last runs are as a machine that runs one network for every request.
Both are kept apart: pruned networks gain from fitting where the original does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.latency.median_interval import median_interval
from exporter.onnx_graphs.session import open_session
from jetson.errors import DeviceError
from jetson.runtime.sampling import fixed, sample_interleaved

# The unpruned VGG-16, whose weights fit no near cache, takes about 20 runs to come to rest.
RUNS_PER_BLOCK = 24
_QUICK_PERCENT = 5


@dataclass(frozen=True)
class Ratio:
    """How many times faster than the reference: median over rounds, and the bounds of its 95 % interval."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Latency:
    """One network's latency in milliseconds and its ratio to the reference.

    Medians for steady and first runs; `quick_ms` is the 5th percentile of all runs, which neighbours on the machine
    disturb least.
    """

    steady_ms: float
    first_ms: float
    quick_ms: float
    steady_ratio: Ratio
    first_ratio: Ratio
    quick_ratio: float


def runner(model: onnx.ModelProto, seed: int = 0) -> Callable[[], Any]:
    """Return a function that runs `model` (one float32 input of fixed shape) in ONNX Runtime as engines are run.

    One thread, all optimisations. Raises CoopexportError when it cannot be opened.
    """
    session = open_session(model, "all", threads=1)
    item = session.get_inputs()[0]
    feed = {item.name: np.random.default_rng(seed).standard_normal(item.shape, dtype=np.float32)}
    return lambda: session.run(None, feed)


def measure_blocks(
    runners: Mapping[str, Callable[[], Any]],
    reference: str,
    rounds: int,
    runs: int = RUNS_PER_BLOCK,
    warm_up: int = 1,
) -> dict[str, Latency]:
    """Time all `runners` in interleaved rounds of `runs` runs each; ratios are to the runner called `reference`.

    `warm_up` rounds before them are not kept. Raises CoopexportError naming a runner that fails.
    """
    items = [(f"{name}/{run}", function) for name, function in runners.items() for run in range(runs)]
    # Not until steady: every block comes to rest by itself.
    taken = sample_interleaved(items, rounds, fixed(warm_up))
    for key, reason in taken.failures.items():
        raise DeviceError(f"'{key.rpartition('/')[0]}' cannot be measured: {reason}")
    return latencies({name: [taken.samples_ms[f"{name}/{run}"] for run in range(runs)] for name in runners}, reference)


def latencies(samples_ms: Mapping[str, Sequence[Sequence[float]]], reference: str) -> dict[str, Latency]:
    """Return latencies from samples in milliseconds: by name, one row per run of a block, one column per round.

    Steady is the last third of a block.
    """
    tables = {name: np.asarray(rows, dtype=np.float64) for name, rows in samples_ms.items()}
    first = {name: table[0] for name, table in tables.items()}
    quick = {name: float(np.percentile(table, _QUICK_PERCENT)) for name, table in tables.items()}
    steady = {name: np.median(table[-max(len(table) // 3, 1) :], axis=0) for name, table in tables.items()}
    return {
        name: Latency(
            float(np.median(steady[name])),
            float(np.median(first[name])),
            quick[name],
            _ratio(steady[reference] / steady[name]),
            _ratio(first[reference] / first[name]),
            quick[reference] / quick[name],
        )
        for name in tables
    }


def _ratio(values: NDArray[np.float64]) -> Ratio:
    """Return the median and its interval; of few rounds the least and the greatest value.

    Rounds that follow each other are not quite independent, so that the interval says how well one sitting knows its
    median, not how far another sitting may be from it.
    """
    low, high = median_interval(np.sort(values)) or (float(values.min()), float(values.max()))
    return Ratio(float(np.median(values)), low, high)
