"""Batches of a training set: in order or shuffled, and shifted and mirrored at random."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from exporter.training.training_set import TrainingSet
from jetson.errors import InputError


def steps_per_epoch(images: int, batch_images: int) -> int:
    """Return how many batches an epoch trains on: whole ones, or one smaller one where there are too few images."""
    return max(1, images // batch_images)


def iterate(
    data: TrainingSet, batch_images: int, generator: torch.Generator | None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield inputs (N x model.input_shape, float32) and labels (N x ..., integers as int64) of one epoch, on the CPU.

    With `generator` the order is drawn from it, and an incomplete last batch is left out where there is a whole one
    (batch norm is unsteady on few images); with None it is that of `data`, to the last image. Raises CoopexportError
    when inputs and labels do not belong together.
    """
    if generator is None:
        order = np.arange(len(data))
        steps = -(-len(data) // batch_images)
    else:
        order = torch.randperm(len(data), generator=generator).numpy()
        steps = steps_per_epoch(len(data), batch_images)
    for step in range(steps):
        indices = order[step * batch_images : (step + 1) * batch_images]
        inputs, labels = data.inputs(indices), data.labels(indices)
        if len(inputs) != len(indices) or len(labels) != len(indices):
            raise InputError(
                f"{data.name}: asked for {len(indices)} samples, it gave {len(inputs)} inputs and {len(labels)} labels"
            )
        yield torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32)), _as_tensor(labels, data.name)


def ahead(batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the same batches, the next one made by another thread while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch


def check_augmentable(data: TrainingSet, shift_pixels: int, flip: bool) -> None:
    """Raise InputError when inputs are to be shifted or mirrored and are not images."""
    if not shift_pixels and not flip:
        return
    shape = data.inputs(np.zeros(1, dtype=np.int64)).shape[1:]
    if len(shape) != 3:
        raise InputError(
            f"inputs of {data.name} have shape {shape}, and only images can be shifted or mirrored: set "
            "training.shift_pixels = 0 and training.flip = false"
        )


def augmented(
    inputs: torch.Tensor, layout: str, shift_pixels: int, flip: bool, generator: torch.Generator
) -> torch.Tensor:
    """Return `inputs` (N images in `layout`), each shifted by up to `shift_pixels` both ways, the border repeated.

    With `flip` each is mirrored left to right or not. One gather for both; images come back in channels-last memory.
    """
    if not shift_pixels and not flip:
        return inputs
    channels_first = layout == "NCHW"
    pixels = inputs.permute(0, 2, 3, 1) if channels_first else inputs
    count, height, width = pixels.shape[:3]
    rows = torch.arange(height).expand(count, height)
    columns = torch.arange(width).expand(count, width)
    if shift_pixels:
        shifts = torch.randint(2 * shift_pixels + 1, (2, count, 1), generator=generator) - shift_pixels
        rows = (rows + shifts[0]).clamp(0, height - 1)
        columns = (columns + shifts[1]).clamp(0, width - 1)
    if flip:
        mirrored = torch.randint(2, (count, 1), generator=generator).bool()
        columns = torch.where(mirrored, width - 1 - columns, columns)
    moved = pixels[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2) if channels_first else moved


def _as_tensor(labels: NDArray[np.generic], name: str) -> torch.Tensor:
    if labels.dtype.kind not in "biuf":
        raise InputError(f"{name}: labels are {labels.dtype}; training needs numbers")
    dtype = np.float32 if labels.dtype.kind == "f" else np.int64
    return torch.from_numpy(np.ascontiguousarray(labels, dtype=dtype))
