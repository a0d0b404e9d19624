"""The page on cutting side by side: tables, and whether the bounds that were set hold."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.studies.peers.cut_measure import NotRun, OwnResult, PeerResult
from benchmarks.studies.peers.cut_tools import EXTRACT_MODEL, OWN
from benchmarks.studies.peers.rows import markdown_table

ENUMERATION_BOUND_MS = 10.0
# Where all pairs are to be written faster than extract_model writes a few.
BOUND_NETWORKS = ("ResNet-50", "VGG-16")
_WIDTH = 120


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
    host = results.host
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    network, answers = results.unclean
    blocks = (
        "# Cutting networks, side by side",
        _wrap(
            f"{versions}; Python {host['python']}, one thread of {host['processor']} ({host['system']}; load average "
            f"at the start {host['load_average']}). Written by "
            "`python -m benchmarks.studies.peers.cut --output docs/cut_peers.md`."
        ),
        _wrap(
            "Networks are pytorchcv's for images of 3x224x224 with seeded random weights, exported by this project "
            "into one self-contained ONNX file each, with weights that layers share already folded; every tool gets "
            "that file. One run each. Seconds are by the clock, and beside it the processor's own, child processes "
            "included, which is less where other work held the processor up."
        ),
        "## All single-tensor cuts, by this project",
        _wrap(
            "From the file to the last pair on the disk, flushed: reading it, inferring the sizes of all tensors, "
            "finding and naming the cuts, writing weights once and two graphs for each cut."
        ),
        own_table(results.own),
        _wrap(
            "The gates run apart, from the files: the whole graph once with all features watched, then head and tail "
            "of each cut in ONNX Runtime, with optimisation disabled (features and outputs must be the same bits) and "
            "at two further levels, where the largest difference is reported, relative to the largest output:"
        ),
        gate_table(results.own),
        "## Some of the same cuts, by all",
        _wrap(
            "As many pairs as the bound names, spread evenly over the clean cuts, as self-contained files, which only "
            "this project flushes to the disk; its first row repeats all pairs with shared weights. "
            "onnx.utils.extract_model takes file names and reads, checks and infers for each part; onnx-ir and "
            "graphsurgeon read and infer once; Polygraphy is a command, started for each part."
        ),
        peer_table(results.peers, results.own),
        "## A cut that is not clean",
        _wrap(f"Inside a dense block of {network}, where two tensors cross and one is named:"),
        markdown_table(("tool", "what it does"), answers),
        "## What it shows",
        "\n".join(_wrap(f"{number}. {said}", "   ") for number, said in enumerate(findings(results), start=1)),
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
    return markdown_table(header, cells)


def gate_table(rows: Iterable[OwnResult]) -> str:
    """Return one row per network: what proving took, and the differences at the levels that are reported."""
    header = ("network", "pairs proven", "gates s", "processor s", "not optimised", "extended", "all")
    cells = [
        (
            row.network, f"{row.cuts}", f"{row.gates.clock_s:.1f}", f"{row.gates.processor_s:.1f}", "same bits",
            f"{row.difference_extended:.1e}", f"{row.difference_all:.1e}",
        )
        for row in rows
    ]  # fmt: skip
    return markdown_table(header, cells)


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
            (item.network, item.tool, f"{item.pairs}", "–", "–", "–", item.reason)
            if isinstance(item, NotRun)
            else _peer_cells(
                item.network, item.tool, item.pairs, item.taken.clock_s, item.taken.processor_s, item.verdict
            )
            for item in rows
            if item.network == row.network
        ]  # fmt: skip
    return markdown_table(header, cells, left=2)


def findings(results: CutResults) -> tuple[str, ...]:
    """Return whether the bounds hold: all pairs against extract_model's few, and the time to find them."""
    said = []
    for row in results.own:
        same = [item for item in results.peers if item.network == row.network]
        said += [_against(row, item) for item in same if item.tool == EXTRACT_MODEL]
        said += _self_contained([item for item in same if isinstance(item, PeerResult)])
    slow = [row for row in results.own if _enumeration_ms(row) >= ENUMERATION_BOUND_MS]
    slowest = max(results.own, key=_enumeration_ms)
    verdict = f"missed on {', '.join(row.network for row in slow)}" if slow else "held"
    said.append(
        f"Finding all single-tensor cuts of a graph (index and sweep, median of {len(slowest.enumeration_s)}) is to "
        f"take less than {ENUMERATION_BOUND_MS:g} ms: {verdict}; the longest is {_enumeration_ms(slowest):.2f} ms, on "
        f"{slowest.network}."
    )
    return tuple(said)


def _against(row: OwnResult, item: PeerResult | NotRun) -> str:
    is_bound = row.network in BOUND_NETWORKS
    subject = f"All {row.cuts} pairs of {row.network}, with shared weights,"
    subject += f" are to take less than {item.tool} takes for {item.pairs}" if is_bound else " against others"
    if isinstance(item, NotRun):
        return f"{subject}: not decided, for {item.tool} {item.reason}."
    verdict = ("held" if row.total.clock_s < item.taken.clock_s else "missed") if is_bound else "no bound was set"
    return (
        f"{subject}: {verdict}, {row.total.clock_s:.2f} s against {item.taken.clock_s:.2f} s by the clock "
        f"({row.total.processor_s:.2f} s against {item.taken.processor_s:.2f} s of the processor) for {item.pairs} by "
        f"{item.tool}."
    )


def _self_contained(rows: Sequence[PeerResult]) -> list[str]:
    """Return how this project's self-contained pairs compare with the fastest of the other tools."""
    own = [row for row in rows if row.tool == OWN.name]
    others = sorted((row for row in rows if row.tool != OWN.name), key=lambda row: row.taken.clock_s)
    if not own or not others:
        return []
    fastest = others[0]
    return [
        f"Self-contained, {own[0].pairs} pairs of {own[0].network} take {own[0].taken.clock_s:.2f} s here; the fastest "
        f"other tool is {fastest.tool} with {fastest.taken.clock_s:.2f} s."
    ]


def _enumeration_ms(row: OwnResult) -> float:
    return 1e3 * statistics.median(row.enumeration_s)


def _peer_cells(
    network: str, tool: str, pairs: int, clock_s: float, processor_s: float, verdict: str
) -> tuple[str, ...]:
    return (network, tool, f"{pairs}", f"{clock_s:.2f}", f"{processor_s:.2f}", f"{clock_s / pairs:.3f}", verdict)


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
