"""Real TensorRT-RTX engines of published networks: what can be built is built, what cannot is refused beforehand."""

from __future__ import annotations

import random
from importlib import util

import pytest

from benchmarks.studies.engine_matrix.conversion import PRECISIONS, converted
from benchmarks.studies.engine_matrix.matrix import (
    CAPABILITIES,
    STATIC,
    Combination,
    Outcome,
    all_combinations,
    build_all,
)
from benchmarks.studies.engine_matrix.networks import NETWORKS, cut_in_the_middle
from benchmarks.studies.engine_matrix.page import page
from benchmarks.studies.peers.case_files import NetworkSource

pytestmark = pytest.mark.skipif(
    util.find_spec("tensorrt_rtx") is None, reason="left out: TensorRT-RTX exists for Linux on x86-64 only"
)
BY_NAME = {source.name: source for source in NETWORKS}
# MobileNetV2 classifies by a convolution; the others by a matrix product, which Turing has in half precision only.
WITHOUT_GEMM = ("MobileNetV2",)
# One of each kind: the smallest in which the weights are most of an engine.
SAMPLES = (NetworkSource("ResNet-10", "pytorchcv.models.resnet", "resnet10"), BY_NAME["MobileNetV2"])


def is_expected(outcome: Outcome) -> bool:
    """Tell whether an engine came of it just where one can."""
    wanted = outcome.combination
    has_float_gemm = (
        wanted.role == "tail" and not wanted.precision.endswith("fp16") and outcome.network not in WITHOUT_GEMM
    )
    if wanted.compute_capability == "7.5" and has_float_gemm:
        return outcome.refused_before and "7.5" in str(outcome.reason)
    return outcome.engine_bytes is not None and outcome.engine_bytes > 100_000


def test_the_matrix_is_complete() -> None:
    wanted = all_combinations()
    assert len(wanted) == len(set(wanted)) == 2 * 4 * 2 * 6
    assert set(BY_NAME) == {"VGG-16", "ResNet-18", "ResNet-50", "MobileNetV2", "DenseNet-121", "EfficientNet-B0"}


@pytest.mark.parametrize("source", SAMPLES, ids=lambda source: source.name)
def test_a_sample_is_built(source: NetworkSource) -> None:
    """One of each kind: half, precision and batch; the compute capabilities are drawn, Turing's tails are all in."""
    draw = random.Random(f"{source.name} 6")
    kinds: dict[tuple[object, ...], list[Combination]] = {}
    for item in all_combinations():
        kinds.setdefault((item.role, item.precision, item.batches), []).append(item)
    chosen = [draw.choice(group) for group in kinds.values()]
    chosen += [item for item in all_combinations() if item.role == "tail" and item.compute_capability == "7.5"]
    compared = [Combination("tail", precision, "8.9", STATIC) for precision in PRECISIONS[:3]]
    wanted = sorted({*compared, *chosen}, key=lambda item: (item.role, item.precision))  # each is converted once
    outcomes = list(build_all(cut_in_the_middle(source), wanted, converted))
    assert [item for item in outcomes if not is_expected(item)] == []
    sizes = {item.combination: item.engine_bytes or 0 for item in outcomes}
    fp32, fp16, int8 = (sizes[item] for item in compared)
    assert max(fp16, int8) < 0.6 * fp32


@pytest.mark.full
@pytest.mark.parametrize("name", BY_NAME)
def test_every_engine_is_built(name: str) -> None:
    outcomes = list(build_all(cut_in_the_middle(BY_NAME[name]), all_combinations(), converted))
    assert len(outcomes) == 96
    assert [item for item in outcomes if not is_expected(item)] == []


def test_the_page_names_sizes_and_refusals() -> None:
    head = [Combination("head", "fp32", capability, (1, 1, 1)) for capability in CAPABILITIES]
    tail = [Combination("tail", "fp32", capability, (1, 1, 1)) for capability in CAPABILITIES]
    dynamic = [Combination("tail", "fp32", capability, (1, 4, 16)) for capability in CAPABILITIES]
    outcomes = [Outcome("Net", item, 1_500_000, None) for item in (*head, *tail[1:], *dynamic[1:])]
    outcomes[6:6] = [
        Outcome("Net", item, None, "1 problem: no float Gemm: layer output", True, "no float Gemm")
        for item in (tail[0], dynamic[0])
    ]
    text = page(outcomes, {"Net": "stage2"}, {"processor": "a CPU", "system": "Linux"}, "1.7.1.116")
    assert "| Net | 18 | 16 |" in text
    assert "## Net, cut after `stage2`" in text
    assert "| head | fp32 | 1.5 | 1.5 | 1.5 | 1.5 | 1.5 | 1.5 |" in text
    assert "| tail | fp32 | a / a | 1.5 / 1.5 | 1.5 / 1.5 | 1.5 / 1.5 | 1.5 / 1.5 | 1.5 / 1.5 |" in text
    assert "| a | preflight | no float Gemm | Net: 1 problem: no float Gemm: layer output |" in text
