"""What training makes small: the project's loss, and the distance from a teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from exporter.project.settings import CROSS_ENTROPY, TrainingSection
from exporter.project.user_code import load_function
from exporter.tracing.trace import output_tensors
from jetson.errors import InputError, one_line

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def load_loss(settings: TrainingSection, folder: Path) -> LossFunction:
    """Return training.loss: cross entropy, or the user's function of outputs and labels, looked for in `folder`.

    Raises CoopexportError when the function cannot be found; what is returned raises it when outputs and labels do
    not fit, or the user's function fails or gives something else than one number.
    """
    if settings.loss == CROSS_ENTROPY:
        return cross_entropy
    function = load_function(settings.loss, folder, "training.loss")

    def checked(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        try:
            loss = function(outputs, labels)
        except Exception as error:
            raise InputError(
                f"training.loss {settings.loss} failed on outputs {tuple(outputs.shape)} and labels "
                f"{tuple(labels.shape)}: {type(error).__name__}: {one_line(error)[:160]}"
            ) from error
        if not isinstance(loss, torch.Tensor) or loss.shape != () or not loss.is_floating_point():
            found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise InputError(f"training.loss {settings.loss} returned {found}; it must return one number")
        return loss

    return checked


def cross_entropy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy of scores (N x classes x ...) and class numbers (N x ...)."""
    return nn.functional.cross_entropy(outputs, labels)


def check_labels(outputs: torch.Size, labels: torch.Tensor, name: str) -> None:
    """Raise InputError when `labels` (on the CPU) are not class numbers for `outputs` (N x classes x ...).

    `name` is what the data is called. Without this a GPU stops with an assertion that names neither.
    """
    if len(outputs) < 2 or labels.shape != (outputs[0], *outputs[2:]) or labels.is_floating_point():
        raise InputError(
            f'{name}: the network returns {tuple(outputs)} for labels {tuple(labels.shape)} ({labels.dtype}); "'
            f'{CROSS_ENTROPY}" needs N x classes and N class numbers',
            fix='correct the labels, or set training.loss = "package.module:function"',
        )
    least, largest = (int(value) for value in labels.aminmax())
    if least < 0 or largest >= outputs[1]:
        raise InputError(
            f"{name}: labels run from {least} to {largest}, the network has {outputs[1]} classes, counted from 0: "
            "correct the labels"
        )


def distillation(outputs: torch.Tensor, teacher_outputs: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return T^2 KL(teacher || student) of the softmax over dimension 1 at temperature T, the mean over samples.

    T^2 keeps its gradients as large as those of the cross entropy (Hinton, Vinyals & Dean 2015, "Distilling the
    Knowledge in a Neural Network", section 2.1). Raises CoopexportError when the two differ in shape.
    """
    if outputs.shape != teacher_outputs.shape or outputs.dim() < 2:
        raise InputError(
            f"the network returns {tuple(outputs.shape)} and its teacher {tuple(teacher_outputs.shape)}",
            fix="distillation needs N x classes of both: set distillation_weight = 0",
        )
    student = torch.log_softmax(outputs / temperature, dim=1)
    teacher = torch.log_softmax(teacher_outputs / temperature, dim=1)
    return temperature**2 * (teacher.exp() * (teacher - student)).sum(dim=1).mean()


def first_output(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return the first tensor that `network` gives for `inputs`, as float32.

    Raises CoopexportError when it does not take them or returns no tensor.
    """
    try:
        outputs = network(inputs)
    except torch.OutOfMemoryError:  # that is not the network's fault
        raise
    except Exception as error:
        raise InputError(
            f"the network does not take inputs of shape {tuple(inputs.shape)} ({one_line(error)[:160]})",
            fix="check model.input_shape and the training data",
        ) from error
    tensor = next(output_tensors(outputs), None)
    if tensor is None:
        raise InputError("the network returns no tensor that could be trained", fix="correct model.factory")
    return tensor.float()
