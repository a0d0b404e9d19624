"""Train a network with a bottleneck: for its outputs, for those of the network before, and for few bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from exporter.bottleneck.design import REDUCTION, BottleneckDesign
from exporter.bottleneck.insert import QUANTISER, RECOVERY, BottleneckNetwork, Place, insert, tapped
from exporter.bottleneck.quantiser import Quantiser
from exporter.progress import OnProgress, ignore, no_progress
from exporter.project.settings import BottleneckSection, TrainingSection
from exporter.tracing.trace import Inputs, eval_mode
from exporter.training.batches import iterate
from exporter.training.fit import FitResult, fit
from exporter.training.placement import thread_count
from exporter.training.training_set import TrainingSet


@dataclass(frozen=True)
class Lesson:
    """What a network with a bottleneck is trained with, and from.

    `parent`: the network without one, which is also what it learns from; `place`: where the bottleneck goes. `folder`:
    for what an interrupted training goes on from; `project_folder`: where training.loss is looked for.
    """

    parent: nn.Module
    inputs: Inputs
    place: Place
    data: TrainingSet
    settings: BottleneckSection
    training: TrainingSection
    folder: Path
    project_folder: Path
    on_progress: OnProgress = no_progress
    on_warning: Callable[[str], None] = ignore


@dataclass(frozen=True)
class Task:
    """One training. `design`, `rate_weight`: what to reach, the loss per bit of a sample; `epochs` above 0."""

    design: BottleneckDesign
    rate_weight: float
    epochs: float
    seed: int


@dataclass(frozen=True)
class TrainedBottleneck:
    """A network with a bottleneck as training left it, in eval mode, rounding inside, and what that took."""

    made: BottleneckNetwork
    quantiser: Quantiser
    result: FitResult


def new_bottleneck(lesson: Lesson, task: Task) -> tuple[BottleneckNetwork, Quantiser]:
    """Return the parent with a bottleneck that has learned nothing yet; its first weights are those of `task.seed`."""
    quantiser = Quantiser(task.design.bits, task.design.channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.seed)
        return insert(lesson.parent, lesson.inputs, lesson.place, task.design, quantiser), quantiser


@dataclass(frozen=True)
class Start:
    """What a training begins with: weights of another one, counts included, and the design that they are of."""

    design: BottleneckDesign
    weights: Mapping[str, torch.Tensor]


def train(lesson: Lesson, task: Task, recipe: str, label: str, start: Start | None = None) -> TrainedBottleneck:
    """Train a bottleneck, from `start` as far as its weights fit; raises CoopexportError as `fit` does.

    Loss: (1 - w) cross entropy (or the user's) + w distillation from the parent's outputs, plus the squared distance
    from the parent's feature over its variance, times `feature_weight`, plus bits of a sample, times the task's rate
    weight. Killed, it goes on from its last whole epoch where `recipe` is the same; `label`: what its progress says.
    """
    made, quantiser = new_bottleneck(lesson, task)
    settings = lesson.settings
    if start is not None:
        _begin_with(made, task.design, start)
    frozen = _freeze_tail(made) if settings.tail == "frozen" else ()
    teacher, tap = tapped(lesson.parent, lesson.inputs, lesson.place)
    # A search judges each training when it is done: none stops early.
    own = {"distillation_weight": settings.distillation_weight, "patience": None}
    training = lesson.training.model_copy(update=own)
    if settings.learning_rate is not None:
        training = training.model_copy(update={"learning_rate": settings.learning_rate})
    kept: list[torch.Tensor] = []
    hook = made.recovery.register_forward_hook(lambda _module, _inputs, output: kept.append(output))

    def penalty() -> torch.Tensor:
        recovered = kept.pop()
        kept.clear()
        assert quantiser.sample_bits is not None
        total = task.rate_weight * quantiser.sample_bits
        if tap.passed is None:  # nothing is learned from the parent
            return total
        wanted = tap.passed.float()
        distance = nn.functional.mse_loss(recovered.float(), wanted) / wanted.var().clamp(min=1e-12)
        return total + settings.feature_weight * distance

    try:
        result = fit(
            made.graph_module,
            lesson.data,
            training,
            epochs=task.epochs,
            seed=task.seed,
            teacher=teacher,
            state_file=lesson.folder / f"{label}.state",
            recipe=recipe,
            on_progress=lambda done, total: lesson.on_progress(label, done, total),
            on_warning=lesson.on_warning,
            folder=lesson.project_folder,
            penalty=penalty,
            frozen=frozen,
        )
    finally:
        hook.remove()
    return TrainedBottleneck(made, quantiser, result)


def _begin_with(made: BottleneckNetwork, design: BottleneckDesign, start: Start) -> None:
    """Copy the weights that fit; where fewer channels cross than before, those that the recovery weighs most."""
    own = made.graph_module.state_dict()
    reading = f"{RECOVERY}.0.weight"
    # A transposed convolution, which a stride needs, has the channels that it reads in its first dimension.
    place = 0 if start.design.stride > 1 else 1
    strongest = start.weights[reading].transpose(0, place).flatten(1).norm(dim=1).argsort(descending=True)
    kept = strongest[: design.channels].sort().values
    dimensions = {name: 0 for name in own if name.startswith((f"{REDUCTION}.", f"{QUANTISER}."))}
    dimensions[reading] = place
    is_same_kind = (design.stride > 1) == (start.design.stride > 1)
    fitting = {}
    for name, value in own.items():
        given = start.weights[name]
        if name in dimensions:
            given = given.index_select(dimensions[name], kept)
        fits = given.shape == value.shape and (name != reading or is_same_kind)
        fitting[name] = given if fits else value
    made.graph_module.load_state_dict(fitting)


def _freeze_tail(made: BottleneckNetwork) -> tuple[nn.Module, ...]:
    """Let training leave the edge's side alone, and return its modules, whose statistics stay, too."""
    module = made.graph_module
    for name, parameter in module.named_parameters():
        if any(name == target or name.startswith(f"{target}.") for target in made.tail):
            parameter.requires_grad_(False)
    modules = dict(module.named_modules())
    return tuple(modules[target] for target in made.tail if target in modules)


def symbols_of_data(
    made: BottleneckNetwork, quantiser: Quantiser, data: TrainingSet, training: TrainingSection, most: int
) -> torch.Tensor:
    """Return the symbols of the first images of `data`, `most` or a batch more, N x shape, uint8, on the CPU."""
    found: list[torch.Tensor] = []
    hook = made.bound.register_forward_hook(
        lambda _module, _inputs, output: found.append(quantiser.symbols(output).to(torch.uint8))
    )
    try:
        with torch.no_grad(), thread_count(training.threads), eval_mode(made.graph_module):
            for inputs, _ in iterate(data, training.batch_images, None):
                made.graph_module(inputs)
                if sum(one.numel() for one in found) >= most:
                    break
    finally:
        hook.remove()
    return torch.cat(found)
