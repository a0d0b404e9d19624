"""What the demo does, in numbers: sizes, epochs, learning rates, and how much is pruned."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """All choices of the demo.

    `widths`: filters of the 13 convolutions, a quarter of VGG-16's. `train_count`, `evaluation_count`: images.
    `peak_learning_rate`: of one cycle; `seed`: of data, weights and order. Step 1 of pruning makes the MACs
    `macs_reduction` times fewer in `rounds`, each followed by `round_epochs`, all by `final_epochs`; step 2 takes
    `step_two_widths` widths at each of `step_two_layers`, each followed by `step_two_epochs` at a lower peak.
    """

    widths: tuple[int, ...] = (16, 16, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128)
    train_count: int = 18000
    epochs: float = 2.0
    evaluation_count: int = 1000
    peak_learning_rate: float = 0.002
    macs_reduction: float = 6.0
    rounds: int = 6
    round_epochs: float = 0.15
    final_epochs: float = 4.0
    score_images: int = 2000
    step_two_layers: tuple[str, ...] = ("conv3_3", "conv4_1")
    step_two_widths: int = 5
    step_two_epochs: float = 0.3
    step_two_learning_rate: float = 0.001
    seed: int = 0
