"""The running pairs of the demo: every held-out image through head, bytes and tail, and how fast that would be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures.ways import map_ways
from benchmarks.selection.project_selection import select_for_project
from benchmarks.selection.selector import INPUT, OUTPUT, Candidate, LinkChoice, latency_ms
from calibration.metrics import metric
from engines.building.build_items import item_of_whole
from engines.building.open_engine import open_engine
from engines.building.pair import open_pair
from engines.targets.lookup import find_target
from exporter.bottleneck.design import REDUCTION
from exporter.bundles.accuracy_bound import keeps_bound
from exporter.bundles.bundle import Metric
from exporter.data.datasets import load_dataset, network_inputs
from exporter.project.settings import Project
from exporter.variants.layer_graphs import trained_records
from exporter.variants.plans import ORIGINAL, STEP_ONE
from exporter.variants.record import VariantRecord
from jetson.engines.golden_check import run_in_batches

_GOODPUTS_BPS = np.geomspace(1e5, 1e8, 121)


@dataclass(frozen=True)
class PairResult:
    """What the running pair of a variant gave on the held-out images.

    `metric`: of the pair, against the unpruned network; `bytes_per_image`: mean message size.
    """

    variant: str
    layer: str
    metric: Metric
    bytes_per_image: float


@dataclass(frozen=True)
class PredictedLatency:
    """End-to-end latencies on one link in milliseconds: of the pair, and of the best without a cut.

    `device_ms`, `edge_ms`: the fastest that keeps the bound with all on the device, or all on the edge and the image
    raw or coded; infinite where none does. `best`: what the selection chooses.
    """

    link: str
    pair_ms: float
    device_ms: float
    edge_ms: float
    best: Candidate

    @property
    def gain(self) -> float:
        """Return how many times faster the pair is than the better of device and edge alone."""
        return min(self.device_ms, self.edge_ms) / self.pair_ms


def narrowest(project: Project, layer: str) -> str:
    """Return the variant that sends the fewest channels after `layer` within the project's bound of accuracy.

    Step 1 where none of step 2 keeps it.
    """
    narrow = [record for record in _within_bound(project, "step2") if record.method["layer"] == layer]
    return min(narrow, key=lambda record: int(record.method["width"])).variant if narrow else STEP_ONE


def strongest_bottleneck(project: Project) -> tuple[str, str] | None:
    """Return variant and layer of the bottleneck with the fewest bytes within the project's bound, if there is one."""
    found = _within_bound(project, "bottleneck")
    if not found:
        return None
    strongest = min(found, key=lambda record: float(record.method["estimated_bytes"]))
    return strongest.variant, REDUCTION


def _within_bound(project: Project, step: str) -> list[VariantRecord]:
    bound = project.settings.select.maximum_loss_points
    return [one for one in trained_records(project) if one.step == step and keeps_bound(one.metric.loss_points, bound)]


def run_pair(project: Project, variant: str, layer: str) -> PairResult:
    """Push every held-out image, one by one, through head, bytes and tail; compare with the unpruned network."""
    cpu = find_target("cpu")
    evaluation = load_dataset(project, "evaluation")
    pair = open_pair(project.variant_folder(variant), layer, cpu, cpu)
    outputs: list[NDArray[np.float32]] = []
    sizes: list[int] = []
    for image in evaluation.images:
        scores, size_bytes = pair.infer(image)
        outputs.append(scores)
        sizes.append(size_bytes)
    unpruned = open_engine(item_of_whole(project.variant_folder(ORIGINAL)), cpu)
    reference = run_in_batches(unpruned, [network_inputs(project, evaluation)], batch=1)[0]
    chosen = metric.load_metric(project)
    compared = metric.compare(
        metric.score(chosen, reference, evaluation.labels),
        metric.score(chosen, np.concatenate(outputs), evaluation.labels),
    )
    return PairResult(variant, layer, compared, float(np.mean(sizes)))


def predict_latencies(project: Project, result: PairResult) -> tuple[PredictedLatency, ...]:
    """Return for each link of the project what the selection predicts of the pair, and of the network without a cut.

    Raises CoopexportError as `select_for_project`.
    """
    selection = select_for_project(project, project.settings.select, "cpu").selection
    pair = next(item for item in selection.candidates if (item.variant, item.layer) == (result.variant, result.layer))
    return tuple(
        PredictedLatency(
            choice.link,
            latency_ms(pair, choice.goodput_bps, choice.round_trip_ms),
            _least_ms(selection.candidates, OUTPUT, choice),
            _least_ms(selection.candidates, INPUT, choice),
            selection.candidates[choice.candidate],
        )
        for choice in selection.links
    )


def _least_ms(candidates: Sequence[Candidate], layer: str, link: LinkChoice) -> float:
    """Return the latency of the fastest candidate cut at `layer` that may be chosen."""
    allowed = [item for item in candidates if item.layer == layer and not item.reason]
    return min((latency_ms(item, link.goodput_bps, link.round_trip_ms) for item in allowed), default=float("inf"))


@dataclass(frozen=True)
class WhereItPays:
    """The goodput at which the best split is the most times as fast as the best without a cut."""

    goodput_bps: float
    gain: float


def where_it_pays(project: Project) -> WhereItPays:
    """Return where a split pays most, of goodputs from 100 kbit/s to 100 Mbit/s, a device as slow as assumed.

    Raises CoopexportError as `select_for_project`.
    """
    selected = select_for_project(project, project.settings.select, "cpu")
    slowdown = selected.settings.device_slowdown
    found = map_ways(selected.selection.candidates, slowdown, [slowdown], _GOODPUTS_BPS)
    best = int(found.gains[0].argmax())
    return WhereItPays(float(_GOODPUTS_BPS[best]), float(found.gains[0, best]))
