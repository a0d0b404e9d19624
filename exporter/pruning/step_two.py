"""Step 2: for one candidate layer, prune only what crosses the link, in steps down to one channel (Shi et al. 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.pruning.channel_groups import Groups
from exporter.pruning.dense_network import DenseNetwork, State
from exporter.pruning.ranking import remove_least
from exporter.pruning.rounds import Trained, trained_round
from exporter.pruning.session import PruningSession, Tuning, fresh_copy, score_groups


@dataclass(frozen=True)
class Series:
    """Candidate layers at which the same channels cross, and so the same variants serve.

    `layers`: their names, in the network's order; `crossing`: the group of each channel that crosses at the first.
    """

    layers: tuple[str, ...]
    crossing: Groups


@dataclass(frozen=True)
class Narrowed:
    """One width of a series: how many channels cross at its first layer, and the network."""

    series: Series
    channels: int
    trained: Trained


def series_of(candidates: Sequence[tuple[str, Groups]]) -> tuple[Series, ...]:
    """Return the series for `candidates` (name and groups that cross), those with the same groups in one."""
    found: dict[frozenset[int], Series] = {}
    for name, crossing in candidates:
        key = frozenset(crossing[crossing >= 0].tolist())
        before = found.get(key)
        found[key] = Series((name,), crossing) if before is None else Series((*before.layers, name), before.crossing)
    return tuple(series for key, series in found.items() if key)


def widths_of(channels: int, count: int) -> tuple[int, ...]:
    """Return at most `count` numbers of channels from just below `channels` down to 1, evenly spaced in logarithm.

    Shi et al. 2019, their code: unique(round(logspace(log10 n, 0, 16))), of which n itself is step 1's own width.
    """
    spaced = np.rint(np.logspace(np.log10(channels), 0, count + 1)).astype(int)
    return tuple(sorted({int(width) for width in spaced if width < channels}, reverse=True))


def channels_that_cross(dense: DenseNetwork, series: Series) -> int:
    """Return how many channels cross at the first layer of a series."""
    return _crossing(dense.removed, series)


def prune_series(session: PruningSession, start: Trained, series: Series, on_round: Callable[[Narrowed], None]) -> None:
    """Prune what crosses at the layers of a series down to one channel, from what step 1 left, width by width.

    Each width begins with the one before, fine-tuned; `on_round` gets every one as it is done. The least important of
    the channels that cross go; scores are those of the network as it is then.
    """
    last = start
    for width in widths_of(channels_that_cross(start.dense, series), session.settings.widths):
        crossing = channels_that_cross(last.dense, series)
        if crossing <= width:
            continue
        seed = session.training.seed + crossing
        narrowed = trained_round(
            session,
            f"{series.layers[0]}-{width}",
            lambda last=last, width=width, seed=seed: _narrower(session, last, series, width, seed),  # type: ignore[misc]
            _tuning(session, seed),
            last.spent,
        )
        left = channels_that_cross(narrowed.dense, series)
        if left == crossing:
            return
        last = narrowed
        on_round(Narrowed(series, left, last))


def train_controls(
    session: PruningSession, start: Trained, count: int, on_round: Callable[[int, Trained], None]
) -> None:
    """Train what step 1 left on without pruning it, `count` times as long as one width of step 2 is trained.

    What step 2 gains over step 1 by its extra training alone is what these controls gain; the paper's comparison
    leaves it in.
    """
    last = start
    for number in range(1, count + 1):
        last = trained_round(
            session,
            f"step1-control-{number:03}",
            lambda last=last: fresh_copy(session, last.dense, last.full),  # type: ignore[misc]
            _tuning(session, session.training.seed + number),
            last.spent,
        )
        on_round(number, last)


def _tuning(session: PruningSession, seed: int) -> Tuning:
    return Tuning(session.settings.step_two_epochs, seed, session.settings.step_two_learning_rate)


def _narrower(
    session: PruningSession, last: Trained, series: Series, width: int, seed: int
) -> tuple[DenseNetwork, State]:
    scores = score_groups(session, last.dense, seed)
    allowed = np.zeros(session.groups.count, dtype=np.bool_)
    allowed[series.crossing[series.crossing >= 0]] = True

    def narrowed(order: list[int]) -> NDArray[np.bool_]:
        removed = last.dense.removed.copy()
        for group in order:
            if _crossing(removed, series) <= width:
                break
            removed[group] = True
        return removed

    return remove_least(last.dense, last.full, scores, narrowed, allowed)


def _crossing(removed: NDArray[np.bool_], series: Series) -> int:
    return int((~np.append(removed, False)[series.crossing]).sum())
