"""The columns of the regression: what of a cell's work takes time, kind of layer by kind of layer.

Neurosurgeon's features per kind, reduced to what few measured cells can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.prediction.kernels import KINDS, Kernel, Kind

Quantity = Literal["macs", "kernels", "moved bytes", "weight bytes", "unaligned kernels"]


_AMOUNTS: Mapping[Quantity, Callable[[Kernel], int]] = {
    "macs": lambda kernel: kernel.macs,
    "kernels": lambda kernel: 1,
    "moved bytes": lambda kernel: kernel.moved_bytes,
    "weight bytes": lambda kernel: kernel.weight_bytes,
    "unaligned kernels": lambda kernel: int(kernel.unaligned),
}


@dataclass(frozen=True)
class Column:
    """One quantity, summed over the kernels of `kinds`; without kinds it is 1: what every call takes."""

    kinds: tuple[Kind, ...]
    quantity: Quantity

    def of(self, kernels: Sequence[Kernel]) -> float:
        """Return this column's number for a cell."""
        if not self.kinds:
            return 1.0
        return float(sum(map(_AMOUNTS[self.quantity], (item for item in kernels if item.kind in self.kinds))))


_CALL = Column((), "kernels")
_COMPUTING: tuple[Column, ...] = (
    Column(("convolution",), "macs"),
    Column(("convolution",), "kernels"),
    Column(("convolution",), "weight bytes"),
    Column(("depthwise convolution",), "macs"),
    Column(("depthwise convolution",), "kernels"),
    Column(("fully connected layer",), "weight bytes"),
    Column(("product of features",), "macs"),
)
_UNALIGNED = Column(("convolution",), "unaligned kernels")
_MOVING: tuple[Kind, ...] = tuple(kind for kind in KINDS if not any(kind in column.kinds for column in _COMPUTING))
# Kinds that only move data are bound by memory: one price per byte for all, or one for each.
FEW: tuple[Column, ...] = (_CALL, *_COMPUTING, _UNALIGNED, Column(_MOVING, "moved bytes"))
MANY: tuple[Column, ...] = (
    _CALL,
    *_COMPUTING,
    Column(("convolution",), "moved bytes"),
    _UNALIGNED,
    *(Column((kind,), "moved bytes") for kind in _MOVING),
)


def matrix_of(columns: Sequence[Column], cells: Sequence[Sequence[Kernel]]) -> NDArray[np.float64]:
    """Return cells x columns, float64."""
    return np.array([[column.of(kernels) for column in columns] for kernels in cells], dtype=np.float64).reshape(
        len(cells), len(columns)
    )


def columns_for(cells: Sequence[Sequence[Kernel]]) -> tuple[Column, ...]:
    """Return the columns that measured cells can tell apart: `MANY` where there are two cells for each, else `FEW`.

    Columns that no cell has anything of are left out.
    """
    many = _present(MANY, cells)
    return many if len(cells) >= 2 * len(many) else _present(FEW, cells)


def _present(columns: Sequence[Column], cells: Sequence[Sequence[Kernel]]) -> tuple[Column, ...]:
    return tuple(column for column in columns if any(column.of(kernels) > 0 for kernels in cells))
