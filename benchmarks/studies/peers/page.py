"""The page on shrinking side by side: what every tool made of the same masks, and whether the bounds hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.studies.markdown import filled, provenance
from benchmarks.studies.peers.cases import SAMPLES
from benchmarks.studies.peers.memory import COOPEXPORT
from benchmarks.studies.peers.rows import Measured, Row, bound_table, case_table, row_table

MASKS = """The same masks go to every tool. *Masks mean*: with `weight`, the masked filters' weights and biases are
zero, and batch norm and activation still apply; with `channel`, the channel is zero behind them, and the other tools
are given the network with gamma and beta zeroed too, so that their input says so. Torch-Pruning takes no masks but
indices, and removes with a filter whatever is tied to it. Where masked layers are tied (residual sums, depthwise
convolutions), it is run twice: *masked in any* removes every masked filter's group as it is, *masked in all* only what
all tied layers mask. NNI takes masks; where its own tracer fails on this torch, it is given a graph of torch.fx."""
FUNCTION = """*Same function*: the float64 error keeps the bound of this project's own proof. Other tools drop a filter
of zeros together with the constant that a batch norm makes of it, there or further on; *masked in any* drops live
channels with the masked ones that they are tied to. No tool reports it."""


@dataclass(frozen=True)
class Results:
    """All that one run has measured. `versions`: of every tool, in words."""

    host: Mapping[str, Any]
    versions: Mapping[str, str]
    rounds: int
    rows: tuple[Row, ...]


def page(results: Results) -> str:
    """Return the whole page, as Markdown."""
    own = [row for row in results.rows if isinstance(row, Measured) and row.tool == COOPEXPORT]
    command = "python -m benchmarks.studies.peers.shrink --output docs/shrink_peers.md"
    blocks = (
        "# Shrinking masked networks, side by side",
        provenance(results.host, results.versions, command),
        filled(
            "Networks are pytorchcv's, with seeded random weights, for images of 3x224x224; half of the filters of "
            "every layer are masked at random, but for the outputs':"
        ),
        case_table(row.benchmark_case for row in results.rows),
        filled(MASKS),
        filled(
            "*Seconds*: from masks to shrunk network, tracing and making masks of tied layers one included, this "
            f"project's proof of equality not: median of {results.rounds} interleaved rounds (NNI: one run) by the "
            "clock, and beside it the processor's own time, which is less where other work held the processor up. "
            f"*Errors*: against the masked network for {SAMPLES} inputs, relative to the outputs' spread over them; "
            "batch-norm statistics are those of the inputs under the masks, so that the outputs do depend on the "
            "input. *Peak memory*: most resident memory of a fresh process above interpreter, imports and inputs, the "
            "loaded network included, as a multiple of the checkpoint's bytes (NNI needs batches: with all "
            f"{SAMPLES} inputs)."
        ),
        filled(FUNCTION),
        row_table(results.rows),
        f"## Bounds of {COOPEXPORT}",
        bound_table(own),
    )
    return "\n\n".join(blocks) + "\n"
