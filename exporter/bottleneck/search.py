"""The strongest reduction that keeps the metric, found in a few trainings, each from the last one that kept it.

As in BBNet (Zhou et al. 2021) the bound on accuracy decides. A grid over stride, channels, bits and rate weight would
take a training for every point; here each training changes one of them and begins with what the last one learned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod

from exporter.bottleneck.design import STRIDES, BottleneckDesign, check_design
from exporter.bottleneck.insert import Place
from exporter.bottleneck.training import Lesson, Start, Task, TrainedBottleneck, train
from exporter.bottleneck.trials import Trial, lineage_of, read_trial, write_trial
from exporter.bundles.accuracy_bound import keeps_bound
from exporter.project.freshness import MadeFrom, digest
from exporter.project.settings import BottleneckSection
from jetson.errors import ParityError, UnsupportedError

# A change that saves less than this share of the bytes is not worth another training like it.
_LEAST_SAVED = 0.03
_MOST_BITS_TO_BEGIN_WITH = 4


@dataclass(frozen=True)
class Search:
    """What a search works with.

    `made_from`: what all its trainings are made from, bound and number aside. `parent_score`: the metric of the
    network without a bottleneck on validation data; `judge` returns that of a trained one on the same data, and the
    bytes of its symbols by what training counted.
    """

    lesson: Lesson
    made_from: MadeFrom
    parent_score: float
    judge: Callable[[TrainedBottleneck], tuple[float, float]]
    on_trial: Callable[[Trial, float, bool], None]

    def loss_points(self, trial: Trial) -> float:
        """Return how many points of the metric a trial costs on validation data."""
        return 100.0 * (self.parent_score - trial.score)

    def holds(self, trial: Trial) -> bool:
        """Tell whether a trial keeps the bound."""
        return keeps_bound(self.loss_points(trial), self.lesson.settings.maximum_loss_points)


def find_strongest(search: Search) -> tuple[Trial, ...]:
    """Return the trials within the bound that no other beats in bytes and metric, from most bytes to fewest.

    Raises CoopexportError when a feature cannot be reduced, and, naming the nearest trial, when none keeps the bound.
    """
    settings, place = search.lesson.settings, search.lesson.place
    trials: list[Trial] = []
    task = Task(first_design(settings, place), 0.0, settings.first_epochs, search.lesson.training.seed)
    best = _tried(search, task, None, trials)
    while not search.holds(best):
        wider = roomier(best.task.design, place)
        if wider is None or len(trials) >= settings.trainings:
            raise _nothing_holds(search, trials)
        best = _tried(search, replace(best.task, design=wider, epochs=settings.epochs), best, trials)
    moves = ["rate", "channels", "bits", "stride"]
    while moves and len(trials) < settings.trainings:
        following = changed(best.task, moves[0], settings, place)
        if following is None:
            del moves[0]
            continue
        tried = _tried(search, following, best, trials)
        saved = 1 - tried.estimated_bytes / best.estimated_bytes
        if search.holds(tried) and saved >= _LEAST_SAVED:
            best = tried
            moves.append(moves.pop(0))
        else:
            del moves[0]
    return front([trial for trial in trials if search.holds(trial)])


def first_design(settings: BottleneckSection, place: Place) -> BottleneckDesign:
    """Return what a search begins with: the settings', or a quarter of the channels at a stride that the feature has.

    Raises CoopexportError when the feature cannot be reduced.
    """
    shape = place.shape
    stride = max(one for one in STRIDES if one <= min(settings.stride, min(shape[1:], default=1)))
    channels = settings.channels or max(1, shape[0] // 4)
    design = BottleneckDesign(stride, channels, settings.bits)
    check_design(design, shape, place.layer)
    return design


def roomier(design: BottleneckDesign, place: Place) -> BottleneckDesign | None:
    """Return the next weaker design, for one that loses too much: more bits, more channels, a smaller stride."""
    options = []
    if design.bits < _MOST_BITS_TO_BEGIN_WITH:
        options.append(replace(design, bits=design.bits + 1))
    if 2 * design.channels <= place.shape[0]:
        options.append(replace(design, channels=2 * design.channels))
    if design.stride > 1:
        options.append(replace(design, stride=design.stride // 2))
    return next((one for one in options if prod(one.shape(place.shape)) < prod(place.shape)), None)


def changed(task: Task, move: str, settings: BottleneckSection, place: Place) -> Task | None:
    """Return a training for fewer bytes, one thing changed; None where that cannot be changed any further."""
    design, rate = task.design, task.rate_weight
    smaller: BottleneckDesign | None = design
    if move == "rate":
        rate = 2 * rate if rate else settings.rate_weight
    elif move == "channels":
        smaller = replace(design, channels=design.channels // 2) if design.channels > 1 else None
    elif move == "bits":
        smaller = replace(design, bits=design.bits - 1) if design.bits > 1 else None
    else:
        fits = 2 * design.stride in STRIDES and 2 * design.stride <= min(place.shape[1:], default=1)
        smaller = replace(design, stride=2 * design.stride) if fits else None
    return None if smaller is None else Task(smaller, rate, settings.epochs, task.seed + 1)


def front(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Return the trials that no other beats in both bytes and metric, from most bytes to fewest."""
    found: list[Trial] = []
    for trial in sorted(trials, key=lambda one: (one.estimated_bytes, -one.score, one.number)):
        if not found or trial.score > found[-1].score:
            found.append(trial)
    return tuple(reversed(found))


def _tried(search: Search, task: Task, start: Trial | None, trials: list[Trial]) -> Trial:
    """Return the trial of `task`, trained now or read, and add it to `trials`."""
    lesson, number = search.lesson, len(trials) + 1
    path = lesson.folder / f"trial-{number}.safetensors"
    lineage = lineage_of(task, start)
    trial = read_trial(path, lineage, search.made_from)
    if trial is None:
        recipe = digest([dict(search.made_from), lineage, lesson.place.layer])
        label = f"trial-{number}"
        trained = train(lesson, task, recipe, label, None if start is None else Start(start.task.design, start.weights))
        score, estimated_bytes = search.judge(trained)
        weights = trained.made.graph_module.state_dict()
        result = trained.result
        trial = Trial(number, task, lineage, score, estimated_bytes, result.images, result.seconds, weights)
        write_trial(path, trial, search.made_from)
        (lesson.folder / f"{label}.state").unlink(missing_ok=True)
    trials.append(trial)
    search.on_trial(trial, search.loss_points(trial), search.holds(trial))
    return trial


def _nothing_holds(search: Search, trials: Sequence[Trial]) -> UnsupportedError | ParityError:
    nearest = max(trials, key=lambda one: one.score)
    design, loss = nearest.task.design, search.loss_points(nearest)
    layer, bound = search.lesson.place.layer, search.lesson.settings.maximum_loss_points
    return ParityError(
        f'layer "{layer}": no bottleneck keeps the bound of {bound:g} points; the nearest of {len(trials)} '
        f"({design.channels} channels, stride {design.stride}, {design.bits} bits, {nearest.estimated_bytes:.1f} "
        f"bytes) loses {loss:.2f}",
        layer=layer,
        number=loss,
        fix="raise --max-drop, --epochs or --trainings, or cut later",
    )
