"""The page on which TensorRT-RTX engines exist: one table per network, and every refusal in words."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.studies.engine_matrix.matrix import CAPABILITIES, STATIC, Outcome
from benchmarks.studies.peers.rows import markdown_table


def page(outcomes: Sequence[Outcome], layers: Mapping[str, str], host: Mapping[str, Any], version: str) -> str:
    """Return the whole page, as Markdown. `layers`: behind which layer each network was cut."""
    built = sum(item.engine_bytes is not None for item in outcomes)
    blocks = [
        "# TensorRT-RTX engines that exist",
        f"Built by TensorRT-RTX {version} on a machine without a GPU ({host['processor']}, {host['system']}), by\n"
        "`python -m benchmarks.engine_matrix --output docs/engine_matrix.md`; `make check-full` builds all of them "
        "too. None\nhas been run, for want of a GPU: that outputs are right is shown on the graphs, in ONNX Runtime.",
        f"{built} of {len(outcomes)} combinations give an engine: pytorchcv's networks for images of 3x224x224 with "
        "random weights,\ncut where half of the MACs lie behind, symbols of 8 bits between the halves. Sizes are in "
        "megabytes (10^6 bytes),\nstatic batch of 1 / dynamic batch of 1 to 16. A letter stands for a refusal, "
        "explained below the tables.",
    ]
    letters = _letters(outcomes)
    for network, group in itertools.groupby(outcomes, key=lambda item: item.network):
        blocks += [f"## {network}, cut after `{layers[network]}`", _table(list(group), letters)]
    blocks.append("## Why not")
    blocks += [f"{letter}: {_reason(outcomes, kind)}" for kind, letter in letters.items()] or [
        "Every combination gave an engine."
    ]
    return "\n\n".join(blocks) + "\n"


def _letters(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Return a letter for each kind of refusal, in the order in which they come."""
    kinds = dict.fromkeys(_kind(item) for item in outcomes if item.reason is not None)
    return {kind: _letter(index) for index, kind in enumerate(kinds)}


def _letter(index: int) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[index % 26] * (index // 26 + 1)


def _kind(outcome: Outcome) -> str:
    """Return what is alike in refusals of several networks: who refuses, and why."""
    who = "refused by preflight" if outcome.refused_before else "refused by TensorRT-RTX"
    return f"{who}: {outcome.kind or outcome.reason}"


def _reason(outcomes: Sequence[Outcome], kind: str) -> str:
    """Return a kind of refusal with one example of it in full."""
    example = next(item for item in outcomes if item.reason is not None and _kind(item) == kind)
    return kind if example.kind is None else f"{kind}. {example.network}, for example: {example.reason}"


def _table(outcomes: Sequence[Outcome], letters: Mapping[str, str]) -> str:
    rows = []
    for (role, precision), group in itertools.groupby(
        outcomes, key=lambda item: (item.combination.role, item.combination.precision)
    ):
        cells: dict[str, list[str]] = {capability: [] for capability in CAPABILITIES}
        for item in sorted(group, key=lambda one: one.combination.batches != STATIC):
            cells[item.combination.compute_capability].append(_cell(item, letters))
        rows.append((role, precision, *(" / ".join(parts) or "not tried" for parts in cells.values())))
    return markdown_table(("half", "precision", *(f"SM {name}" for name in CAPABILITIES)), rows)


def _cell(outcome: Outcome, letters: Mapping[str, str]) -> str:
    if outcome.engine_bytes is None:
        return letters[_kind(outcome)]
    return f"{outcome.engine_bytes / 1e6:.1f}"
