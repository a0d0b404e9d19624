"""Two-step pruning of a project's network: every network that it makes becomes a registered variant."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from calibration.metrics import metric
from calibration.variants.register import open_evaluation
from calibration.variants.variant_maker import Listener, PruneRequest, VariantMaker
from exporter.layers.names import display_name
from exporter.project.checkpoint import load_network
from exporter.project.settings import Project, TrainingSection
from exporter.project.user_code import find_source
from exporter.pruning.channel_groups import channel_groups, crossing_groups
from exporter.pruning.dense_network import state_of
from exporter.pruning.rounds import Trained
from exporter.pruning.step_one import StepOne, prune_whole
from exporter.pruning.step_two import Narrowed, Series, prune_series, series_of, train_controls
from exporter.pruning.work import PruningWork
from exporter.tracing.trace import copied, run_network
from exporter.training.devices import choose_device
from exporter.training.losses import load_loss
from exporter.training.placement import memory_named, thread_count
from exporter.training.random_state import seeded
from exporter.training.training_set import TrainingSet, load_training_set, with_validation
from exporter.variants.layer_graphs import ORIGINAL, PRUNED, STEP_ONE, example_inputs, layer_graph, variants
from exporter.variants.record import read_variant_record
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes, sha256_of_file
from jetson.runtime import preprocessing

_OF_STEP_TWO = ("widths", "step_two_epochs", "step_two_learning_rate")


def check_series(name: str | None) -> None:
    """Raise CoopexportError when a series cannot begin the name of a folder."""
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._]*", name):
        raise CoopexportError(f'series "{name}" begins the names of folders: use letters, digits, "." and "_"')


def prune_two_step(project: Project, request: PruneRequest, listener: Listener) -> StepOne:
    """Prune a project's network in two steps (Shi et al. 2019) and register every variant.

    Step 1: `step1`, the whole network pruned. Step 2: `<layer>-<channels>` for each candidate layer, from step 1,
    narrower and narrower. Controls: `step1-control-<n>`, step 1 trained on as long as n widths of step 2, without
    pruning; they are for comparison, and split only where the user says. What an interrupted run has done is kept.
    Raises CoopexportError.
    """
    check_series(request.series)
    maker = _open(project, request, listener)
    _make_room(maker)
    first = prune_whole(maker.work, listener.on_round)
    work = replace(maker.work, recipe=maker.recipe_of_step_two)
    since = first.trained.spent
    rounds = [asdict(one) for one in first.rounds]
    maker.register(STEP_ONE, ORIGINAL, "step1", first.trained, since, rounds=rounds, score_before=first.score_before)

    def on_control(number: int, trained: Trained) -> None:
        suffix = f"{STEP_ONE}-control-{number}"
        maker.register(suffix, maker.name(STEP_ONE), "control", trained, since, cuts=(), number=number)

    most = 0
    for series in _series(maker):
        made: list[Narrowed] = []
        parents = [STEP_ONE]

        def on_width(
            narrowed: Narrowed, series: Series = series, made: list[Narrowed] = made, parents: list[str] = parents
        ) -> None:
            suffix = f"{series.layers[0]}-{narrowed.channels}"
            made.append(narrowed)
            if maker.register(
                suffix, maker.name(parents[-1]), "step2", narrowed.trained, since, cuts=series.layers,
                layer=series.layers[0], width=narrowed.channels,
            ):  # fmt: skip
                parents.append(suffix)

        prune_series(work, first.trained, series, on_width)
        most = max(most, len(made))
    if request.controls and most:
        train_controls(work, first.trained, most, on_control)
    return first


def _make_room(maker: VariantMaker) -> None:
    """Remove variants of another pruning with the same names, if that was asked for; raises CoopexportError if not."""
    others = []
    for name in variants(maker.project):
        if name in (ORIGINAL, PRUNED):
            continue
        record = read_variant_record(maker.project.variant_folder(name))
        if record.series == maker.request.series and record.method.get("recipe_sha256") != maker.recipe(record.step):
            others.append(name)
    if others and not maker.request.replace:
        listed = ", ".join(others[:3]) + ", ..." * (len(others) > 3)
        raise CoopexportError(
            f"there are variants of another pruning ({listed}): pass --series NAME to have this one beside them, or "
            "--replace to delete them"
        )
    for name in others:
        shutil.rmtree(maker.project.variant_folder(name))


def _series(maker: VariantMaker) -> tuple[Series, ...]:
    """Return the series of all candidates; those that cannot be pruned are left out, unless they were asked for."""
    graph = layer_graph(maker.project, ORIGINAL)
    candidates = []
    for layer in maker.request.layers:
        name = display_name(graph.layers, layer)
        try:
            crossing = crossing_groups(maker.work.groups, (layer.name, *layer.aliases))
            if not (crossing >= 0).any():
                raise CoopexportError(f"nothing of what crosses after '{name}' can be removed")
        except CoopexportError as error:
            if maker.request.named:
                raise
            maker.listener.on_skipped(name, str(error))
            continue
        candidates.append((name, crossing))
    return series_of(candidates)


def _open(project: Project, request: PruneRequest, listener: Listener) -> VariantMaker:
    model, training = project.settings.model, request.training
    settings = request.settings.model_dump(mode="json")
    checkpoint = project.path(model.checkpoint)
    network = load_network(model.factory, model.arguments, checkpoint, project.folder)
    inputs = torch.from_numpy(example_inputs(project))
    data, validation = with_validation(project, load_training_set(project))
    checkpoint_sha256 = sha256_of_file(str(checkpoint))
    code = find_source(model.factory, project.folder)
    recipe = {
        "schema": "coopexport.pruning/1.0",
        "checkpoint": checkpoint_sha256,
        "factory": [model.factory, model.arguments, None if code is None else sha256_of_file(str(code))],
        "preprocessing": preprocessing.to_json(project.preprocessing),
        "prune": {key: value for key, value in settings.items() if key not in _OF_STEP_TWO},
        "training": training.model_dump(mode="json"),
        "data": [data.sha256(), validation.sha256()],
        "metric": project.settings.data.metric,
        "series": request.series,
    }
    own = {"step1": recipe, "prune": {key: settings[key] for key in _OF_STEP_TWO}}
    folder = project.output / "pruning" / (request.series or "two-step")
    folder.mkdir(parents=True, exist_ok=True)
    work = PruningWork(
        groups=channel_groups(copied(network), inputs),
        base=state_of(network),
        data=data,
        judge=_judge(project, validation, training),
        loss=load_loss(training, project.folder),
        training=training,
        settings=request.settings,
        teacher=network if training.distillation_weight > 0 else None,
        recipe=_sha256(recipe),
        folder=folder,
        project_folder=project.folder,
        on_start=listener.on_start,
        on_progress=listener.on_progress,
        validation=validation,
    )
    evaluation = open_evaluation(project)
    return VariantMaker(project, request, work, _sha256(own), evaluation, inputs, checkpoint_sha256, listener)


def _sha256(recipe: dict[str, Any]) -> str:
    return sha256_of_bytes(json.dumps(recipe, sort_keys=True).encode())


def _judge(project: Project, data: TrainingSet, training: TrainingSection) -> Callable[[nn.Module], float]:
    """Return a function that gives a network's metric on `data`, in eval mode."""
    chosen = metric.load_metric(project)
    device = choose_device(training.device)
    at_once = training.batch_images

    def judge(network: nn.Module) -> float:
        outputs, labels = [], []
        with memory_named(at_once), thread_count(training.threads), seeded(training.seed, device):
            try:
                network.eval().to(device)
                for start in range(0, len(data), at_once):
                    indices = np.arange(start, min(start + at_once, len(data)))
                    batch = torch.from_numpy(data.inputs(indices)).to(device)
                    outputs.append(run_network(network, batch)[0].cpu().numpy())
                    labels.append(data.labels(indices))  # of the samples that were just read
            finally:
                network.to("cpu")
        return metric.score(chosen, np.concatenate(outputs), np.concatenate(labels)).value

    return judge
