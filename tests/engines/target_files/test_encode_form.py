"""Heads and tails for a TensorRT without uint8: the same symbols, bit for bit, and nothing of uint8 left."""

from __future__ import annotations

from importlib import util
from pathlib import Path

import numpy as np
import onnx
import pytest
from encodings_of_range import specification
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from small_graphs import FEATURE_SHAPE, small_inputs, small_network

from engines.backends.registry import find_backend
from engines.target_files.encode_form import EncodedPart, encode_form
from engines.target_files.target_file import describe_values, target_file
from engines.targets.lookup import find_target
from engines.targets.target import Target
from exporter.bundles.bundle import CutTensorRecord, read_golden, read_split
from exporter.bundles.golden import golden_head_outputs, golden_of_split, golden_tail_inputs
from exporter.cutting.cut import Halves, cut
from exporter.cutting.encoded_halves import encode_halves
from exporter.encoding.specification import FLOAT16, FLOAT32, EncodeSpecification
from exporter.onnx_graphs.session import open_session, run
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError
from jetson.wire.feature import FeatureCodec
from jetson.wire.packing import PACKABLE_BITS

NANO, ORIN, ADA = find_target("nano"), find_target("orin-nano"), find_target("rtx-ada")
installed = pytest.mark.skipif(
    util.find_spec("tensorrt_rtx") is None, reason="left out: TensorRT-RTX exists for Linux on x86-64 only"
)
PACKINGS = st.sampled_from(["none", "bytes", "words"])


def bundle_of(encoding: EncodeSpecification) -> tuple[Halves, CutTensorRecord]:
    halves = encode_halves(cut(small_network(), ["feature"]), [encoding])
    return halves, CutTensorRecord(name="feature", shape=FEATURE_SHAPE, encoding=encoding, codec="raw")


def forms(halves: Halves, tensor: CutTensorRecord, target: Target) -> tuple[EncodedPart, EncodedPart]:
    head, tail = (encode_form(getattr(halves, role), role, [tensor], target) for role in ("head", "tail"))
    assert head.tensors == tail.tensors
    return head, tail


def open_file(part: EncodedPart, target: Target, count: int):
    return open_session(target_file(part.model, target, (count, count, count), "part"), "disabled")


def element_types(model: onnx.ModelProto) -> set[int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    return {value.type.tensor_type.elem_type for value in values} | {tensor.data_type for tensor in graph.initializer}


@settings(max_examples=60)
@given(st.integers(1, 8), PACKINGS, st.sampled_from([1, 4]), st.integers(0, 99), st.integers(1, 3), st.booleans())
def test_symbols_and_outputs_are_the_same_bits(
    bits: int, packing: str, channels: int, seed: int, count: int, with_nan: bool
) -> None:
    encoding = specification(bits, packing if bits in PACKABLE_BITS else "none", channels)
    halves, tensor = bundle_of(encoding)
    inputs = small_inputs(count, seed)
    if with_nan:
        inputs[0, 0, 1, 2] = np.nan
    bundle_head = EncodedPart(halves.head, (tensor,), (tensor,))
    bundle_tail = EncodedPart(halves.tail, (tensor,), (tensor,))
    head_outputs = run(open_file(bundle_head, ORIN, count), [inputs])[0]
    codec = FeatureCodec((tensor.feature,), batch=count)
    (symbols,) = codec.symbols([head_outputs])
    message = codec.encode([head_outputs])
    (tail_inputs,) = codec.decode(message)
    outputs = run(open_file(bundle_tail, ORIN, count), [tail_inputs])[0]

    head, tail = forms(halves, tensor, NANO)
    golden = head.golden(golden_of_split([head_outputs], [tail_inputs], [], [outputs]))
    found = run(open_file(head, NANO, count), [inputs])[0]
    (new,) = head.tensors
    assert found.dtype == np.int32
    assert found.tobytes() == golden_head_outputs(golden)[0].tobytes()
    here = FeatureCodec((new.feature,), batch=count)
    assert np.array_equal(here.symbols([found])[0], symbols)
    (given_to_tail,) = golden_tail_inputs(golden)
    assert given_to_tail.dtype == np.int32
    assert np.array_equal(given_to_tail, symbols)
    assert run(open_file(tail, NANO, count), [given_to_tail])[0].tobytes() == outputs.tobytes()
    assert golden["outputs"].tobytes() == outputs.tobytes()
    # What goes over the link does not change: either side may be the one without uint8.
    assert here.encode([found]) == message
    assert codec.decode(message)[0].tobytes() == tail_inputs.tobytes()
    assert here.decode(message)[0].tobytes() == given_to_tail.tobytes()


@pytest.mark.parametrize("bits", range(1, 9))
def test_nothing_of_uint8_is_left_and_small_symbols_share_words(bits: int) -> None:
    halves, tensor = bundle_of(specification(bits))
    head, tail = forms(halves, tensor, NANO)
    files = [target_file(part.model, NANO, (2, 2, 2), "part") for part in (head, tail)]
    for file in files:
        assert TensorProto.UINT8 not in element_types(file)
        assert file.ir_version <= 8
        assert [opset.version for opset in file.opset_import] == [13]
    words = [2, -(-144 * bits // 32)] if bits in PACKABLE_BITS else [2, *FEATURE_SHAPE]
    assert describe_values(files[0].graph.output) == [{"name": "symbols_0", "dtype": "int32", "shape": words}]
    assert describe_values(files[1].graph.input) == [
        {"name": "symbols_0", "dtype": "int32", "shape": [2, *FEATURE_SHAPE]}
    ]


@pytest.mark.parametrize("target", [ORIN, ADA, find_target("cpu"), find_target("agx-xavier")], ids=lambda one: one.name)
def test_targets_with_uint8_take_the_bundle_as_it_is(target: Target) -> None:
    halves, tensor = bundle_of(specification(3))
    head, tail = forms(halves, tensor, target)
    assert head.model is halves.head
    assert tail.model is halves.tail
    golden = {"inputs": np.zeros(1), "symbols_0": np.zeros(1)}
    assert head.golden(golden) == golden


@pytest.mark.parametrize("encoding", [FLOAT32, FLOAT16, specification(4, "words")], ids=["float32", "float16", "words"])
def test_what_holds_no_uint8_is_left_alone(encoding: EncodeSpecification) -> None:
    halves, tensor = bundle_of(encoding)
    assert [part.model for part in forms(halves, tensor, NANO)] == [halves.head, halves.tail]


def test_tensors_are_recoded_one_by_one() -> None:
    names, shape = ("a", "b", "c"), (4, 3)
    value = {n: helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", *shape]) for n in ("x", "y", *names)}
    parts = (
        ([helper.make_node("Identity", ["x"], [n]) for n in names], [value["x"]], [value[n] for n in names]),
        ([helper.make_node("Sum", list(names), ["y"])], [value[n] for n in names], [value["y"]]),
    )
    opsets = [helper.make_opsetid("", 13)]
    halves = Halves(
        *(helper.make_model(helper.make_graph(n, "g", i, o), opset_imports=opsets, ir_version=8) for n, i, o in parts)
    )
    encodings = [specification(5), FLOAT32, specification(2)]
    encoded = encode_halves(halves, encodings)
    pairs = zip(names, encodings, strict=True)
    tensors = [CutTensorRecord(name=n, shape=shape, encoding=e, codec="raw") for n, e in pairs]
    x = np.random.default_rng(3).normal(0, 2, (2, *shape)).astype(np.float32)
    before = open_session(encoded.head, "disabled").run(None, {"x": x})
    head, tail = (encode_form(getattr(encoded, role), role, tensors, NANO) for role in ("head", "tail"))
    golden = head.golden(golden_of_split(before, before, [], [x]))
    after = open_file(head, NANO, 2).run(None, {"x": x})
    assert [array.dtype for array in after] == [np.int32, np.float32, np.int32]
    assert [one.tobytes() for one in after] == [one.tobytes() for one in golden_head_outputs(golden)]
    assert [tensor.encoding.packing for tensor in head.tensors] == ["integers", "none", "words"]
    old = run(open_session(encoded.tail, "disabled"), before)[0]
    assert run(open_file(tail, NANO, 2), golden_tail_inputs(golden))[0].tobytes() == old.tobytes()


@installed
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("role", ["head", "tail"])
def test_tensorrt_rtx_builds_the_form_too(role: str, bits: int) -> None:
    """The one TensorRT that is at hand: it refuses what it would give another type."""
    halves, tensor = bundle_of(specification(bits, channels=4))
    part = forms(halves, tensor, NANO)[("head", "tail").index(role)]
    for batches in ((1, 1, 1), (1, 2, 4)):
        build_settings = BuildSettings(batches=batches, compute_capabilities=("8.9",))
        file = target_file(part.model, ADA, batches, role)
        assert find_backend("tensorrt-rtx").build(file, ADA, build_settings).data


@pytest.mark.parametrize("layer", ["conv4_1", "pool3"])
def test_a_bundle_on_the_disk_is_recoded(split_project: Path, layer: str) -> None:
    folder = split_project / "out" / "pruned"
    bundle = read_split(folder, layer)
    golden = read_golden(folder, bundle.golden)
    for role, names in (("head", ("inputs", "symbols_0")), ("tail", ("taken_0", "outputs"))):
        model = onnx.load(str(folder / getattr(bundle, role).file))
        part = encode_form(model, role, bundle.tensors, NANO)  # type: ignore[arg-type]
        here = part.golden(golden)
        assert set(here) == {*golden, "taken_0"}
        count = len(here["inputs"])
        found = run(open_file(part, NANO, count), [here[names[0]]])[0]
        assert found.tobytes() == here[names[1]].tobytes()


def test_another_range_than_the_manifests_is_refused() -> None:
    halves, tensor = bundle_of(specification(8))
    for tensor_proto in halves.head.graph.initializer:
        if tensor_proto.name == "symbols_0.low":
            tensor_proto.CopyFrom(numpy_helper.from_array(np.float32(-0.25), "symbols_0.low"))
    with pytest.raises(CoopexportError, match=r"symbols_0\.low is not what its manifest says of the 8-bit encoding"):
        encode_form(halves.head, "head", [tensor], NANO)


def test_a_graph_without_the_encoding_is_refused() -> None:
    _, tensor = bundle_of(specification(8))
    with pytest.raises(CoopexportError, match=r"the head has no ai\.coopexport node at 'symbols_0'"):
        encode_form(small_network(), "head", [tensor], NANO)
