"""Two-step pruning of a project's network: every network that it makes becomes a registered variant."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, TypeAlias

from calibration.splitting.choose_cuts import choose_layers
from calibration.variants.open_pruning import open_pruning
from calibration.variants.variant_maker import LeftOut, VariantMaker
from exporter.layers.candidates import Layer
from exporter.layers.names import display_name
from exporter.progress import OnProgress, ignore, no_progress
from exporter.project.freshness import FORMAT, changed_inputs
from exporter.project.overrides import overridden
from exporter.project.settings import CriterionName, Project
from exporter.pruning.channel_groups import Groups, crossing_groups
from exporter.pruning.rounds import Trained
from exporter.pruning.step_one import Round, prune_whole
from exporter.pruning.step_two import Narrowed, Series, prune_series, series_of, train_controls
from exporter.shrinking.plan import read_shrink_plan
from exporter.variants.layer_graphs import LayerGraph, layer_graph
from exporter.variants.layer_graphs import variants as names_of
from exporter.variants.plans import ORIGINAL, PRUNED, STEP_ONE, bottleneck_of
from exporter.variants.record import VariantRecord, read_variant_record
from jetson.errors import InputError, UnsupportedError


@dataclass(frozen=True)
class PruneRequest:
    """What to prune, and how.

    `layers`: candidates of step 2, by any name that `coopexport layers` lists; without any the project's, or every
    clean cut. `step`: the last one to take. `series`: put before the variants' names, so that several prunings stand
    beside each other. `controls`: train step 1 on as long as step 2. `replace`: delete variants of another pruning.
    What is None is as `[prune]` and `[training]` say, whose keys the others are.
    """

    layers: tuple[str, ...] = ()
    step: Literal[1, 2] = 2
    series: str | None = None
    controls: bool = True
    replace: bool = False
    criterion: CriterionName | None = None
    normalisation: Literal["l2", "rank"] | None = None
    score_images: int | None = None
    removed_share: float | None = None
    epochs: float | None = None
    final_epochs: float | None = None
    maximum_loss_points: float | None = None
    least_left: float | None = None
    macs_reduction: float | None = None
    rounds: int | None = None
    widths: int | None = None
    step_two_epochs: float | None = None
    step_two_learning_rate: float | None = None
    learning_rate: float | None = None
    device: Literal["auto", "cpu", "cuda"] | None = None
    seed: int | None = None
    distillation_weight: float | None = None


@dataclass(frozen=True)
class PruneResult:
    """What pruning made.

    `rounds`: of step 1, the first before any pruning. `variants`: all that are there now, in the order in which they
    were made; `left_out`: candidate layers and variants that there are none of. Of the network before and after step 1:
    `macs_before`, `macs_after`, per sample; `score_before`, `score_after`, the metric on validation data.
    """

    rounds: tuple[Round, ...]
    variants: tuple[VariantRecord, ...]
    left_out: tuple[LeftOut, ...]
    macs_before: int
    macs_after: int
    score_before: float
    score_after: float


# What is told as it is done: rounds of step 1, variants, and what is left out.
Pruned: TypeAlias = Round | VariantRecord | LeftOut


def prune_project(
    project: Project,
    request: PruneRequest,
    on_progress: OnProgress = no_progress,
    on_result: Callable[[Pruned], None] | None = None,
    on_warning: Callable[[str], None] = ignore,
) -> PruneResult:
    """Prune a project's network in two steps (Shi et al. 2019) and register every variant.

    Step 1: `step1`, the whole network pruned. Step 2: `<layer>-<channels>` for each candidate layer, from step 1,
    narrower and narrower. Controls: `step1-control-<n>`, step 1 trained on as long as n widths of step 2, without
    pruning; they are for comparison, and split only where the user says. What an interrupted run has done is kept.
    `on_result` gets each round after the first, each variant, and what is left out, as it is done; `on_warning` what of
    an interrupted run is damaged, so that it is done anew. Raises CoopexportError when a setting is out of range, a
    layer does not exist or cannot be pruned although the request names it, data are missing, or variants of another
    pruning are in the way.
    """
    if request.step not in (1, 2):
        raise InputError(f"there is no step {request.step!r} of pruning; the last one to take is 1 or 2")
    settings = overridden(project.settings.prune, vars(request))
    training = overridden(project.settings.training, vars(request))
    graph = layer_graph(project, ORIGINAL)
    layers = (
        choose_layers(project, graph, request.layers, not request.layers, "post-activation")
        if request.step == 2
        else ()
    )
    _check_series(request.series)
    maker = open_pruning(project, request.series, settings, training, on_progress, on_warning)
    _make_room(maker, request.replace)
    variants: list[VariantRecord] = []
    left_out: list[LeftOut] = []

    def tell(found: Pruned) -> None:
        if isinstance(found, VariantRecord):
            variants.append(found)
        elif isinstance(found, LeftOut):
            left_out.append(found)
        if on_result is not None:
            on_result(found)

    first = prune_whole(maker.session, tell)
    since = first.trained.spent
    rounds = [asdict(one) for one in first.rounds]
    scores = {"score_before": first.score_before}
    tell(maker.register(STEP_ONE, ORIGINAL, "step1", first.trained, since, rounds=rounds, **scores))
    if request.step == 2:
        candidates = _candidates(maker, graph, layers, is_strict=bool(request.layers), tell=tell)
        _second_step(maker, first.trained, series_of(candidates), request.controls, tell)
    sizes = first.trained.dense.sizes()
    return PruneResult(
        first.rounds,
        tuple(variants),
        tuple(left_out),
        sum(size.macs_before for size in sizes),
        sum(size.macs_after for size in sizes),
        first.score_before,
        first.trained.score,
    )


def _second_step(
    maker: VariantMaker, first: Trained, series: Sequence[Series], controls: bool, tell: Callable[[Pruned], None]
) -> None:
    """Prune, from what step 1 left, the candidates of each series to their widths; then train the controls."""
    session = replace(maker.session, made_from=maker.step_two)
    since, most = first.spent, 0
    for one in series:
        made: list[Narrowed] = []
        parents = [STEP_ONE]

        def on_width(
            narrowed: Narrowed, series: Series = one, made: list[Narrowed] = made, parents: list[str] = parents
        ) -> None:
            suffix = f"{series.layers[0]}-{narrowed.channels}"
            made.append(narrowed)
            found = maker.register(
                suffix, maker.name(parents[-1]), "step2", narrowed.trained, since, cuts=series.layers,
                layer=series.layers[0], width=narrowed.channels,
            )  # fmt: skip
            tell(found)
            if isinstance(found, VariantRecord):
                parents.append(suffix)

        prune_series(session, first, one, on_width)
        most = max(most, len(made))

    def on_control(number: int, trained: Trained) -> None:
        suffix = f"{STEP_ONE}-control-{number}"
        tell(maker.register(suffix, maker.name(STEP_ONE), "control", trained, since, cuts=(), number=number))

    if controls and most:
        train_controls(session, first, most, on_control)


def _check_series(name: str | None) -> None:
    """Raise InputError when a series cannot begin the name of a folder."""
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._]*", name):
        raise InputError(f'series "{name}" cannot begin the name of a folder: use letters, digits, "." and "_"')


def _make_room(maker: VariantMaker, may_replace: bool) -> None:
    """Remove variants of another pruning with the same names; raises CoopexportError unless that `may` be done."""
    others, changed = [], dict[str, None]()
    for name in names_of(maker.project):
        if name in (ORIGINAL, PRUNED) or bottleneck_of(maker.project, name) is not None:
            continue
        folder = maker.project.variant_folder(name)
        record, plan = read_variant_record(folder), read_shrink_plan(folder)
        now = maker.made_from(record.step)
        different = changed_inputs(plan.made_from, now) if FORMAT in plan.made_from else ("version of coopexport",)
        if record.series == maker.series and different:
            others.append(name)
            changed.update(dict.fromkeys(different))
    if others and not may_replace:
        listed = ", ".join(others[:3]) + ", ..." * (len(others) > 3)
        raise InputError(
            f"there are variants of another pruning ({listed}; other {', '.join(changed)}): pass --series NAME to have "
            "this one beside them, or --replace to delete them"
        )
    for name in others:
        shutil.rmtree(maker.project.variant_folder(name))


def _candidates(
    maker: VariantMaker, graph: LayerGraph, layers: Sequence[Layer], is_strict: bool, tell: Callable[[LeftOut], None]
) -> list[tuple[str, Groups]]:
    """Return the name of each candidate layer and the groups that cross there.

    Those that cannot be pruned are left out; with `is_strict` CoopexportError is raised.
    """
    candidates = []
    for layer in layers:
        name = display_name(graph.layers, layer)
        try:
            crossing = crossing_groups(maker.session.groups, (layer.name, *layer.aliases))
            if not (crossing >= 0).any():
                raise UnsupportedError(f"no channel that crosses after '{name}' can be removed", layer=name)
        except UnsupportedError as error:
            if is_strict:
                raise
            tell(LeftOut(name, str(error)))
            continue
        candidates.append((name, crossing))
    return candidates
