"""One round of pruning: remove, fine-tune, write down; or read what an interrupted run has done already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from exporter.pruning.dense_network import DenseNetwork, State
from exporter.pruning.session import STATE_FILE, PruningSession, Tuning, fine_tune
from exporter.pruning.snapshot import read_snapshot, write_snapshot


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
    session: PruningSession,
    name: str,
    prune: Callable[[], tuple[DenseNetwork, State]],
    tuning: Tuning,
    before: Spent,
) -> Trained:
    """Return what `prune` leaves, fine-tuned as `tuning` says; a round of this `name` that was done before is read.

    `before`: the training spent so far. A run that is killed goes on from the last whole epoch of the round, and what
    was pruned is not scored again.
    """
    path, begun = session.folder / f"{name}.safetensors", session.folder / f"{name}-begun.safetensors"
    stored = read_snapshot(path, session.groups, session.base, session.made_from, session.origin)
    if stored is not None:
        dense, full, content = stored
        return Trained(dense, full, Spent(**content["spent"]), content["score"])
    pruned = read_snapshot(begun, session.groups, session.base, session.made_from, session.origin)
    if pruned is None:
        dense, full = prune()
        write_snapshot(begun, dense, session.made_from, {})
    else:
        dense, full, _ = pruned
    full, result = fine_tune(session, dense, full, tuning, name)
    spent = Spent(before.epochs + result.epochs, before.images + result.images, before.seconds + result.seconds)
    score = session.evaluate(dense.network)
    write_snapshot(path, dense, session.made_from, {"spent": asdict(spent), "score": score})
    begun.unlink(missing_ok=True)
    (session.folder / STATE_FILE).unlink(missing_ok=True)
    return Trained(dense, full, spent, score)
