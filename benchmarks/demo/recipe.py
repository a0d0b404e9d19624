"""What the demo does, in numbers: sizes, epochs, learning rates, and how much is pruned."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """All choices of the demo.

    `widths`: filters of the 13 convolutions, a quarter of VGG-16's. `train_count`, `evaluation_count`: images.
    `keep_fraction`: share of filters that stays in every layer; half of them is about a quarter of the MACs.
    Learning rates are the peaks of one cycle each. `seed`: of data, weights and order.
    """

    widths: tuple[int, ...] = (16, 16, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128)
    train_count: int = 18000
    epochs: int = 2
    fine_tune_epochs: int = 3
    evaluation_count: int = 1000
    peak_learning_rate: float = 0.002
    fine_tune_peak_learning_rate: float = 0.002
    keep_fraction: float = 0.5
    seed: int = 0
