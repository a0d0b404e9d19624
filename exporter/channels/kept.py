"""Which channels stay: those that some kept output still needs, and those that keep the result a dense network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from exporter.channels.classes import Atoms
from exporter.channels.flow import ChannelFlow, LayerReads

# How the reason of channels begins that stay for a width's sake.
ROUNDED = "rounded up to a multiple"


@dataclass
class KeptClasses:
    """Which classes of channels stay, and why those stay that were not simply live. Only ever grows."""

    flow: ChannelFlow
    kept: NDArray[np.bool_] = field(init=False)
    reasons: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kept = np.zeros(len(self.flow.classes), dtype=np.bool_)

    def holds(self, atoms: Atoms) -> NDArray[np.bool_]:
        """Tell for each atom whether it stays."""
        result: NDArray[np.bool_] = self.kept[self.flow.classes.find(atoms)]
        return result

    def keep(self, atoms: Atoms, reason: str) -> bool:
        """Keep all of `atoms`; return whether any of them was not kept before."""
        found = np.unique(self.flow.classes.find(atoms.reshape(-1)))
        new = found[~self.kept[found]]
        self.kept[new] = True
        for one in new:
            self.reasons.setdefault(int(one), reason)
        return len(new) > 0

    def why(self, atoms: Atoms) -> list[str]:
        """Return for each atom why it stays."""
        return [self.reasons[int(found)] for found in self.flow.classes.find(atoms)]


def needed_classes(flow: ChannelFlow) -> KeptClasses:
    """Return the smallest set of classes that can stay without changing what the network computes."""
    kept = KeptClasses(flow)
    kept.keep(np.zeros(1, dtype=np.int64), "it is combined with channels that must stay")
    for atoms, reason in flow.pins:
        kept.keep(atoms, reason)
    complete(kept)
    return kept


def complete(kept: KeptClasses) -> None:
    """Keep, in place, whatever the classes kept so far call for, until nothing more is called for."""
    layers = list(kept.flow.layers.values())[::-1]
    changed = True
    while changed:
        changed = False
        for layer in layers:
            changed |= _keep_what_it_reads(kept, layer)
        if changed:  # what follows only matters once nothing else grows
            continue
        for layer in layers:
            changed |= _keep_at_least_one(kept, layer)
        for name, rows in kept.flow.equal_parts:
            changed |= _keep_equally_many(kept, name, rows)


def _keep_what_it_reads(kept: KeptClasses, layer: LayerReads) -> bool:
    """Keep the inputs that kept outputs need: all in their group that are live, or constants that cannot be folded."""
    outputs = kept.holds(layer.outputs).reshape(layer.groups, -1)
    used: NDArray[np.bool_] = np.repeat(outputs.any(axis=1), len(layer.inputs) // layer.groups)
    # A depthwise output without its input would need an operation of its own to be made.
    depthwise = layer.groups > 1 and len(layer.inputs) == layer.groups
    needed = used if depthwise else used & ~layer.foldable
    constant: NDArray[np.bool_] = np.isfinite(layer.constants)
    changed = kept.keep(layer.inputs[needed & ~constant], f"'{layer.name}' reads it, where it is not always zero")
    loud = needed & constant & (layer.constants != 0)
    if loud.any():
        largest = np.abs(layer.constants[loud]).max()
        reason = f"not zero but a constant (up to {largest:.3g}) that '{layer.name}' cannot take into one bias"
        changed |= kept.keep(layer.inputs[loud], reason)
    return changed | kept.keep(layer.inputs[needed], f"'{layer.name}' makes a kept channel of it")


def _keep_at_least_one(kept: KeptClasses, layer: LayerReads) -> bool:
    changed = False
    for atoms, what in ((layer.outputs, "output"), (layer.inputs, "input")):
        if not kept.holds(atoms).any():
            changed |= kept.keep(atoms[:1], f"'{layer.name}' needs at least one {what}")
    return changed


def _keep_equally_many(kept: KeptClasses, name: str, rows: Atoms) -> bool:
    """Keep more of the shorter rows, until equally many of each row of channels stay."""
    held = kept.holds(rows)
    most = int(held.sum(axis=1).max())
    changed = False
    for row in rows:
        while (missing := most - int(kept.holds(row).sum())) > 0:
            free = row[~kept.holds(row)]
            changed |= kept.keep(free[:missing], f"'{name}' takes equal parts")
    return changed


def widths(kept: KeptClasses) -> Mapping[str, int]:
    """Return how many outputs of every layer stay."""
    return {name: int(kept.holds(layer.outputs).sum()) for name, layer in kept.flow.layers.items()}


def round_up(kept: KeptClasses, multiple: int, importance: Mapping[str, NDArray[np.float64]] | None = None) -> None:
    """Keep more channels, in place, until every layer's width is a multiple, or as wide as it was.

    `importance`: which of a layer's removed channels come first (largest first); otherwise the first ones.
    """
    while True:
        for name, layer in kept.flow.layers.items():
            held = kept.holds(layer.outputs)
            wanted = min(-(-int(held.sum()) // multiple) * multiple, len(held))
            order = np.arange(len(held))
            if importance is not None and name in importance:
                order = np.argsort(-importance[name], kind="stable")
            for index in order:
                if kept.holds(layer.outputs).sum() >= wanted:
                    break
                kept.keep(layer.outputs[index : index + 1], f"{ROUNDED} of {multiple}")
        complete(kept)
        if all(
            count % multiple == 0 or count == len(kept.flow.layers[name].outputs)
            for name, count in widths(kept).items()
        ):
            return
