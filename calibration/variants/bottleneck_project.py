"""Bottlenecks for a project's network: at each cut the strongest within the bound, all on the front registered."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from calibration.splitting.choose_cuts import check_where, choose_layers
from calibration.variants.bottleneck_variant import FITTED_SYMBOLS, register_bottleneck
from calibration.variants.open_pruning import evaluator
from calibration.variants.register import Evaluation, open_evaluation
from calibration.variants.variant_maker import LeftOut
from exporter.bottleneck.insert import find_place
from exporter.bottleneck.plan import (
    SCHEMA,
    read_bottleneck,
)
from exporter.bottleneck.search import Search, find_strongest
from exporter.bottleneck.training import Lesson, TrainedBottleneck, symbols_of_data
from exporter.bottleneck.trials import Trial
from exporter.layers.candidates import Layer
from exporter.layers.names import display_name
from exporter.onnx_graphs.session import open_session, run
from exporter.progress import OnProgress, ignore, no_progress
from exporter.project.freshness import FORMAT, changed_inputs, digest, recorded
from exporter.project.inputs import project_inputs
from exporter.project.overrides import overridden
from exporter.project.settings import BottleneckSection, Project, TrainingSection
from exporter.training.training_set import (
    TrainingSet,
    load_training_set,
    load_unlabelled,
    load_validation,
    with_validation,
)
from exporter.variants.layer_graphs import LayerGraph, example_inputs, layer_graph
from exporter.variants.plans import ORIGINAL, bottleneck_of, load_variant, parent_inputs
from exporter.variants.record import VariantRecord
from jetson.errors import DamagedFileError, InputError, ParityError, StaleError, UnsupportedError

# Settings that decide what one training does; its task says the rest.
_OF_A_TRAINING = ("feature_weight", "distillation_weight", "tail", "learning_rate")


@dataclass(frozen=True)
class BottleneckRequest:
    """Where to put bottlenecks, and how far to go.

    `variant`: the network that gets them; `layers`: to put one behind each of, by any name that `coopexport layers`
    lists; or `all_layers`: the project's candidates, or every clean cut. `replace`: delete bottlenecks of other
    settings or data at these layers. What is None is as `[bottleneck]` and `[training]` say, whose keys the others are.
    """

    layers: tuple[str, ...] = ()
    all_layers: bool = False
    variant: str = ORIGINAL
    replace: bool = False
    maximum_loss_points: float | None = None
    trainings: int | None = None
    stride: Literal[1, 2, 4] | None = None
    channels: int | None = None
    bits: int | None = None
    rate_weight: float | None = None
    tail: Literal["fine-tuned", "frozen"] | None = None
    first_epochs: float | None = None
    epochs: float | None = None
    device: Literal["auto", "cpu", "cuda"] | None = None
    seed: int | None = None


@dataclass(frozen=True)
class TriedBottleneck:
    """One training of a search. `loss_points`: of the metric, on validation data, against the parent."""

    layer: str
    number: int
    stride: int
    channels: int
    bits: int
    rate_weight: float
    estimated_bytes: float
    loss_points: float
    holds: bool


@dataclass(frozen=True)
class BottleneckResult:
    """What was made: the variants on the front of each layer, from most bytes to fewest, and what was left out."""

    variants: tuple[VariantRecord, ...]
    left_out: tuple[LeftOut, ...]


# What is told as it is done.
Bottlenecked: TypeAlias = TriedBottleneck | VariantRecord | LeftOut


def bottleneck_project(
    project: Project,
    request: BottleneckRequest,
    on_progress: OnProgress = no_progress,
    on_result: Callable[[Bottlenecked], None] | None = None,
    on_warning: Callable[[str], None] = ignore,
) -> BottleneckResult:
    """Search bottlenecks for the cuts of a variant and register those that no other beats in bytes and metric.

    `<layer>-bottleneck-<n>` (behind the variant's name and "-", unless that is the original) can be split, benchmarked
    and selected like any variant. What an interrupted search has done is kept. `on_result` gets each training, each
    variant, and what is left out, as it is done. Raises CoopexportError when a setting is out of range, a layer does
    not exist, has no clean cut, cannot be reduced or nothing keeps the bound there although the request names it, data
    are missing, or other bottlenecks are in the way.
    """
    check_where(request.layers, request.all_layers)
    tell = on_result or ignore
    if bottleneck_of(project, request.variant) is not None:
        raise InputError(f"variant {request.variant} has a bottleneck already", fix="name the variant without it")
    graph = layer_graph(project, request.variant)
    layers = choose_layers(project, graph, request.layers, request.all_layers, "post-activation")
    opened = _open(project, request, graph, on_progress, on_warning)
    made: list[VariantRecord] = []
    left_out: list[LeftOut] = []
    for layer in layers:
        try:
            made += _bottlenecks_at(opened, layer, request.replace, tell)
        except (UnsupportedError, ParityError) as error:
            if not request.all_layers:
                raise
            left_out.append(LeftOut(display_name(graph.layers, layer), str(error)))
            tell(left_out[-1])
    return BottleneckResult(tuple(made), tuple(left_out))


@dataclass(frozen=True)
class _Opened:
    """What the searches at all layers share, loaded once."""

    project: Project
    variant: str
    graph: LayerGraph
    parent: torch.nn.Module
    inputs: torch.Tensor
    data: TrainingSet
    validation: TrainingSet
    parent_score: float
    evaluate: Callable[[torch.nn.Module], float]
    evaluation: Evaluation
    settings: BottleneckSection
    training: TrainingSection
    inputs_made_from: dict[str, str]
    on_progress: OnProgress
    on_warning: Callable[[str], None]

    @property
    def made_from(self) -> dict[str, str]:
        """Return what the variants are made from."""
        return {**self.inputs_made_from, "bottleneck settings": digest(self.settings.model_dump(mode="json"))}

    @property
    def trained_from(self) -> dict[str, str]:
        """Return what a training is made from: a search with another bound, or a longer one, takes what is there."""
        settings = self.settings.model_dump(mode="json", include=set(_OF_A_TRAINING))
        return {**self.inputs_made_from, "bottleneck settings": digest(settings)}


def _open(
    project: Project,
    request: BottleneckRequest,
    graph: LayerGraph,
    on_progress: OnProgress,
    on_warning: Callable[[str], None],
) -> _Opened:
    settings = overridden(project.settings.bottleneck, vars(request))
    training = overridden(project.settings.training, vars(request))
    parent = load_variant(project, request.variant)
    if project.settings.data.unlabelled is None:
        data, validation = with_validation(project, load_training_set(project))
    else:  # the outputs and the feature without a bottleneck are all there is to learn from
        data, validation = load_unlabelled(project), load_validation(project)
        settings = settings.model_copy(update={"distillation_weight": 1.0})
    evaluate = evaluator(project, validation, training)
    names = (
        "network code",
        "model settings",
        "preprocessing",
        "training data",
        "unlabelled data",
        "validation data",
        "metric",
        "loss",
    )
    now = project_inputs(project, *names)
    made_from = recorded(
        {
            **parent_inputs(project, request.variant),
            **now,
            "validation data": now["validation data"] or digest("a share of the training data"),
            "training settings": digest(training.model_dump(mode="json")),
        }
    )
    return _Opened(
        project, request.variant, graph, parent, torch.from_numpy(example_inputs(project)), data, validation,
        evaluate(parent), evaluate, open_evaluation(project), settings, training, made_from, on_progress, on_warning,
    )  # fmt: skip


def _bottlenecks_at(
    opened: _Opened, layer: Layer, replace: bool, tell: Callable[[Bottlenecked], None]
) -> list[VariantRecord]:
    """Search at one layer and register what was found; raises CoopexportError when nothing was."""
    project, name = opened.project, display_name(opened.graph.layers, layer)
    if not layer.clean:
        raise UnsupportedError(
            f'layer "{layer.name}": more than one tensor crosses there; a bottleneck needs a clean cut',
            layer=layer.name,
            fix="`coopexport layers` lists them",
        )
    prefix = f"{name}-bottleneck-" if opened.variant == ORIGINAL else f"{opened.variant}-{name}-bottleneck-"
    others = _of_other_settings(opened, prefix, replace)
    place = find_place(opened.parent, opened.inputs, name, _feature(opened.graph, layer, opened.inputs.numpy()))
    folder = project.output / "bottlenecks" / opened.variant / name
    folder.mkdir(parents=True, exist_ok=True)
    lesson = Lesson(
        opened.parent, opened.inputs, place, opened.data, opened.settings, opened.training, folder, project.folder,
        lambda label, done, total: opened.on_progress(f"{name} {label}", done, total), opened.on_warning,
    )  # fmt: skip

    def judge(trained: TrainedBottleneck) -> tuple[float, float]:
        symbols = symbols_of_data(trained.made, trained.quantiser, opened.validation, opened.training, FITTED_SYMBOLS)
        bits = trained.quantiser.estimated_bits(symbols)
        return opened.evaluate(trained.made.graph_module), float(bits.double().mean()) / 8

    def on_trial(trial: Trial, loss_points: float, holds: bool) -> None:
        design = trial.task.design
        tell(
            TriedBottleneck(
                name, trial.number, design.stride, design.channels, design.bits, trial.task.rate_weight,
                trial.estimated_bytes, loss_points, holds,
            )
        )  # fmt: skip

    search = Search(lesson, opened.trained_from, opened.parent_score, judge, on_trial)
    found = []
    strongest = find_strongest(search)
    for other in others:
        shutil.rmtree(other)
    for number, trial in enumerate(strongest, start=1):
        record = register_bottleneck(
            project, f"{prefix}{number}", opened.variant, lesson, trial, opened.made_from, opened.evaluation
        )
        found.append(record)
        tell(record)
    return found


def _of_other_settings(opened: _Opened, prefix: str, may_replace: bool) -> list[Path]:
    """Return the folders of bottlenecks made from other data or settings; raises InputError unless they may go."""
    project, others = opened.project, []
    folders = [folder for folder in project.output.glob(f"{prefix}*") if folder.name[len(prefix) :].isdigit()]
    for folder in folders:
        try:
            different = changed_inputs(read_bottleneck(folder).made_from, {**opened.made_from, FORMAT: SCHEMA})
        except (StaleError, DamagedFileError):
            different = ("plan",)
        if different and not may_replace:
            raise InputError(
                f"there are bottlenecks from other {', '.join(different)} ({folder.name}): pass --replace to delete "
                "them"
            )
        if different:
            others.append(folder)
    return others


def _feature(graph: LayerGraph, layer: Layer, inputs: NDArray[np.float32]) -> NDArray[Any]:
    """Return what the tensor at `layer` holds for `inputs`, by ONNX Runtime."""
    model = graph.load()
    if all(value.name != layer.tensor for value in model.graph.output):
        model.graph.output.append(onnx.ValueInfoProto(name=layer.tensor))
    names = [value.name for value in model.graph.output]
    outputs = run(open_session(model, "disabled", weights_folder=graph.folder), [inputs])
    return outputs[names.index(layer.tensor)]
