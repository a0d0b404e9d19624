"""Criteria: how important each channel of a network is, before tied channels are judged together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.pruning.gates import gate_shapes, gated_network
from exporter.tracing.trace import TracedNetwork, output_tensors
from exporter.tracing.weight_layout import filters_of
from jetson.errors import InputError, UnsupportedError, one_line

# For each layer one score per channel that it makes, float64; only their proportions within a layer count.
Scores: TypeAlias = Mapping[str, NDArray[np.float64]]
Batches: TypeAlias = Iterable[tuple[torch.Tensor, torch.Tensor]]
Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at.

    `network`: the dense network, in eval mode; `traced`: the graph of the network that it was made from, whose module
    names it has; `layers`: those to score, with their output channels; `batches`: draws training data anew, inputs
    N x ... and labels, on the network's device; `loss`: the mean over a batch; `seed`: for criteria that draw.
    """

    network: nn.Module
    traced: TracedNetwork
    layers: Mapping[str, int]
    batches: Callable[[], Batches]
    loss: Loss
    seed: int


Criterion: TypeAlias = Callable[[Evidence], Scores]


def taylor(evidence: Evidence) -> Scores:
    """Return the first-order change of the loss when a channel becomes zero, summed over all samples with its sign.

    Shi et al. 2019 (their code): activation x gradient, positive and negative contributions cancelling over the epoch.
    Taken where the channel is masked, behind batch norm and activation, in eval mode.
    """
    return _magnitudes(_products(evidence, at_end=True, absolute=False))


def taylor_absolute(evidence: Evidence) -> Scores:
    """Return the first-order change of the loss in size, sample by sample: nothing cancels.

    Molchanov et al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient Inference", equation 8.
    """
    return _products(evidence, at_end=True, absolute=True)


def taylor_before_norm(evidence: Evidence) -> Scores:
    """Return what `taylor` does, with activation and gradient of the convolution's own output, before batch norm.

    That is where the code of Shi et al. 2019 takes both.
    """
    return _magnitudes(_products(evidence, at_end=False, absolute=False))


def l1_norm(evidence: Evidence) -> Scores:
    """Return the L1 norm of each filter (Li et al. 2017, "Pruning Filters for Efficient ConvNets")."""
    return {name: filters.abs().sum(dim=1).numpy() for name, filters in _filters(evidence)}


def geometric_median(evidence: Evidence) -> Scores:
    """Return how far each filter is from all others of its layer: the nearest to their median is replaceable.

    He et al. 2019, "Filter Pruning via Geometric Median": the sum of Euclidean distances.
    """
    return {name: torch.cdist(filters, filters).sum(dim=1).numpy() for name, filters in _filters(evidence)}


def random(evidence: Evidence) -> Scores:
    """Return scores that say nothing: the baseline for all others."""
    generator = np.random.default_rng(evidence.seed)
    return {name: generator.random(count) for name, count in evidence.layers.items()}


CRITERIA: Mapping[str, Criterion] = {
    "taylor": taylor,
    "taylor-absolute": taylor_absolute,
    "taylor-before-norm": taylor_before_norm,
    "l1-norm": l1_norm,
    "geometric-median": geometric_median,
    "random": random,
}


def score_channels(name: str, evidence: Evidence) -> Scores:
    """Return the scores of the criterion called `name`, per layer as `evidence.layers` has channels.

    Raises CoopexportError when it does not exist or when a score is not a finite number, naming the layer.
    """
    if name not in CRITERIA:
        raise InputError(f'there is no criterion "{name}"', fix=f"choose one of {', '.join(CRITERIA)}")
    scores = CRITERIA[name](evidence)
    for layer, values in scores.items():
        if not np.isfinite(values).all():
            raise InputError(
                f"criterion {name}: scores of '{layer}' are NaN or infinite",
                layer=layer,
                fix="the network has diverged, train it with a lower learning rate",
            )
    return scores


def _filters(evidence: Evidence) -> Iterable[tuple[str, torch.Tensor]]:
    """Yield for each layer its filters, one row per output channel, float64 on the CPU."""
    for name, count in evidence.layers.items():
        module = evidence.network.get_submodule(name)
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        filters = filters_of(module, weight.detach().cpu().double())
        rows = filters.reshape(filters.shape[0] * filters.shape[1], -1)
        picked = getattr(module, "output_index", None)
        yield name, rows if picked is None else rows[picked.cpu()][:count]


def _products(evidence: Evidence, *, at_end: bool, absolute: bool) -> dict[str, NDArray[np.float64]]:
    """Return for each layer the sum over samples of activation x gradient of each channel.

    Every channel is multiplied by a one of its own per sample; the gradient of that one is the product, summed over
    positions. Where a layer has samples and positions in one dimension, samples are taken one by one if need be.
    """
    gated = gated_network(evidence.traced, evidence.network, evidence.layers, at_end=at_end)
    alone = absolute and not gated.by_sample
    totals = {name: torch.zeros(count, dtype=torch.float64) for name, count in evidence.layers.items()}
    for inputs, labels in _singly(evidence.batches()) if alone else evidence.batches():
        gates = [
            torch.ones(shape, device=inputs.device, dtype=inputs.dtype, requires_grad=True)
            for shape in gate_shapes(gated, len(inputs))
        ]
        outputs = next(iter(output_tensors(_run(gated.network, inputs, *gates))))
        loss = evidence.loss(outputs, labels) * len(inputs)  # of the sum, whatever the size of the batch
        gradients = torch.autograd.grad(loss, gates, allow_unused=True)
        for layer, gradient in zip(gated.layers, gradients, strict=True):
            if gradient is not None:
                per_sample = gradient.reshape(len(gradient), -1).double().cpu()
                totals[layer] += (per_sample.abs() if absolute else per_sample).sum(dim=0)
    return {name: total.numpy() for name, total in totals.items()}


def _run(network: nn.Module, *inputs: torch.Tensor) -> Any:
    """Return the network's outputs, with gradients; raises CoopexportError when it does not run."""
    try:
        return network.forward(*inputs)  # called, a traced network prints what fails
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001  the network is the user's code
        raise UnsupportedError(
            f"the network does not run with gradients, which Taylor's criteria take ({one_line(error)[:160]})",
            fix="mend forward(), or prune by l1-norm or geometric-median",
        ) from None


def _singly(batches: Batches) -> Batches:
    for inputs, labels in batches:
        for index in range(len(inputs)):
            yield inputs[index : index + 1], labels[index : index + 1]


def _magnitudes(scores: Scores) -> Scores:
    return {name: np.abs(values) for name, values in scores.items()}
