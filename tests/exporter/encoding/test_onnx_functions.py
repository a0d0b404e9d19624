"""Encoder and decoder in the graph compute the NumPy reference in every bit, and TensorRT-RTX takes all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import util

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper

from engines.building.build import build_engine
from exporter.cutting.cut import Halves
from exporter.cutting.encoded_halves import encode_halves
from exporter.encoding.specification import (
    FLOAT16,
    FLOAT32,
    ClipRange,
    EncodeSpecification,
    affine_specification,
    decode,
    encode,
    feature_tensor,
)
from exporter.onnx_graphs.session import open_session
from jetson.errors import CoopexportError
from jetson.wire.feature import FeatureCodec
from jetson.wire.packing import PACKABLE_BITS

SHAPES = ((4, 4, 4), (3, 5, 7), (9,), (2, 5))
any_float32 = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)
EXTREMES = np.float32([np.nan, np.inf, -np.inf, 1e-45, -0.0, 3.4e38, -3.4e38])


def halves_of(shape: tuple[int, ...]) -> Halves:
    """Return a head and a tail that each do one comparison, so that nothing is folded away."""

    def one(reads: str, makes: str) -> onnx.ModelProto:
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name in (reads, makes)]
        node = helper.make_node("Identity", [reads], [makes])
        graph = helper.make_graph([node], "half", values[:1], values[1:])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)

    return Halves(one("x", "f"), one("f", "y"))


def specification_of(bits: int, packing, channels: int, seed: int = 0) -> EncodeSpecification:
    generator = np.random.default_rng(seed)
    lows = generator.normal(size=channels)
    highs = lows + generator.uniform(0.5, 4, channels)
    if channels > 1:
        highs[0] = lows[0]  # a constant channel
    limits = [tuple(map(float, item)) for item in (lows, highs)]
    return affine_specification(ClipRange(*limits, "minmax", None, 8, *limits), bits, packing)


def modes() -> Iterator[tuple[int, str, str]]:
    for bits in range(1, 9):
        for packing in ("none", "bytes", "words", "integers"):
            if packing in ("none", "integers") or bits in PACKABLE_BITS:
                yield from ((bits, packing, granularity) for granularity in ("tensor", "channel"))


def in_runtime(
    specification: EncodeSpecification, feature: np.ndarray, optimisation="disabled"
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the head sends and the tail decodes in ONNX Runtime."""
    shape = feature.shape[1:]
    encoded = encode_halves(halves_of(shape), [specification])
    for part in (encoded.head, encoded.tail):
        onnx.checker.check_model(part, full_check=True)
    (sent,) = open_session(encoded.head, optimisation).run(None, {"x": feature})
    codec = FeatureCodec((feature_tensor(specification, "f", shape),), batch=len(feature))
    (taken,) = codec.decode(codec.encode([sent]))
    (decoded,) = open_session(encoded.tail, optimisation).run(None, {"symbols_0": taken})
    return sent, decoded


def check(specification: EncodeSpecification, feature: np.ndarray, optimisation="disabled") -> None:
    sent, decoded = in_runtime(specification, feature, optimisation)
    expected = encode(specification, feature)
    assert (sent.dtype, sent.shape) == (specification.symbol_dtype, expected.shape)
    assert sent.tobytes() == expected.tobytes()
    assert decoded.tobytes() == decode(specification, expected, feature.shape[1:]).tobytes()


@pytest.mark.parametrize(("bits", "packing", "granularity"), list(modes()))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reference_and_graph_agree_in_every_mode(
    bits: int, packing: str, granularity: str, shape: tuple[int, ...]
) -> None:
    if granularity == "channel" and len(shape) == 1:
        shape = (9, 1)
    specification = specification_of(bits, packing, shape[0] if granularity == "channel" else 1, seed=bits)
    feature = np.random.default_rng(1).normal(0, 3, (3, *shape)).astype(np.float32)
    feature.reshape(-1)[: len(EXTREMES)] = EXTREMES
    check(specification, feature)
    check(specification, feature, "all")


@settings(max_examples=150)
@given(
    st.sampled_from([mode for mode in modes() if mode[2] == "tensor"]),
    st.integers(0, 1000),
    arrays.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 20)), elements=any_float32),
)
def test_reference_and_graph_agree_in_every_bit_of_any_feature(mode, seed: int, feature: np.ndarray) -> None:
    bits, packing, _ = mode
    check(specification_of(bits, packing, 1, seed), feature)


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 20)), elements=any_float32))
def test_float16_agrees_in_every_bit(feature: np.ndarray) -> None:
    check(FLOAT16, np.concatenate([feature.reshape(-1), EXTREMES])[np.newaxis])


def test_float32_leaves_the_halves_alone() -> None:
    halves = halves_of((3,))
    assert encode_halves(halves, [FLOAT32]) is halves


def test_several_tensors_cross_each_in_its_own_way() -> None:
    """Two modes that share a function name, and one tensor in float32 between them."""
    shape, names = (4, 3), ("a", "b", "c")
    value = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape]) for name in ("x", "y", *names)
    }
    heads = [helper.make_node("Identity", ["x"], [name]) for name in names]
    head = helper.make_graph(heads, "head", [value["x"]], [value[name] for name in names])
    tail = helper.make_graph(
        [helper.make_node("Sum", list(names), ["y"])], "tail", [value[n] for n in names], [value["y"]]
    )
    halves = Halves(
        *(helper.make_model(part, opset_imports=[helper.make_opsetid("", 13)], ir_version=8) for part in (head, tail))
    )
    specifications = [specification_of(8, "none", 1), FLOAT32, specification_of(3, "none", 4)]
    encoded = encode_halves(halves, specifications)
    for part in (encoded.head, encoded.tail):
        onnx.checker.check_model(part, full_check=True)
        assert len({function.name for function in part.functions}) == len(part.functions) == 1
    feature = np.random.default_rng(2).normal(0, 2, (5, *shape)).astype(np.float32)
    sent = open_session(encoded.head, "disabled").run(None, {"x": feature})
    assert [item.name for item in encoded.head.graph.output] == ["symbols_0", "b", "symbols_2"]
    decoded = []
    for specification, one in zip(specifications, sent, strict=True):
        assert one.tobytes() == encode(specification, feature).tobytes()
        decoded.append(decode(specification, one, shape))
    given_names = [item.name for item in encoded.tail.graph.input]
    (outputs,) = open_session(encoded.tail, "disabled").run(None, dict(zip(given_names, sent, strict=True)))
    assert outputs.tobytes() == (decoded[0] + decoded[1] + decoded[2]).tobytes()


def test_a_tensor_of_integers_is_refused_by_name() -> None:
    halves = halves_of((3,))
    for part in (halves.head.graph.output, halves.tail.graph.input):
        part[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(CoopexportError, match="'f' crosses the cut and is not a float32 tensor"):
        encode_halves(halves, [specification_of(8, "none", 1)])


@pytest.mark.skipif(
    util.find_spec("tensorrt_rtx") is None, reason="left out: TensorRT-RTX exists for Linux on x86-64 only"
)
@pytest.mark.parametrize(
    ("shape", "depths"),
    [((3, 5, 7), range(1, 9)), ((8, 4, 4), (2, 4)), pytest.param((8, 4, 4), range(1, 9), marks=pytest.mark.full)],
    ids=str,
)
def test_tensorrt_rtx_builds_both_halves_of_every_mode(shape: tuple[int, ...], depths: Sequence[int]) -> None:
    """The backend refuses an engine whose inputs or outputs have another type than the graph declares.

    `depths`: of the second shape, whose packed bytes are all full, those that are packed are enough.
    """
    specifications = [
        specification_of(bits, packing, shape[0] if granularity == "channel" else 1)
        for bits, packing, granularity in modes()
        if bits in depths
        if granularity == "tensor" or packing == "none"
        if packing != "integers" or bits not in PACKABLE_BITS  # where words are taken
    ]
    for specification in [*specifications, FLOAT16, FLOAT32]:
        encoded = encode_halves(halves_of(shape), [specification])
        for part in (encoded.head, encoded.tail):
            assert len(build_engine(part, "rtx-ada").data) > 0
