"""Training on the CPU, and filters chosen by their L1 norm: the parts of a pruning that the demo needs."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from jetson.preprocessing import Preprocessing, apply

BATCH_IMAGES = 32
SHIFT_PIXELS = 2  # largest random shift of a training image, in each direction
WEIGHT_DECAY = 0.05
WARM_UP_SHARE = 0.25  # of all steps, in which the learning rate rises to its peak


def train(
    network: nn.Module,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    preprocessing: Preprocessing,
    epochs: int,
    peak_learning_rate: float,
    seed: int,
    on_epoch: Callable[[int, float], None],
) -> None:
    """Train `network` in place on the CPU in float32 and leave it in eval mode.

    `images`: N x height x width x 3 uint8 RGB; `labels`: N int64. They pass through `preprocessing`
    once, as in deployment, and are shifted at random by up to 2 pixels. Cross entropy, AdamW, one
    cycle of learning rates. `on_epoch` is called after each epoch with its number, from 0, and its
    mean loss. The same seed, machine and number of threads give the same network; the global random
    state of torch stays as it was.
    """
    shifted_batches = _ShiftedBatches(apply(preprocessing, images), labels, preprocessing.layout)
    # Both are the same numbers in another order in memory; oneDNN is about a fifth faster with it.
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    steps = shifted_batches.steps_per_epoch
    optimizer = torch.optim.AdamW(network.parameters(), lr=peak_learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak_learning_rate, total_steps=epochs * steps, pct_start=WARM_UP_SHARE
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for networks with dropout
        generator = torch.Generator().manual_seed(seed)
        for epoch in range(epochs):
            total = 0.0
            for batch, targets in shifted_batches.draw(generator):
                loss = nn.functional.cross_entropy(network(batch), targets)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                total += loss.item()
            on_epoch(epoch, total / steps)
    network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def l1_masks(network: nn.Module, keep_fraction: Callable[[str], float]) -> dict[str, NDArray[np.bool_]]:
    """Return for each convolution, by layer name, which filters stay: one boolean per output channel.

    `keep_fraction` gives for a layer name the share of filters that stay, above 0 and at most 1; at
    least one does. Those with the largest L1 norm of their weights stay (Li et al. 2017, "Pruning
    Filters for Efficient ConvNets"); equal norms: the lower index.
    """
    return {
        name: _largest(_filter_norms(module), keep_fraction(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    }


def _filter_norms(convolution: nn.Conv2d) -> NDArray[np.float64]:
    return convolution.weight.detach().cpu().double().abs().sum(dim=(1, 2, 3)).numpy()


def _largest(norms: NDArray[np.float64], fraction: float) -> NDArray[np.bool_]:
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction to keep must be above 0 and at most 1, not {fraction}")
    kept = max(1, round(fraction * len(norms)))
    mask = np.zeros(len(norms), dtype=np.bool_)
    mask[np.argsort(-norms, kind="stable")[:kept]] = True
    return mask


class _ShiftedBatches:
    """Shuffled batches of inputs, each input shifted at random with its border repeated."""

    def __init__(self, inputs: NDArray[np.generic], labels: NDArray[np.int64], layout: str) -> None:
        self._channels_first = layout == "NCHW"
        pixels = inputs.transpose(0, 2, 3, 1) if self._channels_first else inputs
        border = (SHIFT_PIXELS, SHIFT_PIXELS)
        padded = np.pad(pixels, ((0, 0), border, border, (0, 0)), mode="edge")
        self._padded = torch.from_numpy(np.ascontiguousarray(padded))
        self._labels = torch.from_numpy(labels)
        self._rows = torch.arange(pixels.shape[1])
        self._columns = torch.arange(pixels.shape[2])
        # An incomplete last batch is left out of the epoch: batch norm is unsteady on few images.
        self._batch_images = min(BATCH_IMAGES, len(inputs))
        self.steps_per_epoch = len(inputs) // self._batch_images

    def draw(self, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield the batches of one epoch: inputs in the layout that the network takes, and labels."""
        order = torch.randperm(len(self._labels), generator=generator)
        for step in range(self.steps_per_epoch):
            chosen = order[step * self._batch_images : (step + 1) * self._batch_images]
            shifts = torch.randint(2 * SHIFT_PIXELS + 1, (2, len(chosen), 1), generator=generator)
            rows = (shifts[0] + self._rows)[:, :, None]
            columns = (shifts[1] + self._columns)[:, None, :]
            batch = self._padded[chosen[:, None, None], rows, columns]
            yield (batch.permute(0, 3, 1, 2) if self._channels_first else batch), self._labels[chosen]
