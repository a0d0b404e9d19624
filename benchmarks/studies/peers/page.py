"""The page on shrinking side by side: the tables with the sentences around them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.studies.peers.cases import SAMPLES
from benchmarks.studies.peers.findings import findings
from benchmarks.studies.peers.rows import (
    FAST_PARAMETERS,
    FAST_TARGET_S,
    LARGE_TARGET_S,
    PEAK_TARGET,
    Row,
    row_table,
    subject_table,
)

_WIDTH = 120


@dataclass(frozen=True)
class Results:
    """All that one run has measured. `versions`: of every tool, in words."""

    host: Mapping[str, Any]
    versions: Mapping[str, str]
    rounds: int
    rows: tuple[Row, ...]


def page(results: Results) -> str:
    """Return the whole page, as Markdown."""
    host = results.host
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    blocks = (
        "# Shrinking masked networks, side by side",
        _wrap(
            f"{versions}; Python {host['python']}, one thread of {host['processor']} ({host['system']}; load average "
            f"at the start {host['load_average']}). Written by "
            "`python -m benchmarks.studies.peers.shrink --output docs/shrink_peers.md`."
        ),
        _wrap(
            "Networks are pytorchcv's, with seeded random weights, for images of 3x224x224; half of the filters of "
            "every layer are masked at random, but for the outputs':"
        ),
        subject_table(row.subject for row in results.rows),
        _wrap(
            "The same masks go to every tool. *Masks mean*: with `weight`, the masked filters' weights and biases are "
            "zero, and batch norm and activation still apply; with `channel`, the channel is zero behind them, and "
            "the other tools are given the network with gamma and beta zeroed too, so that their input says so. "
            "Torch-Pruning takes no masks but indices, and removes with a filter whatever is tied to it; where "
            "masked layers are tied (residual sums, depthwise convolutions), it is run twice: *masked in any* removes "
            "every masked filter's group as it is, *masked in all* only what all tied layers mask. NNI takes masks; "
            "where its own tracer fails on this torch, it is given a graph of torch.fx."
        ),
        _wrap(
            "*Seconds*: from masks to shrunk network, tracing and making masks of tied layers one included, this "
            f"project's proof of equality not: median of {results.rounds} interleaved rounds (NNI: one run) by the "
            "clock, and beside it the processor's own time, which is less where other work held the processor up. "
            f"*Errors*: against the masked network for {SAMPLES} inputs, relative to the outputs' spread over them; "
            "batch-norm statistics are those of the inputs under the masks, so that the outputs do depend on the "
            "input. *Peak memory*: most resident memory of a fresh process above interpreter, imports and inputs, the "
            "loaded network included, as a multiple of the checkpoint's bytes (NNI needs batches: with all "
            f"{SAMPLES} inputs). Wanted: at most {FAST_TARGET_S} s by the clock up to "
            f"{FAST_PARAMETERS // 1_000_000} million parameters, {LARGE_TARGET_S:g} s for VGG-16-BN, and "
            f"{PEAK_TARGET}x of memory."
        ),
        row_table(results.rows),
        "## What it shows",
        "\n".join(_wrap(f"{number}. {said}", "   ") for number, said in enumerate(findings(results.rows), start=1)),
    )
    return "\n\n".join(blocks) + "\n"


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
