"""The training loop: seeded, on CPU or CUDA, and it goes on after a kill where the last epoch ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from exporter.progress import ignore
from exporter.project.settings import CROSS_ENTROPY, TrainingSection
from exporter.tracing.trace import eval_mode
from exporter.training.batches import ahead, augmented, check_augmentable, iterate, steps_per_epoch
from exporter.training.losses import LossFunction, check_labels, distillation, first_output, load_loss
from exporter.training.optimizers import make_optimizer, set_rates
from exporter.training.placement import choose_device, memory_named, placed, thread_count, to_device
from exporter.training.random_state import seeded
from exporter.training.schedules import learning_rate
from exporter.training.training_set import TrainingSet
from exporter.training.training_state import Progress, TrainingParts, read_state, write_state
from jetson.errors import InputError

# Reading a loss waits for the GPU, so there it is done for so many steps at once.
_STEPS_BETWEEN_CHECKS_ON_CUDA = 20


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training. `number`: from 1, a fraction when the last is one, out of `of`.

    `loss`: mean over its steps; `score`: on the validation data, higher is better; `images` it trained on.
    """

    number: float
    of: float
    loss: float
    score: float | None
    seconds: float
    images: int


@dataclass(frozen=True)
class FitResult:
    """A training that is done, with what came before a kill. `losses`: the mean of each epoch."""

    images: int
    steps: int
    epochs: float
    seconds: float
    losses: tuple[float, ...]
    stopped_early: bool


@dataclass(frozen=True)
class _Course:
    """A training as it was asked for, in steps."""

    data: TrainingSet
    settings: TrainingSection
    loss: LossFunction
    teacher: nn.Module | None
    batch_images: int
    epoch_steps: int
    steps: int
    on_progress: Callable[[int, int], None] | None
    penalty: Callable[[], torch.Tensor] | None
    frozen: Sequence[nn.Module]


def fit(
    network: nn.Module,
    data: TrainingSet,
    settings: TrainingSection,
    *,
    epochs: float,
    seed: int,
    teacher: nn.Module | None = None,
    validation: TrainingSet | None = None,
    state_file: Path | None = None,
    recipe: str = "",
    on_epoch: Callable[[Epoch], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_warning: Callable[[str], None] = ignore,
    folder: Path | None = None,
    penalty: Callable[[], torch.Tensor] | None = None,
    frozen: Sequence[nn.Module] = (),
) -> FitResult:
    """Train `network` in place and leave it on the CPU, in eval mode, its parameters the same objects.

    `epochs`: above 0; of a fraction of an epoch its share of the steps, at least one in all. `seed` gives the order,
    the augmentation and the dropout: on the CPU the same seed, number of threads and machine give the same bits, and
    the global random state stays as it was. `teacher`, in eval mode, is what training.distillation_weight refers to.
    `validation` is scored after each epoch; with training.patience the best weights are the ones that are left.
    `state_file`: written after each epoch, removed by the caller. When it is there with the same `recipe` (a string
    that changes with the settings, the data, the seed and the first weights), training goes on from it and ends with
    the same bits, on the CPU, as if never stopped. `folder`: where training.loss is looked for, the project's.
    `on_progress` is called after each step with the steps done and all steps; `on_warning` is told when `state_file` is
    damaged, so that training starts anew. `penalty`: what the loss gets besides, of what network and teacher kept from
    the step's forward. `frozen`: modules that stay in eval mode; their parameters are those without requires_grad.

    Raises CoopexportError when settings, data and network do not fit, when the loss is NaN or infinite, and when the
    GPU's memory is too small; OSError when the state cannot be written.
    """
    _check(settings, epochs, teacher, validation)
    check_augmentable(data, settings.shift_pixels, settings.flip)
    device = choose_device(settings.device)
    if settings.distillation_weight == 0:
        teacher = None
    course = _course(
        data, settings, load_loss(settings, folder or Path.cwd()), teacher, epochs, on_progress, penalty, frozen
    )
    with ExitStack() as stack:
        stack.enter_context(memory_named(course.batch_images))
        stack.enter_context(thread_count(settings.threads))
        stack.enter_context(seeded(seed, device))
        for module in (network,) if teacher is None else (teacher, network):
            stack.enter_context(placed(module, device))
        parts = TrainingParts(
            network=network,
            optimizer=make_optimizer(network, settings),
            scaler=torch.amp.GradScaler(device.type, enabled=_mixed(settings, device)),
            generator=torch.Generator().manual_seed(seed),
            device=device,
        )
        progress = None if state_file is None else read_state(state_file, recipe, parts, on_warning)
        progress = progress or Progress()
        while progress.steps < course.steps and not progress.stopped_early:
            start = time.perf_counter()
            steps = min(course.epoch_steps, course.steps - progress.steps)
            mean_loss = _train_epoch(course, parts, progress.steps, steps)
            result = None if validation is None else score(network, validation, settings, course.loss, device)
            progress = _advanced(progress, settings.patience, network, steps, mean_loss, result)
            seconds = time.perf_counter() - start
            progress = replace(progress, seconds=progress.seconds + seconds)
            if state_file is not None:
                write_state(state_file, recipe, progress, parts)
            if on_epoch is not None:
                number = min(float(len(progress.losses)), epochs)
                on_epoch(Epoch(number, epochs, mean_loss, result, seconds, steps * course.batch_images))
        if progress.best_weights is not None:
            network.load_state_dict(progress.best_weights)
        parts.optimizer.zero_grad()
    return FitResult(
        images=progress.steps * course.batch_images,
        steps=progress.steps,
        epochs=progress.steps / course.epoch_steps,
        seconds=progress.seconds,
        losses=progress.losses,
        stopped_early=progress.stopped_early,
    )


def _check(settings: TrainingSection, epochs: float, teacher: nn.Module | None, validation: TrainingSet | None) -> None:
    if not 0 < epochs < math.inf:
        raise InputError(f"cannot train for {epochs} epochs", fix="pass a number above 0")
    if settings.distillation_weight > 0 and teacher is None:
        raise InputError(
            f"training.distillation_weight is {settings.distillation_weight}, and there is no teacher to learn from "
            "here: set it to 0"
        )
    if settings.patience is not None and validation is None:
        raise InputError("training.patience needs validation data to see an improvement on: leave it out")


def _course(
    data: TrainingSet,
    settings: TrainingSection,
    loss: LossFunction,
    teacher: nn.Module | None,
    epochs: float,
    on_progress: Callable[[int, int], None] | None,
    penalty: Callable[[], torch.Tensor] | None,
    frozen: Sequence[nn.Module],
) -> _Course:
    if len(data) == 0:
        raise InputError(f"{data.name} holds no images to train on")
    epoch_steps = steps_per_epoch(len(data), settings.batch_images)
    return _Course(
        data=data,
        settings=settings,
        loss=loss,
        teacher=teacher,
        batch_images=min(settings.batch_images, len(data)),
        epoch_steps=epoch_steps,
        steps=max(1, round(epochs * epoch_steps)),
        on_progress=on_progress,
        penalty=penalty,
        frozen=frozen,
    )


def _mixed(settings: TrainingSection, device: torch.device) -> bool:
    return settings.mixed_precision and device.type == "cuda"


def _train_epoch(course: _Course, parts: TrainingParts, first_step: int, steps: int) -> float:
    """Train for `steps` steps of one epoch and return their mean loss."""
    settings = course.settings
    if course.teacher is not None:
        course.teacher.eval()
    parts.network.train()
    for module in course.frozen:
        module.eval()
    total = 0.0
    unread: list[torch.Tensor] = []
    on_gpu = parts.device.type == "cuda"
    together = _STEPS_BETWEEN_CHECKS_ON_CUDA if on_gpu else 1
    batches = islice(iterate(course.data, settings.batch_images, parts.generator), steps)
    # On the CPU dropout and the user's transforms draw from the same generator: two threads would mix their order.
    for step, (inputs, labels) in enumerate(ahead(batches) if on_gpu else batches, start=first_step):
        inputs = augmented(inputs, course.data.layout, settings.shift_pixels, settings.flip, parts.generator)
        if inputs.dim() == 4 and course.data.layout == "NCHW":
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        set_rates(parts.optimizer, settings, step, course.steps)
        unread.append(_train_step(course, parts, inputs, labels))
        if len(unread) == together or step == first_step + steps - 1:
            values = torch.stack(unread).tolist()
            for index, value in enumerate(values, start=step + 1 - len(values)):
                _check_loss(value, course, index, parts.device)
            total += sum(values)
            unread.clear()
        if course.on_progress is not None:
            course.on_progress(step + 1, course.steps)
    return total / steps


def _train_step(course: _Course, parts: TrainingParts, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Change the weights once and return the loss before that, on the device."""
    settings, device = course.settings, parts.device
    inputs, targets = to_device(inputs, device), to_device(labels, device)
    with torch.autocast(device.type, torch.float16, enabled=_mixed(settings, device)):
        outputs = first_output(parts.network, inputs)
        if course.teacher is not None:
            with torch.no_grad():
                teacher_outputs = first_output(course.teacher, inputs)
    weight = 0.0 if course.teacher is None else settings.distillation_weight
    terms = []
    if weight < 1:  # else labels count for nothing, and there may be none
        if settings.loss == CROSS_ENTROPY:
            check_labels(outputs.shape, labels, course.data.name)
        terms.append((1 - weight) * course.loss(outputs, targets))
    if weight > 0:
        terms.append(weight * distillation(outputs, teacher_outputs, settings.distillation_temperature))
    loss = sum(terms[1:], terms[0])
    if course.penalty is not None:
        loss = loss + course.penalty()
    parts.optimizer.zero_grad()
    parts.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    parts.scaler.step(parts.optimizer)
    parts.scaler.update()
    return loss.detach()


def _check_loss(value: float, course: _Course, step: int, device: torch.device) -> None:
    if math.isfinite(value):
        return
    settings = course.settings
    rate = learning_rate(settings.schedule, settings.learning_rate, step, course.steps)
    also = ", or set training.mixed_precision = false" if _mixed(settings, device) else ""
    raise InputError(
        f"the loss is {value} in epoch {step // course.epoch_steps + 1}, step {step % course.epoch_steps + 1}, at "
        f"learning rate {rate:.3g}: lower training.learning_rate{also}"
    )


def _advanced(
    progress: Progress, patience: int | None, network: nn.Module, steps: int, loss: float, result: float | None
) -> Progress:
    """Return the progress after one more epoch, with the weights where they are the best so far and that matters."""
    after = replace(progress, steps=progress.steps + steps, losses=(*progress.losses, loss))
    if patience is None or result is None:
        return after
    if progress.best_score is None or result > progress.best_score:
        weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        return replace(after, best_score=result, best_weights=weights, epochs_without_gain=0)
    waited = progress.epochs_without_gain + 1
    return replace(after, epochs_without_gain=waited, stopped_early=waited >= patience)


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
