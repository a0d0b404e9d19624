"""Preflight against the one real TensorRT at hand: what it refuses is refused there, and what it lets by builds."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_node_graphs import IMAGE, ROW, WEIGHT, T, constant, graph_of, node, one, quantised, supported, unsupported
from small_graphs import small_halves, small_network

from engines.backends.registry import find_backend
from engines.preflight.check import buildable_graph_warnings, preflight
from engines.target_files.target_file import target_file
from engines.targets.lookup import find_target
from exporter.bundles.bundle import read_split, split_layers
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError

pytestmark = pytest.mark.skipif(
    util.find_spec("tensorrt_rtx") is None, reason="left out: TensorRT-RTX exists for Linux on x86-64 only"
)
BACKEND = find_backend("tensorrt-rtx")
ADA, TURING = find_target("rtx-ada"), find_target("rtx-turing")
ADA_SETTINGS, TURING_SETTINGS = (BuildSettings(compute_capabilities=(item,)) for item in ("8.9", "7.5"))


def refusals(model: onnx.ModelProto, target=ADA, build_settings=ADA_SETTINGS) -> list[str]:
    return [str(problem) for problem in preflight(model, target, build_settings) if problem.refused]


def builds(model: onnx.ModelProto, target=ADA, build_settings=ADA_SETTINGS) -> bool:
    try:
        return len(BACKEND.build(model, target, build_settings).data) > 0
    except CoopexportError:
        return False


@pytest.mark.parametrize(("name", "model"), [pytest.param(*pair, id=pair[0]) for pair in supported()])
def test_what_passes_builds(name: str, model: onnx.ModelProto) -> None:
    assert refusals(model) == []
    assert builds(model)


@pytest.mark.parametrize(("name", "model"), [pytest.param(*pair, id=pair[0]) for pair in unsupported()])
def test_what_is_refused_does_not_build(name: str, model: onnx.ModelProto) -> None:
    assert refusals(model)
    assert not builds(model)


def test_what_builds_into_something_else_is_refused() -> None:
    assert builds(quantised(None))
    assert any("becomes int8 there without a word" in said for said in refusals(quantised(None)))


@pytest.mark.parametrize(
    ("name", "model", "passes"),
    [
        ("Gemm", one("Gemm", WEIGHT), False),
        ("MatMul", one("MatMul", WEIGHT), False),
        ("Einsum of two", one("Einsum", WEIGHT, equation="ij,jk->ik"), False),
        ("Einsum of one", one("Einsum", equation="ij->ij"), True),
        ("GRU", one("GRU", *[WEIGHT.repeat(3, 0)[None]] * 2, x=[1, 1, 4], y=[1, 1, 1, 4], hidden_size=4), False),
        ("Conv", one("Conv", WEIGHT.reshape(4, 4, 1, 1), x=IMAGE), True),
        ("Softmax", one("Softmax"), True),
        (
            "Gemm in half",
            graph_of(
                [
                    node("Cast", ["x"], ["h"], to=T.FLOAT16),
                    node("Gemm", ["h", "w"], ["g"]),
                    node("Cast", ["g"], ["y"], to=T.FLOAT),
                ],
                [("x", T.FLOAT, ROW)],
                [("y", T.FLOAT, ROW)],
                [constant("w", WEIGHT.astype("float16"))],
            ),
            True,
        ),
    ],
)
def test_matrix_products_at_turing(name: str, model: onnx.ModelProto, passes: bool) -> None:
    assert (refusals(model, TURING, TURING_SETTINGS) == []) == passes == builds(model, TURING, TURING_SETTINGS)
    assert builds(model)
    assert refusals(model) == []


def test_a_classifier_tail_at_turing_is_refused_with_its_layer() -> None:
    file = target_file(small_network(), TURING, (1, 1, 1), "net")
    with pytest.raises(CoopexportError, match=r"net cannot be built for rtx-turing: 1 problem: .*fp16: layer classify"):
        buildable_graph_warnings(file, TURING, TURING_SETTINGS, "net")
    both = BuildSettings(compute_capabilities=("7.5", "8.9"))
    assert refusals(file, ADA, both)
    head = target_file(small_halves().head, TURING, (1, 1, 1), "head")
    assert refusals(head, TURING, TURING_SETTINGS) == []
    assert builds(head, TURING, TURING_SETTINGS)


_KINDS = ("Relu", "Sigmoid", "Exp", "Neg", "Floor", "Round", "Tanh", "Hardmax", "Bernoulli")


@settings(max_examples=25)
@given(st.lists(st.sampled_from(_KINDS), min_size=1, max_size=5), st.sampled_from([T.FLOAT, T.UINT8, T.DOUBLE]))
def test_chains_are_judged_as_they_are_built(kinds: list[str], end: int) -> None:
    """A chain of drawn operators, in and out of a drawn type."""
    first = node("Cast", ["x"], ["t0"], to=T.FLOAT)
    chain = [node(kind, [f"t{i}"], [f"t{i + 1}"], name=f"n{i}") for i, kind in enumerate(kinds)]
    last = node("Cast", [f"t{len(kinds)}"], ["y"], to=end)
    model = graph_of([first, *chain, last], [("x", end, ROW)], [("y", end, ROW)], opset=15)
    assert (refusals(model) == []) == builds(model)


@pytest.mark.parametrize("variant", ["original", "pruned"])
def test_nothing_of_the_projects_bundles_is_refused(split_project: Path, variant: str) -> None:
    folder = split_project / "out" / variant
    for layer in split_layers(folder):
        bundle = read_split(folder, layer)
        for record in (bundle.head, bundle.tail):
            model = onnx.load(str(folder / record.file))
            for batches in ((1, 1, 1), (1, 2, 4)):
                build_settings = ADA_SETTINGS._replace(batches=batches)
                file = target_file(model, ADA, batches, record.file)
                assert preflight(file, ADA, build_settings) == []
                assert builds(file, ADA, build_settings)
