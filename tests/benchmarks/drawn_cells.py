"""Measured cells made by a generator: kernels of several kinds in a chain that is cut, and times that follow a rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.prediction.kernels import Kernel, Kind
from benchmarks.prediction.regression import Measured

CHAIN: tuple[Kind, ...] = (
    "convolution", "depthwise convolution", "convolution", "pooling layer", "convolution", "elementwise operator",
)  # fmt: skip


def kernel(kind: Kind = "convolution", node: int = 0, **amounts: int) -> Kernel:
    """Return a kernel that does nothing but `amounts`."""
    return Kernel(kind, node, **{"macs": 0, "moved_bytes": 0, "weight_bytes": 0, **amounts})


def drawn_chain(generator: np.random.Generator, length: int = 12) -> tuple[Kernel, ...]:
    """Return the kernels of a network, drawn over three decades of work."""

    def amount(most: float) -> int:
        return int(most * 10.0 ** -generator.uniform(0, 3))

    return tuple(
        kernel(
            kind,
            node,
            macs=amount(1e7) if "convolution" in kind else 0,
            moved_bytes=amount(1e6),
            weight_bytes=amount(1e6) if "convolution" in kind else 0,
        )
        for node, kind in zip(range(length), CHAIN * length, strict=False)
    )


def cells_of(chain: Sequence[Kernel], time_ms: Callable[[Sequence[Kernel]], float]) -> list[Measured]:
    """Return heads and tails at all cuts of a chain, with what encodes and decodes there, and the whole network."""
    cells = [Measured("whole", "whole", tuple(chain), time_ms(chain))]
    for cut in range(1, len(chain)):
        size = chain[cut - 1].moved_bytes // 2
        head = (*chain[:cut], kernel("encoding", cut, moved_bytes=size))
        tail = (kernel("decoding", moved_bytes=size), *chain[cut:])
        cells.append(Measured(f"cut{cut}", "head", head, time_ms(head)))
        cells.append(Measured(f"cut{cut}", "tail", tail, time_ms(tail)))
    return cells
