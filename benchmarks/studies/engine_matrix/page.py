"""The page on which TensorRT-RTX engines exist: one table per network, and one of all refusals."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.studies.engine_matrix.matrix import CAPABILITIES, STATIC, Outcome
from benchmarks.studies.markdown import filled, table

WHAT_IS_BUILT = """pytorchcv's networks for images of 3x224x224 with random weights, cut where half of the MACs lie
behind, with symbols of 8 bits between the halves. `make check-full` builds all of them too. None has been run, for want
of a GPU: that outputs are right is shown on the graphs, in ONNX Runtime."""
HOW_TO_READ = """Sizes are in megabytes (10^6 bytes), static batch of 1 / dynamic batch of 1 to 16. A letter stands for
a refusal, explained below the tables."""


def page(outcomes: Sequence[Outcome], layers: Mapping[str, str], host: Mapping[str, Any], version: str) -> str:
    """Return the whole page, as Markdown. `layers`: behind which layer each network was cut."""
    blocks = [
        "# TensorRT-RTX engines that exist",
        filled(
            f"Built by TensorRT-RTX {version} on a machine without a GPU ({host['processor']}, {host['system']}), by "
            "`python -m benchmarks.studies.engine_matrix --output docs/engine_matrix.md`."
        ),
        filled(WHAT_IS_BUILT),
        _count_table(outcomes, layers),
        filled(HOW_TO_READ),
    ]
    letters = _letters(outcomes)
    for network, group in itertools.groupby(outcomes, key=lambda item: item.network):
        blocks += [f"## {network}, cut after `{layers[network]}`", _table(list(group), letters)]
    if letters:
        reasons = [(letter, *kind, _example(outcomes, kind)) for kind, letter in letters.items()]
        blocks += ["## Why not", table(("letter", "refused by", "reason", "for example"), reasons, left=4)]
    return "\n\n".join(blocks) + "\n"


def _count_table(outcomes: Sequence[Outcome], layers: Mapping[str, str]) -> str:
    rows = []
    for network in layers:
        own = [item for item in outcomes if item.network == network]
        rows.append((network, f"{len(own)}", f"{sum(item.engine_bytes is not None for item in own)}"))
    rows.append(("together", f"{len(outcomes)}", f"{sum(item.engine_bytes is not None for item in outcomes)}"))
    return table(("network", "combinations", "engines"), rows)


def _letters(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], str]:
    """Return a letter for each kind of refusal, in the order in which they come."""
    kinds = dict.fromkeys(_kind(item) for item in outcomes if item.reason is not None)
    return {kind: _letter(index) for index, kind in enumerate(kinds)}


def _letter(index: int) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[index % 26] * (index // 26 + 1)


def _kind(outcome: Outcome) -> tuple[str, str]:
    """Return what is alike in refusals of several networks: who refuses, and why."""
    return "preflight" if outcome.refused_before else "TensorRT-RTX", outcome.kind or str(outcome.reason)


def _example(outcomes: Sequence[Outcome], kind: tuple[str, str]) -> str:
    """Return one refusal of a kind in full; nothing where the kind is all of it."""
    example = next(item for item in outcomes if item.reason is not None and _kind(item) == kind)
    return "" if example.kind is None else f"{example.network}: {example.reason}"


def _table(outcomes: Sequence[Outcome], letters: Mapping[tuple[str, str], str]) -> str:
    rows = []
    for (role, precision), group in itertools.groupby(
        outcomes, key=lambda item: (item.combination.role, item.combination.precision)
    ):
        cells: dict[str, list[str]] = {capability: [] for capability in CAPABILITIES}
        for item in sorted(group, key=lambda one: one.combination.batches != STATIC):
            cells[item.combination.compute_capability].append(_cell(item, letters))
        rows.append((role, precision, *(" / ".join(parts) or "not tried" for parts in cells.values())))
    return table(("half", "precision", *(f"SM {name}" for name in CAPABILITIES)), rows, left=2)


def _cell(outcome: Outcome, letters: Mapping[tuple[str, str], str]) -> str:
    if outcome.engine_bytes is None:
        return letters[_kind(outcome)]
    return f"{outcome.engine_bytes / 1e6:.1f}"
