"""One bad layer is named first, an overflow is named with its number, and just the worst layers stay in float32."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from chain_networks import LAYERS, chain, evaluator_of, images, scale_channel, subgraph_of
from hypothesis import given
from hypothesis import strategies as st

from calibration.metrics.metric import TOP1, top1
from calibration.precision.conversion import half_conversion, int8_conversion
from calibration.precision.evaluator import Evaluation, bounds_of, open_evaluator, output_error
from calibration.precision.graph_layers import element_types, node_layers
from calibration.precision.int8_ranges import RangeSettings
from calibration.precision.network_under_test import NetworkUnderTest, PairRun, Subgraph
from calibration.precision.sensitivity import LayerSensitivity, sensitivity, worst_in_float32
from exporter.bundles.bundle import CutTensorRecord, FileRecord, Metric
from exporter.encoding.specification import FLOAT32
from exporter.onnx_graphs.session import open_session, run
from jetson.engines.golden_check import OutputForm, form_from_json
from jetson.errors import CoopexportError

INPUTS = images(96)
CHAIN = chain()
MINMAX = RangeSettings("minmax")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("scaled", "bad"), [("conv1", "conv2"), ("conv2", "conv3"), ("conv3", "conv4")])
def test_the_layer_with_a_ruined_input_is_named_first(seed: int, scaled: str, bad: str) -> None:
    """One channel 1,000 times larger, undone behind: the network is the same, int8 of what reads it is not."""
    good = chain(seed)
    model = scale_channel(good, scaled, 1e3, bad)
    one, other = (run(open_session(item, "disabled"), [INPUTS])[0] for item in (good, model))
    assert np.allclose(one, other, rtol=1e-3, atol=1e-4)
    found = sensitivity(evaluator_of(model, INPUTS), [int8_conversion(subgraph_of(model), [INPUTS], MINMAX)])
    assert sorted(item.layer for item in found) == sorted([*LAYERS, "fc"])
    errors = [item.output_error for item in found]
    assert errors == sorted(errors, reverse=True)
    assert found[0].layer == bad
    assert found[0].output_error > 3 * found[1].output_error
    assert found[0].changed_answers >= max(item.changed_answers for item in found)
    healthy = sensitivity(evaluator_of(good, INPUTS), [int8_conversion(subgraph_of(good), [INPUTS], MINMAX)])
    assert healthy[0].output_error < 0.3 * found[0].output_error


def test_a_planted_overflow_is_named_with_its_number_and_kept_out_of_half() -> None:
    model = scale_channel(CHAIN, "conv2", 3e4, "conv3")
    subgraph = subgraph_of(model)
    conversion = half_conversion(subgraph, [INPUTS])
    largest = conversion.largest["conv2"]
    assert largest > 65504
    assert set(conversion.unfit) == {"conv2", "conv3"}
    assert conversion.unfit["conv2"] == f"the output of conv2 reaches {largest:.4g}, above half's 65504"
    assert conversion.fit == ("conv1", "conv4", "pool", "fc")
    evaluator = evaluator_of(model, INPUTS)
    found = sensitivity(evaluator, [conversion])
    assert {item.layer for item in found[:2]} >= {"conv2"}
    assert found[0].output_error is None
    assert found[0].unfit is not None
    assert not evaluator.evaluate({"whole": conversion.runnable(conversion.make(list(conversion.layers)))}).metric
    evaluation = evaluator.evaluate({"whole": conversion.runnable(conversion.converted(conversion.fit))})
    assert evaluation.metric
    assert evaluation.changed_answers == 0
    assert evaluation.output_error < 0.01


def test_near_overflow_is_kept_out_too_and_said_to_be_near() -> None:
    behind = half_conversion(subgraph_of(CHAIN), [INPUTS]).largest["conv2"]
    model = scale_channel(CHAIN, "conv2", 40000 / behind, "conv3")
    conversion = half_conversion(subgraph_of(model), [INPUTS])
    if conversion.largest["conv2"] <= 65504 / 4:  # channel 0 is not the one that was largest
        model = scale_channel(CHAIN, "conv2", 160000 / behind, "conv3")
        conversion = half_conversion(subgraph_of(model), [INPUTS])
    assert 65504 / 4 < conversion.largest["conv2"] < 65504
    assert "a 4th of half's 65504" in conversion.unfit["conv2"]


def test_constants_and_dead_inputs_keep_a_layer_in_float32() -> None:
    dead = chain()
    bias = next(item for item in dead.graph.initializer if item.name == "conv2.bias")
    from onnx import numpy_helper

    bias.CopyFrom(numpy_helper.from_array(np.full(8, -100, np.float32), "conv2.bias"))
    conversion = int8_conversion(subgraph_of(dead), [INPUTS], MINMAX)
    assert conversion.unfit == {"conv3": "its input is 0 everywhere on the calibration data"}
    assert conversion.fit == ("conv1", "conv2", "conv4", "fc")
    conversion.converted(conversion.fit)
    heavy = scale_channel(CHAIN, "conv2", 1e6, "conv3")
    assert "its constant conv2." in half_conversion(subgraph_of(heavy), [INPUTS[:8] / 1e6]).unfit["conv2"]


def test_what_is_kept_out_of_int8_may_run_in_half_where_its_range_allows_it() -> None:
    model = scale_channel(CHAIN, "conv2", 3e4, "conv3")
    conversion = int8_conversion(subgraph_of(model), [INPUTS], MINMAX, kept_in_half=True)
    assert conversion.halves == {"conv1", "conv4", "fc"}
    made = conversion.converted(["conv4"])
    onnx.checker.check_model(made, full_check=True)
    types = element_types(made)
    weights = {node.name: types[node.input[1]] for node in made.graph.node if node.op_type in ("Conv", "Gemm")}
    float32, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    assert weights == {
        "/conv1/Conv": half, "/conv2/Conv": float32, "/conv3/Conv": float32, "/conv4/Conv": float32, "/fc/Gemm": half
    }  # fmt: skip
    assert [node.op_type for node in made.graph.node].count("QuantizeLinear") == 1
    evaluator = evaluator_of(model, INPUTS)
    alone = int8_conversion(subgraph_of(model), [INPUTS], MINMAX)
    one, other = (
        evaluator.evaluate({"whole": item.runnable(item.converted(["conv4"]))}) for item in (conversion, alone)
    )
    assert one.output_error is not None and other.output_error is not None
    assert 0 < abs(one.output_error - other.output_error) < 0.01


def test_a_network_that_is_not_finite_in_float32_is_refused() -> None:
    inputs = INPUTS.copy()
    inputs[3] = np.nan
    with pytest.raises(CoopexportError, match="NaN or infinity"):
        half_conversion(subgraph_of(CHAIN), [inputs])


def test_an_output_of_the_head_that_overflows_has_lost() -> None:
    """The metric looks at the tail's output; an early exit is one of the network's as well."""
    names = ("x", "sent", "exit", "scores")
    ends = {name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3]) for name in names}

    def subgraph(role: str, reads: str, makes: list[str], factor: float = 1.0) -> Subgraph:
        constant = onnx.numpy_helper.from_array(np.array([factor], np.float32), "factor")
        nodes = [onnx.helper.make_node("Identity", [reads], [makes[0]], name=makes[0])]
        nodes += [onnx.helper.make_node("Mul", [reads, "factor"], [name], name=name) for name in makes[1:]]
        outputs = [ends[name] for name in makes]
        graph = onnx.helper.make_graph(nodes, role, [ends[reads]], outputs, [constant])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
        return Subgraph(role, model, FileRecord(file="", sha256=""), node_layers(model), False)

    tensor = CutTensorRecord(name="sent", shape=(3,), encoding=FLOAT32, codec="raw")
    subgraphs = subgraph("head", "x", ["sent", "exit"]), subgraph("tail", "sent", ["scores"])
    inputs = INPUTS[:, :, 0, 0]
    evaluator = open_evaluator(
        NetworkUnderTest("cut", subgraphs, (tensor,)), inputs, inputs.argmax(axis=1), (TOP1, top1)
    )
    doubled = evaluator.evaluate({"head": subgraph("head", "x", ["sent", "exit"], 2.0).model})
    assert doubled.loses_at_most(0)
    assert doubled.output_error == pytest.approx(1, rel=0.1)
    lost = evaluator.evaluate({"head": subgraph("head", "x", ["sent", "exit"], np.inf).model})
    assert np.isfinite(lost.run.outputs[0]).all()
    assert not lost.loses_at_most(100)


def test_bounds_are_such_as_an_order_takes() -> None:
    """A second output may be ruined and the metric of the first stay; an agent refuses a bound above 1."""
    evaluator = evaluator_of(CHAIN, INPUTS)
    ruined = onnx.ModelProto()
    ruined.CopyFrom(CHAIN)
    (weight,) = (tensor for tensor in ruined.graph.initializer if tensor.name == "fc.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weight), weight.name))
    for made in (CHAIN, ruined):
        bounds = bounds_of(evaluator.network, "whole", made, [INPUTS[:16]])
        assert 0 < bounds.output_error <= 1
        form_from_json(OutputForm("numbers", bounds.output_error)._asdict())


def evaluation(loss_points: float) -> Evaluation:
    measured = Metric(name="top1", value=1 - loss_points / 100, reference=1.0, samples=100)
    return Evaluation(PairRun([], [], [], []), None, measured, None, None)


# In thousandths, so that no loss lies nearer to the bound than sums are exact.
thousandths = st.integers(0, 5000).map(lambda number: number / 1000)


@given(st.lists(thousandths, min_size=1, max_size=40), thousandths)
def test_as_few_layers_stay_as_are_enough(costs: list[float], bound: float) -> None:
    """Where losses add up, so that more float32 never loses more, the number that stays is the least."""
    ranked = [LayerSensitivity("tail", str(index), cost, cost, None) for index, cost in enumerate(costs)]

    def evaluate_without(float32_layers: list[LayerSensitivity]) -> Evaluation:
        assert list(float32_layers) == ranked[: len(float32_layers)]
        return evaluation(sum(costs[len(float32_layers) :]))

    if sum(costs) <= bound:
        return  # all are converted, and nothing is searched
    found = worst_in_float32(ranked, evaluate_without, bound)
    needed = next(count for count in range(1, len(costs) + 1) if sum(costs[count:]) <= bound + 1e-6)
    if needed == len(costs):
        assert found is None
    else:
        assert found is not None
        assert len(found) == needed


def test_fewer_images_are_judged_as_if_there_were_no_others() -> None:
    few, all_of_them = evaluator_of(CHAIN, INPUTS[:20]), evaluator_of(CHAIN, INPUTS)
    conversion = int8_conversion(subgraph_of(CHAIN), [INPUTS], MINMAX)
    made = {"whole": conversion.runnable(conversion.converted(conversion.fit))}
    one, other = (evaluator.evaluate(made) for evaluator in (few, all_of_them.first(20)))
    assert (one.metric, one.changed_answers, one.output_error) == (
        other.metric,
        other.changed_answers,
        other.output_error,
    )
    assert all_of_them.evaluate(made).output_error != one.output_error
    assert all_of_them.first(1000) is all_of_them


def test_what_is_not_finite_has_lost() -> None:
    lost = replace(evaluation(0), metric=None)
    assert not lost.loses_at_most(100)
    assert evaluation(1.0).loses_at_most(1.0)
    assert not evaluation(1.01).loses_at_most(1.0)


def test_output_error_is_relative_to_what_the_outputs_vary() -> None:
    generator = np.random.default_rng(0)
    reference = generator.standard_normal((1000, 4)) * 3 + 100
    noise = generator.standard_normal((1000, 4)) * 0.03
    assert output_error(reference, reference) == 0
    assert output_error(reference, reference + noise) == pytest.approx(0.01, rel=0.1)
