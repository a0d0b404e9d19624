"""How good a network is on a training set, while it is trained."""

from __future__ import annotations

import torch
from torch import nn

from exporter.project.settings import CROSS_ENTROPY, TrainingSection
from exporter.tracing.trace import eval_mode
from exporter.training.batches import iterate
from exporter.training.losses import LossFunction, check_labels, first_output
from exporter.training.placement import to_device
from exporter.training.training_set import TrainingSet


def score(
    network: nn.Module, data: TrainingSet, settings: TrainingSection, loss: LossFunction, device: torch.device
) -> float:
    """Return the share of right class numbers in `data`, or, with a loss of the user's, minus its mean; eval mode.

    `network` is on `device` and in whatever mode; it stays as it is. Raises CoopexportError when the labels do not
    fit its outputs.
    """
    total, count = 0.0, 0
    mixed = device.type == "cuda" and settings.mixed_precision
    with eval_mode(network), torch.no_grad(), torch.autocast(device.type, torch.float16, enabled=mixed):
        for inputs, labels in iterate(data, settings.batch_images, None):
            outputs = first_output(network, to_device(inputs, device))
            if settings.loss == CROSS_ENTROPY:
                check_labels(outputs.shape, labels, data.name)
                total += (outputs.argmax(dim=1).cpu() == labels).double().mean().item() * len(inputs)
            else:
                total -= loss(outputs, to_device(labels, device)).item() * len(inputs)
            count += len(inputs)
    return total / count
