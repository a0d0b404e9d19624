"""What rounding widths up costs in MACs and gains in time, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from exporter.layers.export import export
from exporter.layers.layer_times import OTHER, layer_times_ms
from exporter.project.settings import Project
from exporter.shrinking.removal import ShrinkOptions
from exporter.shrinking.shrink import layer_sizes, shrink_unproven
from exporter.variants.layer_graphs import example_inputs
from exporter.variants.shrunk_variant import ShrunkVariant


@dataclass(frozen=True)
class RoundedLayer:
    """One layer with its exact width and with the rounded one: output channels, MACs per sample, and milliseconds.

    The times are None where ONNX Runtime's profiler does not tell the layer apart.
    """

    name: str
    channels_exact: int
    channels_rounded: int
    macs_exact: int
    macs_rounded: int
    exact_ms: float | None
    rounded_ms: float | None


@dataclass(frozen=True)
class RoundingCost:
    """What rounding to multiples of `round_to` does, layer by layer.

    `between_exact_ms`, `between_rounded_ms`: what belongs to no layer; `exact_ms`, `rounded_ms`: the whole networks.
    """

    round_to: int
    layers: tuple[RoundedLayer, ...]
    between_exact_ms: float
    between_rounded_ms: float
    exact_ms: float
    rounded_ms: float


def measure_rounding(project: Project, variant: ShrunkVariant, options: ShrinkOptions) -> RoundingCost:
    """Measure the shrunk network beside the same with its exact widths, in ONNX Runtime, one thread, one sample.

    `options`: those that `variant` was shrunk with, `round_to` among them. Raises CoopexportError when ONNX Runtime is
    missing, or a network cannot be exported.
    """
    assert options.round_to is not None
    inputs = example_inputs(project)
    examples = torch.from_numpy(inputs)
    exact, _, flow = shrink_unproven(variant.before, variant.given, examples, replace(options, round_to=None))
    exact_model, rounded_model = (export(item, examples).model for item in (exact.eval(), variant.shrunk.network))
    times_ms = layer_times_ms({"exact": exact_model, "rounded": rounded_model}, [inputs])
    exact_ms, rounded_ms = times_ms["exact"], times_ms["rounded"]
    layers = []
    for size, rounded in zip(layer_sizes(variant.before, exact, flow), variant.shrunk.sizes, strict=True):
        layers.append(
            RoundedLayer(
                size.name,
                size.channels_after,
                rounded.channels_after,
                size.macs_after,
                rounded.macs_after,
                exact_ms.get(size.name),
                rounded_ms.get(size.name),
            )
        )
    return RoundingCost(
        options.round_to,
        tuple(layers),
        exact_ms.get(OTHER, 0.0),
        rounded_ms.get(OTHER, 0.0),
        sum(exact_ms.values()),
        sum(rounded_ms.values()),
    )
