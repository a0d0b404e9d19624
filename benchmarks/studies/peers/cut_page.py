"""The page on cutting side by side: tables, and whether the bounds that were set hold."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.studies.markdown import NOTHING, filled, holds, provenance, table
from benchmarks.studies.peers.cut_measure import NotRun, OwnResult, PeerResult
from benchmarks.studies.peers.cut_tools import EXTRACT_MODEL

ENUMERATION_BOUND_MS = 10.0
# Where all pairs are to be written faster than extract_model writes a few.
BOUND_NETWORKS = ("ResNet-50", "VGG-16")
BOUNDS = """Where the bound was set, this project is to write all pairs, with shared weights, before
onnx.utils.extract_model has written the few above. Index and sweep find all single-tensor cuts of a graph in memory;
the median of several runs counts."""


@dataclass(frozen=True)
class CutResults:
    """All that one run has measured. `unclean`: a network, and what each tool does with a cut that is not clean."""

    host: Mapping[str, Any]
    versions: Mapping[str, str]
    own: tuple[OwnResult, ...]
    peers: tuple[PeerResult | NotRun, ...]
    unclean: tuple[str, tuple[tuple[str, str], ...]]


def page(results: CutResults) -> str:
    """Return the whole page, as Markdown."""
    network, answers = results.unclean
    command = "python -m benchmarks.studies.peers.cut --output docs/cut_peers.md"
    blocks = (
        "# Cutting networks, side by side",
        provenance(results.host, results.versions, command),
        filled(
            "Networks are pytorchcv's for images of 3x224x224 with seeded random weights, exported by this project "
            "into one self-contained ONNX file each, with weights that layers share already folded; every tool gets "
            "that file. One run each. Seconds are by the clock, and beside it the processor's own, child processes "
            "included, which is less where other work held the processor up."
        ),
        "## All single-tensor cuts, by this project",
        filled(
            "From the file to the last pair on the disk, flushed: reading it, inferring the sizes of all tensors, "
            "finding and naming the cuts, writing weights once and two graphs for each cut."
        ),
        own_table(results.own),
        filled(
            "The checks run apart, from the files: the whole graph once with all features watched, then head and tail "
            "of each cut in ONNX Runtime, with optimisation disabled (features and outputs must be the same bits) and "
            "at two further levels, where the largest difference is reported, relative to the largest output:"
        ),
        parity_table(results.own),
        "## Some of the same cuts, by all",
        filled(
            "As many pairs as the bound names, spread evenly over the clean cuts, as self-contained files, which only "
            "this project flushes to the disk; its first row repeats all pairs with shared weights. "
            "onnx.utils.extract_model takes file names and reads, checks and infers for each part; onnx-ir and "
            "graphsurgeon read and infer once; Polygraphy is a command, started for each part."
        ),
        peer_table(results.peers, results.own),
        "## A cut that is not clean",
        filled(f"Inside a dense block of {network}, where two tensors cross and one is named:"),
        table(("tool", "what it does"), answers, left=2),
        "## Bounds",
        filled(BOUNDS),
        bound_table(results),
    )
    return "\n\n".join(blocks) + "\n"


def own_table(rows: Iterable[OwnResult]) -> str:
    """Return one row per network: steps, their sum, and the enumeration alone."""
    rows = list(rows)
    steps = list(rows[0].steps) if rows else []
    header = ("network", "file MB", "nodes", "pairs", *(f"{step} s" for step in steps), "together s", "processor s",
              "index and sweep alone ms")  # fmt: skip
    cells = [
        (
            row.network, f"{row.file_bytes / 1e6:.0f}", f"{row.nodes}", f"{row.cuts}",
            *(f"{row.steps[step].clock_s:.3f}" for step in steps), f"{row.total.clock_s:.2f}",
            f"{row.total.processor_s:.2f}", f"{_enumeration_ms(row):.2f}",
        )
        for row in rows
    ]  # fmt: skip
    return table(header, cells)


def parity_table(rows: Iterable[OwnResult]) -> str:
    """Return one row per network: what proving took, and the differences at the levels that are reported."""
    header = ("network", "pairs proven", "parity s", "processor s", "not optimised", "extended", "all")
    cells = [
        (
            row.network, f"{row.cuts}", f"{row.parity.clock_s:.1f}", f"{row.parity.processor_s:.1f}", "same bits",
            f"{row.difference_extended:.1e}", f"{row.difference_all:.1e}",
        )
        for row in rows
    ]  # fmt: skip
    return table(header, cells)


def peer_table(rows: Iterable[PeerResult | NotRun], own: Sequence[OwnResult]) -> str:
    """Return one row per network and tool; this project's row is that of all of its pairs."""
    header = ("network", "tool", "pairs", "seconds", "processor s", "seconds per pair", "result")
    cells = []
    for row in own:
        total = row.total
        cells.append(
            _peer_cells(
                row.network, "coopexport, shared weights", row.cuts, total.clock_s, total.processor_s, "all proven"
            )
        )
        cells += [
            (item.network, item.tool, f"{item.pairs}", NOTHING, NOTHING, NOTHING, item.reason)
            if isinstance(item, NotRun)
            else _peer_cells(
                item.network, item.tool, item.pairs, item.taken.clock_s, item.taken.processor_s, item.verdict
            )
            for item in rows
            if item.network == row.network
        ]  # fmt: skip
    return table(header, cells, left=2, words=("result",))


def bound_table(results: CutResults) -> str:
    """Return one row per network and bound: what it took, what it may take, and whether the bound holds."""
    header = ("network", "what", "took", "less than", "holds")
    cells = []
    for row in results.own:
        others = [item for item in results.peers if (item.network, item.tool) == (row.network, EXTRACT_MODEL)]
        for item in others if row.network in BOUND_NETWORKS else ():
            what = f"all {row.cuts} pairs, against {item.pairs} by {item.tool}"
            took_s = row.total.clock_s
            if isinstance(item, NotRun):
                cells.append((row.network, what, f"{took_s:.2f} s", NOTHING, holds(None)))
            else:
                limit_s = item.taken.clock_s
                cells.append((row.network, what, f"{took_s:.2f} s", f"{limit_s:.2f} s", holds(took_s < limit_s)))
        took_ms = _enumeration_ms(row)
        limit_ms = f"{ENUMERATION_BOUND_MS:g} ms"
        kept = holds(took_ms < ENUMERATION_BOUND_MS)
        cells.append((row.network, "index and sweep alone", f"{took_ms:.2f} ms", limit_ms, kept))
    return table(header, cells, left=2, words=("holds",))


def _enumeration_ms(row: OwnResult) -> float:
    return 1e3 * statistics.median(row.enumeration_s)


def _peer_cells(
    network: str, tool: str, pairs: int, clock_s: float, processor_s: float, verdict: str
) -> tuple[str, ...]:
    return (network, tool, f"{pairs}", f"{clock_s:.2f}", f"{processor_s:.2f}", f"{clock_s / pairs:.3f}", verdict)
