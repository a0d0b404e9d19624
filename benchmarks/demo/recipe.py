"""What the demo does, in numbers: sizes, epochs, learning rates, and how much is pruned."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    widths: tuple[int, ...] = (16, 16, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128)
    train_count: int = 6000
    epochs: int = 7
    fine_tune_epochs: int = 3
    evaluation_count: int = 1000
    peak_learning_rate: float = 0.004
    fine_tune_peak_learning_rate: float = 0.002
    keep_fraction: float = 0.45
    seed: int = 0
