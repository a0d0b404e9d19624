"""Shrink a project's network, and measure what may have changed: layers' times by rounding, accuracy by new masks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from calibration.metrics.metric import Score, compare, load_metric, score
from exporter.bundles.bundle import Metric
from exporter.data.datasets import load_dataset, network_inputs
from exporter.masks.masked_network import masked_network
from exporter.parity import Parity
from exporter.progress import ignore
from exporter.project.settings import Project
from exporter.shrinking.plan import ShrinkPlan
from exporter.shrinking.shrink import LayerSize
from exporter.tracing.trace import run_network
from exporter.variants.rounding_cost import RoundingCost, measure_rounding
from exporter.variants.shrunk_variant import ShrinkRequest, ShrunkVariant, write_shrunk_variant

_AT_ONCE = 64


@dataclass(frozen=True)
class ShrunkNetwork:
    """What was written as the variant `pruned`.

    `path`, `plan`: the plan's file and content; its `kept_although_masked` says which masked channels stay, and why.
    `parity`: what was proven, in float64, then in float32. `sizes`: of every layer, before and after.
    """

    path: Path
    plan: ShrinkPlan
    parity: tuple[Parity, ...]
    sizes: tuple[LayerSize, ...]


@dataclass(frozen=True)
class ShrinkResult:
    """What came of shrinking.

    `rounding`: where widths were rounded. `accuracy`: of the shrunk network (`value`) beside that of the network under
    the masks as they were given (`reference`), where the two are not equal by design: channels were revived, or
    constants taken out approximately. `unmeasured`: why accuracy was not measured then.
    """

    network: ShrunkNetwork
    rounding: RoundingCost | None = None
    accuracy: Metric | None = None
    unmeasured: str | None = None


ShrinkPart = ShrunkNetwork | RoundingCost | Metric


def shrink_project(
    project: Project, request: ShrinkRequest, on_result: Callable[[ShrinkPart], None] | None = None
) -> ShrinkResult:
    """Turn a project's masked network into a smaller dense one, proven equal, and write it as the variant `pruned`.

    `on_result` gets each part of the result as soon as it is there. Raises CoopexportError when a request contradicts
    itself, there is nothing to shrink by, or a proof fails: nothing is written then; and when rounding or accuracy
    cannot be measured: the variant is written then.
    """
    tell = on_result or ignore
    variant = write_shrunk_variant(project, request)
    shrunk, options = variant.shrunk, request.options
    network = ShrunkNetwork(variant.path, shrunk.plan, shrunk.parity, shrunk.sizes)
    tell(network)
    rounding, accuracy, unmeasured = None, None, None
    if options.round_to is not None:
        rounding = measure_rounding(project, variant, options)
        tell(rounding)
    if request.revive or options.approximate is not None:
        if project.settings.data.evaluation is None:
            unmeasured = "the project names no data.evaluation"
        else:
            accuracy = _measure_accuracy(project, variant)
            tell(accuracy)
    return ShrinkResult(network, rounding, accuracy, unmeasured)


def _measure_accuracy(project: Project, variant: ShrunkVariant) -> Metric:
    """Return the metric of the shrunk network beside that of the network under the masks as they were given."""
    data = load_dataset(project, "evaluation")
    inputs = torch.from_numpy(network_inputs(project, data))
    metric = load_metric(project)
    scores: list[Score] = []
    for network in (masked_network(variant.before, variant.given, inputs[:2]).eval(), variant.shrunk.network):
        outputs = torch.cat([run_network(network, batch)[0] for batch in torch.split(inputs, _AT_ONCE)])
        scores.append(score(metric, outputs.numpy(), data.labels))
    return compare(*scores)
