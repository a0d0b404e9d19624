"""A network for studies that is trained in a second."""

from __future__ import annotations

from benchmarks.demo.prepare import Recipe

TINY = Recipe(
    widths=(8,) * 13,
    strides=(),
    image_pixels=32,
    train_count=128,
    batch_images=8,
    evaluation_count=20,
    epochs=3,
    bottleneck_channels=2,
    bottleneck_loss_points=100.0,
    bottleneck_trainings=1,
    bottleneck_first_epochs=1,
    candidates=("pool1", "pool5"),
)
