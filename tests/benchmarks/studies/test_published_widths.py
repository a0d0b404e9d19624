"""The published networks come out of the shrinker exactly as published, and the page says what was measured."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from benchmarks.studies.paper.experiments import CHOICES, PROBE_OTHER_SIDE, Choice, ChoiceTable, Probe
from benchmarks.studies.paper.layer_profile import (
    ConvolutionTime,
    NetworkProfile,
    channels_per_block,
    convolution_alone,
    profile_model,
    read_events,
)
from benchmarks.studies.paper.networks import (
    MAP_SIZES,
    DenseModel,
    channel_masks,
    check_dense,
    example_images,
    layer_macs,
    plain_model,
    random_vgg,
    shrink_to,
)
from benchmarks.studies.paper.page import page
from benchmarks.studies.paper.published import (
    MAC_RATIO,
    ORIGINAL,
    STEP1,
    STEP1_WIDTHS,
    STEP2,
    STEP2_CUT_WIDTHS,
    round_mixed,
    round_up,
)
from benchmarks.studies.paper.published_widths import main, widths_to_measure
from benchmarks.studies.paper.tables import Results, bound_table, latency_table, shares
from benchmarks.studies.paper.timing import Latency, Ratio, latencies, measure_blocks, runner
from exporter.models.vgg import FULL_WIDTHS, LAYER_NAMES, VGG16, vgg16
from exporter.shrinking.shrink import Shrunk
from jetson.errors import CoopexportError

LOGS = Path(__file__).resolve().parents[2] / "data" / "two_step_pruning.json"
SAMPLED = random.Random(20190311).sample(STEP2, 3)
NARROW = tuple(max(width // 8, 4) for width in STEP1_WIDTHS)


@pytest.fixture(scope="module")
def original() -> VGG16:
    return random_vgg()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return example_images(8)


@pytest.fixture(scope="module")
def step1(original: VGG16, images: torch.Tensor) -> Shrunk:
    return shrink_to(original, STEP1.widths, images)


def test_the_widths_are_those_of_the_published_logs() -> None:
    logs = json.loads(LOGS.read_text(encoding="utf-8"))
    pools = {2, 5, 9, 13, 17}  # positions among the 18 layers of the logs; bytes are elements there
    logged = {
        step: tuple(
            elements // size**2
            for elements, size in zip(
                [item for index, item in enumerate(logs[step]["bytes"]) if index not in pools], MAP_SIZES, strict=True
            )
        )
        for step in ("original", "step1", "step2")
    }
    assert logged == {"original": ORIGINAL.widths, "step1": STEP1.widths, "step2": STEP2_CUT_WIDTHS}
    for index, (model, layer) in enumerate(zip(STEP2, LAYER_NAMES, strict=True)):
        assert model.cut_layer == layer
        assert model.widths == (*STEP1_WIDTHS[:index], logged["step2"][index], *STEP1_WIDTHS[index + 1 :])


def assert_dense(shrunk: Shrunk, widths: tuple[int, ...]) -> None:
    """Compare with shapes written down here, not by the benchmark's own check."""
    shapes = {name: tuple(value.shape) for name, value in shrunk.network.state_dict().items()}
    expected: dict[str, tuple[int, ...]] = {"classifier.weight": (10, widths[-1]), "classifier.bias": (10,)}
    for layer, before, width in zip(LAYER_NAMES, (3, *widths[:-1]), widths, strict=True):
        expected[f"features.{layer}.weight"] = (width, before, 3, 3)
        expected[f"features.{layer}.bias"] = (width,)
        for vector in ("weight", "bias", "running_mean", "running_var"):
            expected[f"features.{layer.replace('conv', 'bn')}.{vector}"] = (width,)
        expected[f"features.{layer.replace('conv', 'bn')}.num_batches_tracked"] = ()
    assert shapes == expected
    proof = {item.check: item.error for item in shrunk.parity}
    assert proof["shrink"] < 1e-11
    assert tuple(item.macs_after for item in shrunk.sizes) == layer_macs(widths)


def test_step_1_is_exactly_the_published_network(step1: Shrunk) -> None:
    assert_dense(step1, STEP1.widths)


@pytest.mark.parametrize(
    "model",
    [pytest.param(model, marks=() if model in SAMPLED else pytest.mark.full, id=model.name) for model in STEP2],
)
def test_step_2_is_exactly_the_published_network(model, original: VGG16, images: torch.Tensor) -> None:
    assert_dense(shrink_to(original, model.widths, images), model.widths)


def test_the_mac_ratio_of_step_1_is_the_published_one() -> None:
    assert sum(layer_macs(FULL_WIDTHS)) == pytest.approx(313.2e6, rel=1e-3)
    assert round(sum(layer_macs(FULL_WIDTHS)) / sum(layer_macs(STEP1_WIDTHS)), 2) == MAC_RATIO


def test_outputs_of_the_random_network_show_a_swapped_channel(step1: Shrunk, images: torch.Tensor) -> None:
    network = copy.deepcopy(step1.network)
    with torch.no_grad():
        reference = network(images)
        weight = network.get_submodule("features.conv5_3").weight
        weight[:, :2] = weight[:, [1, 0]].clone()
        difference = (network(images) - reference).abs().max()
    assert difference > 1e-2 * (reference.amax(dim=0) - reference.amin(dim=0)).max()


def test_another_network_is_not_dense() -> None:
    network = vgg16(NARROW)
    check_dense(network, NARROW)
    with pytest.raises(CoopexportError, match=r"not dense: features\.conv2_1 is Conv2d\(\d+, 7.*expected.*, 9"):
        check_dense(network, (*NARROW[:2], 9, *NARROW[3:]))
    network.get_submodule("features.conv3_2").padding = (0, 0)
    with pytest.raises(CoopexportError, match="conv3_2"):
        check_dense(network, NARROW)


def test_masks_keep_the_widths_and_are_nested() -> None:
    small, large = channel_masks(STEP1_WIDTHS).keep, channel_masks(round_up(STEP1_WIDTHS, 16)).keep
    assert tuple(int(keep.sum()) for keep in small.values()) == STEP1_WIDTHS
    assert all((large[name] | ~keep).all() for name, keep in small.items())
    with pytest.raises(ValueError, match="conv1_1 has 64 channels and cannot keep 65"):
        channel_masks((65, *STEP1_WIDTHS[1:]))


def test_rounding_stops_at_the_unpruned_width_and_leaves_layers_out() -> None:
    assert round_up(STEP1_WIDTHS, 1) == STEP1_WIDTHS
    assert round_up(STEP1_WIDTHS, 16) == (32, 32, 64, 64, 96, 96, 80, 128, 112, 112, 112, 112, 112)
    assert round_up(STEP1_WIDTHS, 1000) == FULL_WIDTHS
    assert round_up((60,) * 13, 48)[:3] == (64, 64, 96)
    assert round_up(STEP1_WIDTHS, 16, exact=("conv3_3",))[5:8] == (96, 71, 128)
    with pytest.raises(ValueError, match="conv9_9"):
        round_up(STEP1_WIDTHS, 16, exact=("conv9_9",))
    with pytest.raises(ValueError, match="multiples of 0"):
        round_up(STEP1_WIDTHS, 0)


def test_mixed_rounding_needs_blocks_before_pools_only() -> None:
    assert round_mixed(STEP1_WIDTHS, 16) == (24, 32, 60, 64, 88, 84, 80, 120, 104, 112, 112, 108, 112)
    assert round_mixed(STEP1_WIDTHS, 1) == STEP1_WIDTHS


def test_the_table_measures_every_published_network() -> None:
    widths = widths_to_measure(16)
    assert widths["step 1"] == STEP1_WIDTHS
    assert {"step 1 to 8", "step 1 to 16", "step 1 to 32", "step 1 mixed"} <= set(widths)
    assert {model.widths for model in STEP2} <= set(widths.values())
    assert widths["step 2 at conv4_2, others to 16"] == (32, 32, 64, 64, 96, 96, 80, 128, 19, 112, 112, 112, 112)
    assert len(widths) == len(set(widths.values()))


def test_ratios_are_taken_within_rounds() -> None:
    # The machine is ten times slower in the second round: the medians' ratio would say nothing, each round says 4.
    samples = {"a": [[9.0, 90.0, 9.0], [4.0, 40.0, 4.0]], "b": [[3.0, 30.0, 3.0], [1.0, 10.0, 1.0]]}
    found = latencies(samples, "a")
    assert (found["b"].first_ratio.median, found["b"].steady_ratio.median) == (3.0, 4.0)
    assert (found["b"].quick_ms, found["b"].quick_ratio) == pytest.approx((1.0, 4.0))
    assert (found["b"].first_ms, found["b"].steady_ms, found["a"].steady_ms) == (3.0, 1.0, 4.0)
    assert found["a"].steady_ratio == Ratio(1.0, 1.0, 1.0)


def test_a_ratio_has_the_interval_of_its_median_and_of_few_rounds_their_range() -> None:
    rounds = 1 + np.arange(100) / 100
    found = latencies({"a": [[1.0] * 100], "b": [(1 / rounds).tolist()]}, "a")["b"].steady_ratio
    assert found.median == pytest.approx(1.495)
    assert (found.low, found.high) == pytest.approx((1.40, 1.59), abs=0.02)  # by ranks: 1.39 and 1.60
    few = latencies({"a": [[1.0] * 3], "b": [[1.0, 0.5, 0.25]]}, "a")["b"].steady_ratio
    assert few == Ratio(2.0, 1.0, 4.0)


def test_a_network_that_fails_is_named() -> None:
    def fail() -> None:
        raise RuntimeError("no memory")

    with pytest.raises(CoopexportError, match="'broken' cannot be measured: RuntimeError: no memory"):
        measure_blocks({"good": lambda: None, "broken": fail}, "good", rounds=1, runs=2)


def event(name: str, operator: str, us: int) -> dict[str, object]:
    return {"cat": "Node", "name": f"{name}_kernel_time", "dur": us, "args": {"op_name": operator}}


def test_profile_events_are_sorted_by_layer_kernel_and_kind() -> None:
    one_run = [
        {"cat": "Session", "name": "model_run", "dur": 99, "args": {}},
        event("/features/features.relu1_1/Relu_output_0_nchwc", "Conv", 10),
        event("ReorderOutput_token_3", "ReorderOutput", 2),
        event("/features/features.conv1_2/Conv", "FusedConv", 20),
        event("/features/features.pool1/MaxPool", "MaxPool", 3),
        event("/Flatten", "Flatten", 1),
        event("/classifier/Gemm", "Gemm", 4),
    ]
    warm_up = [{**item, "dur": 10_000} for item in one_run]
    profile = read_events(warm_up + one_run * 5, warm_up=1)
    assert profile == NetworkProfile(
        {"conv1_1": ConvolutionTime(10, "blocked"), "conv1_2": ConvolutionTime(20, "im2col")}, 2, 3, 5
    )
    assert profile.total_us == 40


def test_onnx_runtime_is_profiled_layer_by_layer() -> None:
    model = plain_model("narrow", random_vgg(NARROW), NARROW, example_images(4))
    profile = profile_model(model.graph, runs=4, warm_up=1)
    assert tuple(profile.convolutions) == LAYER_NAMES
    assert model.graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    runner(model.graph)()


def test_the_block_is_what_onnx_runtime_says() -> None:
    block = channels_per_block()
    assert block in (1, 4, 8, 16)
    if block > 1:
        assert convolution_alone(64, 64, 4, runs=4, warm_up=0).kernel == "blocked"
        assert convolution_alone(65, 64, 4, runs=4, warm_up=0).kernel == "im2col"


def results() -> Results:
    """Return made-up results: the original takes 10 ms, everything else 1 ms."""
    widths = {"original": FULL_WIDTHS, **widths_to_measure(16)}
    models = tuple(
        DenseModel(name, item, 1000, sum(layer_macs(item)), None if name == "original" else 7e-15, onnx.ModelProto())
        for name, item in widths.items()
    )
    ten, one = Ratio(10.0, 9.5, 10.5), Ratio(1.0, 1.0, 1.0)
    profiled = ("original", "step 1", "step 1 to 16")
    profiles = {
        name: NetworkProfile(
            {layer: ConvolutionTime(us, "im2col" if name == "step 1" else "blocked") for layer in LAYER_NAMES}, 2, 3, 4
        )
        for name, us in zip(profiled, (100.0, 20.0, 10.0), strict=True)
    }
    probed = [(inputs, PROBE_OTHER_SIDE) for inputs in (64, 81, 84, 96)] + [(PROBE_OTHER_SIDE, out) for out in (64, 80)]
    choices = [Choice(layer, multiple, 7, Ratio(1.02, 1.01, 1.03)) for layer in LAYER_NAMES for multiple in CHOICES]
    return Results(
        host={"processor": "Test CPU", "system": "Linux", "load_average": 0.1},
        onnxruntime_version="1.2.3",
        block=16,
        rounds=5,
        models=models,
        latencies={
            item.name: Latency(10.0, 12.0, 9.0, one, one, 1.0)
            if item.name == "original"
            else Latency(1.0, 2.0, 0.9, ten, ten, 10.0)
            for item in models
        },
        profiled=profiled,
        profiles=profiles,
        alone={layer: ConvolutionTime(5.0, "blocked") for layer in LAYER_NAMES},
        probes=tuple(Probe(*shape, ConvolutionTime(8.0, "blocked")) for shape in probed),
        choices=ChoiceTable(16, (Ratio(0.99, 0.98, 1.0), Ratio(1.01, 1.0, 1.02)), tuple(choices)),
    )


def test_the_table_has_a_row_per_network() -> None:
    made_up = results()
    lines = latency_table(made_up.models, made_up.latencies).splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == [item.name for item in made_up.models]
    assert len({line.count("|") for line in lines}) == 1
    assert lines[3] == (
        "| step 1 | 23 30 57 56 85 84 71 118 103 109 110 105 105 | 1,000 | 34.4 | 9.11 | 1.000 | 10.00 [9.50, 10.50] "
        "| 2.000 | 10.00 [9.50, 10.50] | 0.900 | 10.00 | 7.0e-15 |"
    )


def test_the_parts_of_a_network_are_held_against_its_macs() -> None:
    blocked, copied, reorder, pool, classifier = shares(results(), "step 1")
    assert (blocked.us, blocked.ideal_us, copied.us) == (0, 0, 260)
    before, after = layer_macs(FULL_WIDTHS), layer_macs(STEP1_WIDTHS)
    assert copied.ideal_us == pytest.approx(sum(100 * b / a for a, b in zip(before[:13], after[:13], strict=True)))
    assert [reorder.us, pool.us, classifier.us] == [2, 3, 4]
    assert pool.ideal_us == pytest.approx(3 / MAC_RATIO, rel=1e-3)


def test_the_bounds_are_judged_on_step_1_and_its_best_rounding() -> None:
    made_up = results()
    slow, fast = Ratio(5.0, 4.0, 6.0), Ratio(11.0, 10.0, 12.0)
    latencies = {
        **made_up.latencies,
        "step 1": dataclasses.replace(made_up.latencies["step 1"], steady_ratio=slow),
        "step 1 mixed": dataclasses.replace(made_up.latencies["step 1 mixed"], steady_ratio=fast),
    }
    lines = bound_table(dataclasses.replace(made_up, latencies=latencies)).splitlines()[2:]
    assert lines == [
        "| step 1 as it is | 6.01 | 5.00 | **no** |",
        "| step 1 mixed, the best rounding | 7.5 | 11.00 | yes |",
    ]


def test_the_page_holds_its_tables() -> None:
    text = page(results())
    for name in widths_to_measure(16):
        assert f"| {name} |" in text
    for layer in LAYER_NAMES:
        assert text.count(f"| {layer} |") == 2  # the times by layer and the choices
    assert "| none | -1.0 to +1.0 % |" in text
    assert "conv1_1 | 7: +2.0 % [+1.0, +3.0]" in text
    assert all(len(line) <= 120 for line in text.splitlines() if not line.startswith("|"))


def test_wrong_numbers_of_rounds_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--rounds", "0"])
    assert "at least 1" in capsys.readouterr().err
