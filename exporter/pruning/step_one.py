"""Step 1: prune the whole network for computation, a few filters at a time, training in between (Shi et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from exporter.bundles.accuracy_bound import keeps_bound
from exporter.project.settings import PruneSection
from exporter.pruning.dense_network import DenseNetwork, State, fewest_to, without_groups
from exporter.pruning.ranking import least_filters, remove_least
from exporter.pruning.rounds import Spent, Trained, trained_round
from exporter.pruning.session import PruningSession, Tuning, fresh_copy, score_groups
from jetson.errors import InputError, ParityError


@dataclass(frozen=True)
class Round:
    """One round of step 1: what was left, how good it was, and what training it has had since the beginning.

    `score`: on validation data; `stopped`: why it was the last one, or nothing.
    """

    number: int
    filters: int
    macs: int
    score: float
    spent: Spent
    stopped: str = ""


@dataclass(frozen=True)
class StepOne:
    """What step 1 leaves, its rounds, and what the unpruned network scored on validation data."""

    trained: Trained
    rounds: tuple[Round, ...]
    score_before: float


def prune_whole(session: PruningSession, on_round: Callable[[Round], None]) -> StepOne:
    """Prune the whole network until the validation score falls too low, or little enough is left.

    In every round `removed_share` of all filters go, those with the smallest scores anywhere, or, with `rounds`, as
    many as make the MACs fewer by the same factor; and what is left is fine-tuned. The result is the last round whose
    score is within `maximum_loss_points` of the unpruned network's, fine-tuned once more. Rounds that were done before
    are read from the work's folder. Raises CoopexportError when not even one round keeps the bound.
    """
    settings = session.settings
    nothing = np.zeros(session.groups.count, dtype=np.bool_)
    dense, full = without_groups(session.groups, session.base, nothing, session.origin)
    before = session.evaluate(dense.network)
    start = Round(0, filters_left(dense), dense.macs(), before, Spent())
    last = Trained(dense, full, Spent(), before)
    rounds = [start]
    kept: Trained | None = None
    while not rounds[-1].stopped:
        number = rounds[-1].number + 1
        last = trained_round(
            session,
            f"step1-round-{number:03}",
            lambda last=last: _pruned_once(session, last, start, rounds[-1]),  # type: ignore[misc]
            Tuning(settings.epochs, session.training.seed + number),
            last.spent,
        )
        found = _record(number, last)
        found = replace(found, stopped=_why_stop(found, start, settings))
        rounds.append(found)
        on_round(found)
        if found.stopped != "accuracy":
            kept = last
    if kept is None:
        raise ParityError(
            f"step 1: the first round already costs {100 * (before - rounds[-1].score):.2f} points of the validation "
            f"score, the limit is {settings.maximum_loss_points:g}: raise prune.epochs or prune.maximum_loss_points, "
            "or lower prune.removed_share",
            number=100 * (before - rounds[-1].score),
        )
    if settings.final_epochs > 0:
        result = kept
        tuning = Tuning(settings.final_epochs, session.training.seed + len(rounds))
        kept = trained_round(
            session,
            "step1-final",
            lambda: fresh_copy(session, result.dense, result.full),
            tuning,
            result.spent,
        )
        rounds.append(replace(_record(len(rounds), kept), stopped="fine-tuned"))
        on_round(rounds[-1])
    return StepOne(kept, tuple(rounds), before)


def filters_left(dense: DenseNetwork) -> int:
    """Return how many filters are left that could be removed."""
    return int(dense.groups.filters()[~dense.removed].sum())


def _record(number: int, trained: Trained) -> Round:
    return Round(number, filters_left(trained.dense), trained.dense.macs(), trained.score, trained.spent)


def _why_stop(found: Round, start: Round, settings: PruneSection) -> str:
    if not keeps_bound(100 * (start.score - found.score), settings.maximum_loss_points):
        return "accuracy"
    if settings.macs_reduction is not None and found.macs <= start.macs / settings.macs_reduction:
        return "MACs"
    return "filters" if found.filters <= settings.least_left * start.filters else ""


def _pruned_once(session: PruningSession, last: Trained, start: Round, before: Round) -> tuple[DenseNetwork, State]:
    """Return the network of the last round without the filters that go next."""
    scores = score_groups(session, last.dense, session.training.seed + before.number)
    dense, full = remove_least(
        last.dense, last.full, scores, lambda order: _chosen(session.settings, last, start, before, order)
    )
    if np.array_equal(dense.removed, last.dense.removed):
        raise InputError(
            f"step 1 cannot go on: none of the {before.filters} filters that are left can be removed",
            fix="lower prune.macs_reduction or raise prune.least_left",
        )
    return dense, full


def _chosen(settings: PruneSection, last: Trained, start: Round, before: Round, order: list[int]) -> NDArray[np.bool_]:
    """Return which groups are gone when one round takes as many of `order`, its first, as the settings say."""
    count = math.ceil(settings.removed_share * start.filters)
    if settings.macs_reduction is None:
        return least_filters(last.dense, order, count)
    if settings.rounds is None:
        least = least_filters(last.dense, order, count)
        going = [group for group in order if least[group]]
        return fewest_to(last.dense, last.full, going, start.macs / settings.macs_reduction)
    share = min(1.0, (before.number + 1) / settings.rounds)  # the same factor in every round
    return fewest_to(last.dense, last.full, order, start.macs / settings.macs_reduction**share)
