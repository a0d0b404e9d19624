"""The page of the criteria for pruning: means over the seeds, and how far above chance each is."""

from __future__ import annotations

import numpy as np

from benchmarks.demo.data import DemoData
from benchmarks.studies.pruning_criteria import UNTRAINED_REDUCTIONS, Budget, NetworkUnderTest, Result, page
from exporter.training.training_set import TrainingSet

NO_IMAGES, LABELS = np.zeros((0, 32, 32, 3), np.uint8), np.zeros(1000, np.int64)


def benchmark_case(seed: int) -> NetworkUnderTest:
    data = DemoData(NO_IMAGES, LABELS[:0], NO_IMAGES, LABELS[:0], NO_IMAGES, LABELS)
    return NetworkUnderTest(seed, {}, data, TrainingSet.__new__(TrainingSet), 0.98)


def result(criterion: str, seed: int, trained: float, untrained: float) -> Result:
    return Result(criterion, seed, ((trained, 3000 + seed),), (untrained,) * len(UNTRAINED_REDUCTIONS))


def test_gains_are_counted_in_points_and_deviations_over_the_seeds() -> None:
    results = [
        result("taylor", 0, 0.93, 0.5),
        result("taylor", 1, 0.95, 0.5),
        result("random", 0, 0.89, 0.4),
        result("random", 1, 0.91, 0.4),
    ]
    text = page([benchmark_case(0), benchmark_case(1)], results, [Budget(1, 1)])
    accuracies, gains = text.split("## Against chance")
    assert "| criterion | 3,000 images | none, 1.25x | none, 1.5x | none, 2x |" in accuracies
    assert "| taylor | 94.00 ± 1.41 | 50.00 ± 0.00 |" in accuracies
    assert "| random | 90.00 ± 1.41 |" in accuracies
    # 4 points; the variance of both is 2 points squared. Without any spread there are no deviations to count in.
    assert "| taylor | **+4.00 points, +2.8 deviations** | +10.00 points | +10.00 points |" in gains
    assert "| random |" not in gains
