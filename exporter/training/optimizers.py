"""Optimizers of the project file, and their rates step by step."""

from __future__ import annotations

import torch
from torch import nn

from exporter.project.settings import TrainingSection
from exporter.training.schedules import learning_rate, momentum
from jetson.errors import InputError

_SECOND_MOMENT = 0.999  # of AdamW, as its authors have it


def make_optimizer(network: nn.Module, settings: TrainingSection) -> torch.optim.Optimizer:
    """Return training.optimizer over all of the network's parameters that are trained.

    "sgd" (with momentum) or "adamw" (Loshchilov & Hutter 2019), fused. Raises CoopexportError when there is nothing
    to train.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError("the network has no parameter with requires_grad, so there is nothing to train")
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "adamw":
        betas = (settings.momentum, _SECOND_MOMENT)
        return torch.optim.AdamW(trained, lr=rate, betas=betas, weight_decay=decay, fused=True)
    return torch.optim.SGD(trained, lr=rate, momentum=settings.momentum, weight_decay=decay, fused=True)


def set_rates(optimizer: torch.optim.Optimizer, settings: TrainingSection, step: int, steps: int) -> None:
    """Give `optimizer` learning rate and momentum of `step` (from 0) of `steps`."""
    rate = learning_rate(settings.schedule, settings.learning_rate, step, steps)
    inertia = momentum(settings.schedule, settings.momentum, step, steps)
    for group in optimizer.param_groups:
        group["lr"] = rate
        if "betas" in group:
            group["betas"] = (inertia, _SECOND_MOMENT)
        else:
            group["momentum"] = inertia
