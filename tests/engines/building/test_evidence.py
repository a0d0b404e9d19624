"""What a run on one machine shows of an engine for another: by architecture, by chip, and by what the graph holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from small_graphs import make_model, small_network

from engines.building.evidence import Evidence, evidence, holds_float16, is_own, other_architecture
from engines.targets.lookup import find_target, load_targets
from jetson.engines.machine import Machine

PC = Machine("Linux", "x86_64", backends={"onnxruntime": "1.31.1"})
SERVER = Machine("Linux", "aarch64")
MAC = Machine("Darwin", "arm64")
ORIN = Machine("Linux", "aarch64", board="NVIDIA Jetson Orin Nano Developer Kit", chip="tegra234", l4t="36.4.3")
NANO = Machine("Linux", "aarch64", board="NVIDIA Jetson Nano Developer Kit", chip="tegra210", l4t="32.7.4")
PROCESSORS = [target.name for target in load_targets().values() if target.chip and target.backend == "onnxruntime"]
ONE = numpy_helper.from_array(np.ones(3, np.float16), "one")


def cast(name: str, source: str, element: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [name], to=element)


def with_casts() -> onnx.ModelProto:
    """Return a network that rounds its input to half and back, as a float16 encoding does."""
    nodes = [cast("half", "x", TensorProto.FLOAT16), cast("y", "half", TensorProto.FLOAT)]
    return make_model(nodes, {"x": ["batch", 3]}, {"y": ["batch", 3]})


def with_an_initializer() -> onnx.ModelProto:
    model = make_model([cast("y", "one", TensorProto.FLOAT)], {"x": ["batch", 3]}, {"y": [3]}, [ONE])
    assert not any(attribute.i == TensorProto.FLOAT16 for node in model.graph.node for attribute in node.attribute)
    return model


def with_a_constant() -> onnx.ModelProto:
    nodes = [helper.make_node("Constant", [], ["one"], value=ONE), cast("y", "one", TensorProto.FLOAT)]
    return make_model(nodes, {"x": ["batch", 3]}, {"y": [3]})


def with_half_outputs() -> onnx.ModelProto:
    identity = helper.make_node("Identity", ["x"], ["y"])
    model = make_model([identity], {"x": ["batch", 3]}, {"y": ["batch", 3]}, output_type=TensorProto.FLOAT16)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def in_a_body() -> onnx.ModelProto:
    def body(name: str, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> onnx.GraphProto:
        return helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3])], constants
        )

    then = body("then", [cast("then", "one", TensorProto.FLOAT)], [ONE])
    plain = numpy_helper.from_array(np.ones(3, np.float32), "plain")
    otherwise = body("otherwise", [helper.make_node("Identity", ["plain"], ["otherwise"])], [plain])
    flag = numpy_helper.from_array(np.array(True), "flag")
    node = helper.make_node("If", ["flag"], ["y"], then_branch=then, else_branch=otherwise)
    return make_model([node], {"x": ["batch", 3]}, {"y": [3]}, [flag])


def in_a_function() -> onnx.ModelProto:
    opset = helper.make_opsetid("", 13)
    nodes = [cast("half", "a", TensorProto.FLOAT16), cast("b", "half", TensorProto.FLOAT)]
    function = helper.make_function("own", "Round", ["a"], ["b"], nodes, [opset])
    node = helper.make_node("Round", ["x"], ["y"], domain="own")
    model = make_model([node], {"x": ["batch", 3]}, {"y": ["batch", 3]}, domains=("own",))
    model.functions.append(function)
    return model


HALF = [with_casts, with_an_initializer, with_a_constant, with_half_outputs, in_a_body, in_a_function]


@pytest.mark.parametrize("make", HALF)
def test_float16_is_found_wherever_it_is(make: Callable[[], onnx.ModelProto]) -> None:
    model = make()
    onnx.checker.check_model(model)
    assert holds_float16(model)


def test_other_types_are_not_taken_for_it() -> None:
    assert not holds_float16(small_network())
    wide = make_model([cast("y", "x", TensorProto.DOUBLE)], {"x": ["batch", 3]}, {"y": ["batch", 3]},
                      output_type=TensorProto.DOUBLE)  # fmt: skip
    assert not holds_float16(wide)
    # An axis, or a size, of the same number as the type: 10.
    ten = make_model([helper.make_node("Flatten", ["x"], ["y"], axis=1)], {"x": [10, 10]}, {"y": [10, 10]})
    ten.graph.node[0].attribute[0].i = TensorProto.FLOAT16
    assert not holds_float16(ten)


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_board_needs_its_own_chip_for_float16_and_its_architecture_for_the_rest(name: str) -> None:
    target = find_target(name)
    own = Machine("Linux", "aarch64", chip=target.chip)
    sister = NANO if target.chip != "tegra210" else ORIN
    for machine in (PC, SERVER, MAC, sister, own):
        half = evidence(with_casts(), target, machine, PC)
        assert half is (Evidence.OWN if machine is own else Evidence.NONE)
        rest = evidence(small_network(), target, machine, PC)
        assert rest is (Evidence.ELSEWHERE if machine is PC else Evidence.OWN)


def test_a_target_is_another_machine_by_its_chip_or_by_its_architecture() -> None:
    orin, any_arm = find_target("orin-nano-cpu"), find_target("arm64-cpu")
    assert [is_own(orin, machine) for machine in (ORIN, NANO, SERVER, PC)] == [True, False, False, False]
    assert [is_own(any_arm, machine) for machine in (ORIN, NANO, SERVER, MAC, PC)] == [True, True, True, True, False]
    assert is_own(find_target("cpu"), PC)
    for make in (small_network, with_casts):
        assert evidence(make(), any_arm, SERVER, PC) is Evidence.OWN
        assert evidence(make(), any_arm, PC, PC) is Evidence.ELSEWHERE


@pytest.mark.parametrize("make", [small_network, with_casts])
def test_what_runs_anywhere_counts_where_it_was_run(make: Callable[[], onnx.ModelProto]) -> None:
    for here in (PC, SERVER):
        assert evidence(make(), find_target("cpu"), here, here) is Evidence.OWN
    assert evidence(make(), find_target("cpu"), PC, SERVER) is Evidence.ELSEWHERE
    assert evidence(make(), find_target("cpu"), MAC, SERVER) is Evidence.OWN


@pytest.mark.parametrize("name", ["orin-nano", "rtx-ada", "tensorrt-ada"])
def test_what_a_gpu_computes_is_no_matter_of_the_processor(name: str) -> None:
    assert evidence(with_casts(), find_target(name), PC, SERVER) is Evidence.OWN


NAMES = st.sampled_from(["x86_64", "AMD64", "aarch64", "arm64", "ppc64le"])


@given(NAMES, NAMES)
def test_an_architecture_is_the_same_under_each_of_its_names(one: str, other: str) -> None:
    families = ({"x86_64", "AMD64"}, {"aarch64", "arm64"}, {"ppc64le"})
    same = any({one, other} <= family for family in families)
    assert other_architecture(one, Machine("any", other)) == (None if same else other)
    assert other_architecture(None, Machine("any", other)) is None
