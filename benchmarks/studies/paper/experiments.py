"""Experiments behind the rule for rounding: single convolutions, and one layer rounded otherwise at a time."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks.studies.paper.layer_profile import ConvolutionTime, NetworkProfile, convolution_alone, profile_model
from benchmarks.studies.paper.networks import DenseModel, plain_model, random_vgg
from benchmarks.studies.paper.published import round_up
from benchmarks.studies.paper.timing import Ratio, measure_blocks, runner
from exporter.models.vgg import LAYER_NAMES

PROBE_MAP_SIZE = 8
PROBED_INPUTS = (8, 15, 16, 17, 20, 24, 32, 33, 36, 64, 65, 68, 80, 81, 84, 96)
PROBED_OUTPUTS = (48, 63, 64, 65, 80, 84, 97, 112, 128)
PROBE_OTHER_SIDE = 96
# Multiples that one layer is rounded to while all others are whole blocks; 1 leaves the width as it is.
CHOICES = (1, 4, 8, 32)
# So many more copies of the network with all widths in blocks stand between the others: what differs is noise.
CONTROLS = 4
_RUNS = 10


@dataclass(frozen=True)
class Probe:
    """One convolution by itself: channels in and out, and how long it takes."""

    inputs: int
    outputs: int
    time: ConvolutionTime


@dataclass(frozen=True)
class Choice:
    """The whole network with one layer of another width: its time over the typical one with all in blocks."""

    layer: str
    multiple: int
    width: int
    relative_time: Ratio


@dataclass(frozen=True)
class ChoiceTable:
    """All choices that differ from whole blocks, and several copies of the network with whole blocks."""

    block: int
    controls: tuple[Ratio, ...]
    choices: tuple[Choice, ...]


def probe_channels() -> tuple[Probe, ...]:
    """Return times of single 3x3 convolutions on 8x8 maps: input channels varied, then output channels."""
    shapes = [(inputs, PROBE_OTHER_SIDE) for inputs in PROBED_INPUTS]
    shapes += [(PROBE_OTHER_SIDE, outputs) for outputs in PROBED_OUTPUTS]
    return tuple(Probe(*shape, convolution_alone(*shape, PROBE_MAP_SIZE)) for shape in shapes)


def profile_alone(widths: Sequence[int], sizes: Sequence[int]) -> dict[str, ConvolutionTime]:
    """Return the time of each convolution of a VGG-16 of `widths` by itself, by layer; `sizes`: sides of its maps."""
    shapes = zip(LAYER_NAMES, (3, *widths[:-1]), widths, sizes, strict=True)
    return {layer: convolution_alone(inputs, outputs, size) for layer, inputs, outputs, size in shapes}


def profile_models(models: Sequence[DenseModel]) -> dict[str, NetworkProfile]:
    """Return the profiles of `models` by name."""
    return {model.name: profile_model(model.graph) for model in models}


def choose_per_layer(widths: Sequence[int], block: int, images: torch.Tensor, rounds: int) -> ChoiceTable:
    """Round one layer of `widths` at a time to something else than whole blocks, and time the network.

    Raises CoopexportError when a network cannot be exported or run.
    """
    base = round_up(widths, block)
    variants: dict[str, tuple[str, int, tuple[int, ...]]] = {}
    for index, layer in enumerate(LAYER_NAMES):
        for multiple in CHOICES:
            width = round_up(widths, multiple)[index]
            chosen = (*base[:index], width, *base[index + 1 :])
            if chosen != base and chosen not in (item[2] for item in variants.values()):
                variants[f"{layer} to {multiple}"] = (layer, multiple, chosen)
    names = list(variants)
    for number in range(CONTROLS):
        names.insert((number + 1) * len(names) // CONTROLS, f"control {number}")
    networks = {"whole blocks": base, **{name: variants[name][2] if name in variants else base for name in names}}
    runners = {name: runner(plain_model(name, random_vgg(item), item, images).graph) for name, item in networks.items()}
    measured = measure_blocks(runners, "whole blocks", rounds, _RUNS)
    copies = [_inverse(measured[name].steady_ratio) for name in networks if networks[name] == base]
    typical = statistics.median(copy.median for copy in copies)
    choices = tuple(
        Choice(
            layer,
            multiple,
            chosen[LAYER_NAMES.index(layer)],
            _over(_inverse(measured[name].steady_ratio), typical),
        )
        for name, (layer, multiple, chosen) in variants.items()
    )
    return ChoiceTable(block, tuple(_over(copy, typical) for copy in copies), choices)


def _inverse(ratio: Ratio) -> Ratio:
    return Ratio(1 / ratio.median, 1 / ratio.high, 1 / ratio.low)


def _over(ratio: Ratio, divisor: float) -> Ratio:
    return Ratio(ratio.median / divisor, ratio.low / divisor, ratio.high / divisor)
