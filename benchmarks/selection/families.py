"""Variants that are compared as one: the original, the pruned one, step 1 with its controls, and step 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.selection.candidates import VariantFiles
from exporter.bundles.accuracy_bound import keeps_bound
from exporter.bundles.bundle import SplitFile


@dataclass(frozen=True)
class CutSeries:
    """Cuts that are drawn alike, in the network's order: of one variant, or of several of step 2."""

    name: str
    splits: tuple[SplitFile, ...]


def series_to_show(
    variants: Sequence[VariantFiles], reference: float, maximum_loss_points: float
) -> tuple[CutSeries, ...]:
    """Return what a figure over layers shows, few enough to be told apart.

    The original, step 1 (or the pruned one), and of step 2, for each layer, the variant with the fewest bytes that
    keeps the bound: at most `maximum_loss_points` below `reference`. Without pruning in two steps, every variant.
    Bottlenecks are not among them: what crosses there is no layer of the others.
    """
    variants = [item for item in variants if item.step != "bottleneck"]
    steps = {item.step for item in variants}
    if steps.isdisjoint(("step1", "step2")):
        return tuple(CutSeries(f"variant {item.variant}", item.splits) for item in variants)
    wanted = ("original", "step1" if "step1" in steps else "given")
    shown = [CutSeries(f"variant {item.variant}", item.splits) for item in variants if item.step in wanted]
    narrowest = narrowest_within_bound(variants, reference, maximum_loss_points)
    if narrowest:
        points = f"{maximum_loss_points:g} point{'' if maximum_loss_points == 1 else 's'}"
        shown.append(CutSeries(f"step 2, fewest bytes within {points}", tuple(narrowest)))
    return tuple(shown)


def narrowest_within_bound(
    variants: Sequence[VariantFiles], reference: float, maximum_loss_points: float
) -> list[SplitFile]:
    """Return, for each layer that step 2 was split at within the bound, the split with the fewest bytes."""
    found: dict[str, SplitFile] = {}
    for item in variants:
        for split in item.splits if item.step == "step2" else ():
            keeps = keeps_bound(100.0 * (reference - split.metric.value), maximum_loss_points)
            best = found.get(split.layer)
            if keeps and (best is None or split.payload_bytes.mean < best.payload_bytes.mean):
                found[split.layer] = split
    return list(found.values())
