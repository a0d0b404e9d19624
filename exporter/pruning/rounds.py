"""One round of pruning: remove, fine-tune, write down; or read what an interrupted run has done already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from exporter.pruning.dense_network import DenseNetwork, State
from exporter.pruning.snapshot import read_snapshot, write_snapshot
from exporter.pruning.work import STATE_FILE, PruningWork, Tuning, fine_tune


@dataclass(frozen=True)
class Spent:
    """Training since pruning began: passes over the training data, images, and seconds."""

    epochs: float = 0.0
    images: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Trained:
    """What a round leaves: the dense network, its full-size weights, all training so far, and the validation score."""

    dense: DenseNetwork
    full: State
    spent: Spent
    score: float


def trained_round(
    work: PruningWork,
    name: str,
    prune: Callable[[], tuple[DenseNetwork, State]],
    tuning: Tuning,
    before: Spent,
) -> Trained:
    """Return what `prune` leaves, fine-tuned as `tuning` says; a round of this `name` that was done before is read.

    `before`: the training spent so far. A run that is killed goes on from the last whole epoch of the round, and what
    was pruned is not scored again.
    """
    path, begun = work.folder / f"{name}.safetensors", work.folder / f"{name}-begun.safetensors"
    stored = read_snapshot(path, work.groups, work.base, work.recipe, work.origin)
    if stored is not None:
        dense, full, content = stored
        return Trained(dense, full, Spent(**content["spent"]), content["score"])
    pruned = read_snapshot(begun, work.groups, work.base, work.recipe, work.origin)
    if pruned is None:
        dense, full = prune()
        write_snapshot(begun, dense, work.recipe, {})
    else:
        dense, full, _ = pruned
    full, result = fine_tune(work, dense, full, tuning, name)
    spent = Spent(before.epochs + result.epochs, before.images + result.images, before.seconds + result.seconds)
    score = work.judge(dense.network)
    write_snapshot(path, dense, work.recipe, {"spent": asdict(spent), "score": score})
    begun.unlink(missing_ok=True)
    (work.folder / STATE_FILE).unlink(missing_ok=True)
    return Trained(dense, full, spent, score)
