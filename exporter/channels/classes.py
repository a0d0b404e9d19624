"""Which channels must be kept or removed together: a union-find over all channels of a network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Atoms = NDArray[np.int64]

# The atom of everything that must stay.
PINNED = 0


class ChannelClasses:
    """Hands out atoms (one per channel that a layer makes) and ties them into classes.

    A class is known by its smallest atom, so that all that is tied to `PINNED` is found as `PINNED`.
    """

    def __init__(self) -> None:
        self._parents = np.zeros(1, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._parents)

    def fresh(self, count: int) -> Atoms:
        """Return `count` new atoms, each a class of its own."""
        atoms = np.arange(len(self._parents), len(self._parents) + count)
        self._parents = np.concatenate([self._parents, atoms])
        return atoms

    def find(self, atoms: Atoms) -> Atoms:
        """Return the class of each atom."""
        found = self._parents[atoms]
        while True:
            further = self._parents[found]
            if np.array_equal(further, found):
                return found
            found = further

    def unite(self, some: Atoms, others: Atoms) -> None:
        """Tie the atoms of both arrays, pair by pair; the arrays are broadcast against each other."""
        one, other = (self.find(item).reshape(-1) for item in np.broadcast_arrays(some, others))
        while not np.array_equal(one, other):
            smaller = np.minimum(one, other)
            # One class may be in several pairs: the smallest of its partners wins, the next round ties the rest.
            np.minimum.at(self._parents, one, smaller)
            np.minimum.at(self._parents, other, smaller)
            one, other = self.find(one), self.find(other)

    def pin(self, atoms: Atoms) -> None:
        """Tie all of `atoms` to what must stay."""
        self.unite(atoms, np.array(PINNED))
