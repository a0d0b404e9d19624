"""What is coded: features of a trained network at five depths, quantised to 8, 4 and 2 bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.demo.data import DemoData
from benchmarks.studies.codecs_page.network import features, top1
from exporter.models.vgg import VGG16


@dataclass(frozen=True)
class Depth:
    """A place in the network: `cut` names it, the output of `module` crosses; `shallow`: before the second pool."""

    cut: str
    module: str
    shallow: bool


DEPTHS = (
    Depth("conv1_2", "relu1_2", True),
    Depth("pool1", "pool1", True),
    Depth("pool2", "pool2", False),
    Depth("pool3", "pool3", False),
    Depth("pool4", "pool4", False),
)
# Of each channel's values, what lies above this percentile saturates: the fewer the levels, the more of it.
PERCENTILES = {8: 99.9, 4: 99.8, 2: 99.0}
# Training images that clip ranges and symbol models are fitted on.
FITTING_IMAGES = 1024
_BATCH = 64


@dataclass(frozen=True)
class BenchmarkCase:
    """The symbols of one depth and width, uint8, N x C x H x W.

    `fitting`: of training images; `held_out`: of images that neither the network nor the models have seen. `top1`: of
    the network with these held-out symbols decoded at the cut; `reference_top1`: without any coding.
    """

    depth: Depth
    bits: int
    fitting: NDArray[np.uint8]
    held_out: NDArray[np.uint8]
    top1: float
    reference_top1: float

    @property
    def name(self) -> str:
        """Return cut and width in words."""
        return f"{self.depth.cut}, {self.bits} bits"

    @property
    def symbols_per_sample(self) -> int:
        """Return how many symbols cross for one image."""
        return int(self.held_out[0].size)


def make_benchmark_cases(
    network: VGG16, data: DemoData, depths: Sequence[Depth] = DEPTHS, widths: Sequence[int] = tuple(PERCENTILES)
) -> Iterator[BenchmarkCase]:
    """Yield the cases depth by depth, so that only one depth's features are held at a time."""
    for depth in depths:
        fitting = features(network, data.train_images[:FITTING_IMAGES], [depth.module])[depth.module]
        held_out = features(network, data.evaluation_images, [depth.module])[depth.module]
        reference = top1(network, depth.module, _batches(held_out), data.evaluation_labels)
        for bits in widths:
            high = channel_percentiles(fitting, PERCENTILES[bits])
            symbols = quantise(held_out, high, bits)
            decoded = dequantise(symbols, high, bits)
            yield BenchmarkCase(
                depth,
                bits,
                quantise(fitting, high, bits),
                symbols,
                top1(network, depth.module, _batches(decoded), data.evaluation_labels),
                reference,
            )


def channel_percentiles(values: NDArray[np.float32], percentile: float) -> NDArray[np.float32]:
    """Return the percentile of each channel of N x C x H x W values, C x 1 x 1, for a channel of zeros 1."""
    channels = values.transpose(1, 0, 2, 3).reshape(values.shape[1], -1)
    high = np.percentile(channels, percentile, axis=1).astype(np.float32)
    # A channel that is nearly always zero keeps the few values it has.
    high = np.where(high > 0, high, channels.max(axis=1))
    return np.where(high > 0, high, 1).astype(np.float32)[:, None, None]


def quantise(values: NDArray[np.float32], high: NDArray[np.float32], bits: int) -> NDArray[np.uint8]:
    """Return symbols of values that are not negative: 0 to `high` evenly on 0 to 2^bits - 1, saturating above."""
    levels = (1 << bits) - 1
    symbols = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), _BATCH):
        scaled = np.rint(values[start : start + _BATCH] * (np.float32(levels) / high))
        symbols[start : start + _BATCH] = np.clip(scaled, 0, levels)
    return symbols


def dequantise(symbols: NDArray[np.uint8], high: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Return the values that `symbols` stand for."""
    values: NDArray[np.float32] = symbols.astype(np.float32) * (high / np.float32((1 << bits) - 1))
    return values


def _batches(values: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(values), _BATCH):
        yield values[start : start + _BATCH]
