"""Bytes and times of all coders on the same samples: interleaved, every answer compared with what went in."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.studies.codecs_page.benchmark_cases import BenchmarkCase, Depth
from benchmarks.studies.codecs_page.coders import Coder, Missing, Symbols, own_coders
from benchmarks.studies.codecs_page.peers import peer_coders
from calibration.codecs.entropy_tables import cross_entropy_bytes, fit_symbol_model, order_0_probabilities
from jetson.runtime.sampling import fixed, sample_interleaved

_WARM_UP_ROUNDS = 1
_SETTLING_S = 0.001


@dataclass(frozen=True)
class Measured:
    """What one coder did with the samples of a case; `sizes_bytes`: of each sample; times: medians."""

    coder: str
    own: bool
    form: str
    sizes_bytes: tuple[int, ...]
    encode_us: float
    decode_us: float

    @property
    def mean_bytes(self) -> float:
        """Return the mean size in bytes."""
        return statistics.fmean(self.sizes_bytes)

    @property
    def total_us(self) -> float:
        """Return the time of both ends in microseconds."""
        return self.encode_us + self.decode_us


@dataclass(frozen=True)
class NotMeasured:
    """A coder that gave no result, and why."""

    coder: str
    reason: str


@dataclass(frozen=True)
class Case:
    """Everything measured on one case. `context_count`: of the fitted model; `cross_entropies_bytes`:
    of each sample, under the static order-0 model."""

    depth: Depth
    bits: int
    symbols_per_sample: int
    context_count: int
    cross_entropies_bytes: tuple[float, ...]
    top1: float
    reference_top1: float
    rows: tuple[Measured | NotMeasured, ...]

    @property
    def name(self) -> str:
        """Return cut and width in words."""
        return f"{self.depth.cut}, {self.bits} bits"

    @property
    def measured(self) -> tuple[Measured, ...]:
        """Return the rows with a result, of each coder the form with the fewest bytes."""
        found: dict[str, Measured] = {}
        for row in self.rows:
            if isinstance(row, Measured):
                before = found.setdefault(row.coder, row)
                found[row.coder] = min(before, row, key=lambda one: one.mean_bytes)
        return tuple(found.values())


def measure(benchmark_case: BenchmarkCase, sample_count: int) -> Case:
    """Return what all coders do with the first `sample_count` held-out samples of `benchmark_case`."""
    samples = [
        benchmark_case.held_out[index : index + 1] for index in range(min(sample_count, len(benchmark_case.held_out)))
    ]
    order_0, contexts = (
        fit_symbol_model(benchmark_case.fitting, benchmark_case.bits, with_contexts) for with_contexts in (False, True)
    )
    coders = own_coders(samples[0].shape, benchmark_case.bits, order_0, contexts) + peer_coders(
        samples[0].shape, benchmark_case.bits
    )
    # The model that a message is compared with is the ideal one: probabilities that are not rounded to 15 bits.
    probabilities = order_0_probabilities(benchmark_case.fitting, benchmark_case.bits)
    return Case(
        benchmark_case.depth,
        benchmark_case.bits,
        benchmark_case.symbols_per_sample,
        contexts.context_count,
        tuple(cross_entropy_bytes(probabilities, sample) for sample in samples),
        benchmark_case.top1,
        benchmark_case.reference_top1,
        tuple(measure_coders(coders, samples)),
    )


def measure_coders(coders: Sequence[Coder | Missing], samples: Sequence[Symbols]) -> list[Measured | NotMeasured]:
    """Return a row for every coder. In each round all of them code one sample, the next one in the next round."""
    trials = [_Trial(coder, samples) for coder in coders if isinstance(coder, Coder)]
    items: list[tuple[str, Callable[[], Any]]] = []
    for number, trial in enumerate(trials):
        # The first calls of a round find another coder's code and tables in the caches: they are not counted.
        items += [
            (f"{number} first", trial.settle),
            (f"{number} encode", trial.encode),
            (f"{number} decode", trial.decode),
        ]

    def next_sample(rounds_done: int, _rounds: int) -> None:
        for trial in trials:
            trial.check()
            trial.index = (rounds_done - _WARM_UP_ROUNDS) % len(samples)

    taken = sample_interleaved(items, len(samples), fixed(_WARM_UP_ROUNDS), next_sample)
    times_ms, failures = taken.samples_ms, taken.failures
    rows: list[Measured | NotMeasured] = []
    for number, trial in enumerate(trials):
        names = [f"{number} encode", f"{number} decode"]
        reason = next((failures[name] for name in (f"{number} first", *names) if name in failures), trial.problem)
        if reason:
            rows.append(NotMeasured(trial.coder.name, reason))
            continue
        encode_us, decode_us = (1000 * statistics.median(times_ms[name]) for name in names)
        sizes = tuple(trial.sizes_bytes[index] for index in range(len(samples)))
        rows.append(Measured(trial.coder.name, trial.coder.own, trial.coder.form, sizes, encode_us, decode_us))
    return rows + [NotMeasured(coder.name, coder.reason) for coder in coders if isinstance(coder, Missing)]


class _Trial:
    """One coder going through the samples, one in each round."""

    def __init__(self, coder: Coder, samples: Sequence[Symbols]) -> None:
        self.coder = coder
        self.index = 0
        self.sizes_bytes: dict[int, int] = {}
        self.problem = ""
        self._samples = samples
        self._coded: bytes | None = None
        self._decoded: Symbols | None = None

    def settle(self) -> None:
        """Code the sample of this round and decode it, at least once and for at least a millisecond."""
        end = time.perf_counter() + _SETTLING_S
        self.encode()
        self.decode()
        while time.perf_counter() < end:
            self.encode()
            self.decode()

    def encode(self) -> None:
        """Code the sample of this round."""
        self._coded = None
        self._coded = self.coder.encode(self._samples[self.index])

    def decode(self) -> None:
        """Decode what `encode` made in this round."""
        self._decoded = None
        if self._coded is not None:
            self._decoded = self.coder.decode(self._coded)

    def check(self) -> None:
        """Note the size, and whether the sample came back; not timed."""
        if self._coded is None or self._decoded is None:
            return
        self.sizes_bytes[self.index] = len(self._coded)
        if not np.array_equal(self._decoded, self._samples[self.index]):
            self.problem = f"sample {self.index} does not come back as it was"
