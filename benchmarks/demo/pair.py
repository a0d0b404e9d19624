"""The running pair of the demo: every held-out image through head, bytes and tail, and how fast that would be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.selection.project_selection import select_for_project
from benchmarks.selection.selector import Candidate, latency_ms
from calibration.metrics import metric
from engines.building.build_items import item_of_whole
from engines.building.open_engine import open_engine
from engines.building.pair import open_pair
from engines.targets.lookup import find_target
from exporter.bundles.bundle import Metric
from exporter.data.datasets import load_dataset, network_inputs
from exporter.project.settings import Project
from exporter.variants.layer_graphs import trained_records
from exporter.variants.plans import ORIGINAL, STEP_ONE
from jetson.engines.golden_check import run_in_batches


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
    """End-to-end latencies on one link in milliseconds: of the pair, and of the best candidate there."""

    link: str
    pair_ms: float
    best_ms: float
    best: Candidate


def narrowest(project: Project, layer: str) -> str:
    """Return the variant that sends the fewest channels after `layer` within the project's bound of accuracy.

    Step 1 where none of step 2 keeps it.
    """
    bound = project.settings.select.maximum_loss_points
    narrow = [
        record
        for record in trained_records(project)
        if record.step == "step2" and record.method["layer"] == layer and record.metric.loss_points <= bound
    ]
    return min(narrow, key=lambda record: int(record.method["width"])).variant if narrow else STEP_ONE


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
    """Return for each link of the project what the selection predicts of the pair, and of the best candidate.

    Raises CoopexportError as `select_for_project`.
    """
    selection = select_for_project(project, project.settings.select, "cpu").selection
    pair = next(item for item in selection.candidates if (item.variant, item.layer) == (result.variant, result.layer))
    return tuple(
        PredictedLatency(
            choice.link,
            latency_ms(pair, choice.goodput_bps),
            choice.latency_ms,
            selection.candidates[choice.candidate],
        )
        for choice in selection.links
    )
