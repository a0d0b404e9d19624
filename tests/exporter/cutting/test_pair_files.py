"""All pairs of a network from one load, and their proofs from the files alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from family_graphs import exported, write_all
from onnx import TensorProto, helper

from exporter.cutting.onnx_cuts import all_cuts, wanted_cuts
from exporter.cutting.pair_files import pair_name, read_pairs, write_pairs
from exporter.cutting.pair_parity import pairs_parity
from exporter.layers.candidates import layers_of
from exporter.layers.cut_points import multi_tensor_cuts, single_tensor_cuts
from exporter.onnx_graphs.index import index_graph
from exporter.onnx_graphs.session import open_session
from exporter.onnx_graphs.tensor_types import tensor_types
from jetson.errors import CoopexportError


@pytest.mark.parametrize(("name", "maximum"), [("unet_small", 4), ("two_inputs_small", 3), ("branchynet_small", 2)])
def test_all_pairs_are_written_with_weights_once_and_proven(name: str, maximum: int, tmp_path: Path) -> None:
    model = exported(name)
    pairs = write_all(model, tmp_path, maximum)
    index = index_graph(model)
    cuts = {(tensor,) for tensor in single_tensor_cuts(index)} | set(multi_tensor_cuts(index, maximum))
    assert {pair.source_tensors for pair in pairs.pairs} == cuts
    large = {tensor.raw_data for tensor in model.graph.initializer if len(tensor.raw_data) >= 1024}
    assert len(list((tmp_path / "weights").iterdir())) == len(large)
    for pair in pairs.pairs:
        for part in (pair.head, pair.tail):
            assert (tmp_path / part.file).stat().st_size < 40_000
            onnx.checker.check_model(str(tmp_path / part.file), full_check=True)
    proofs = pairs_parity(tmp_path)
    assert [proof.name for proof in proofs] == [pair.name for pair in pairs.pairs]
    assert all(proof.values_compared > 0 for proof in proofs)
    assert all(proof.difference_extended < 1e-5 for proof in proofs)
    assert read_pairs(tmp_path) == pairs


def test_standalone_pairs_hold_their_weights(tmp_path: Path) -> None:
    model = exported("branchynet_small")
    pairs = write_all(model, tmp_path, standalone=True)
    feed = {"images": np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)}
    expected = open_session(model, "disabled").run(["scores"], feed)[0]
    pairs_parity(tmp_path)
    for path in (tmp_path / "weights").iterdir():
        path.unlink()
    pair = next(item for item in pairs.pairs if "conv2" in item.name)
    feature = open_session(tmp_path / pair.head.file, "disabled").run([pair.tensors[0].name], feed)[0]
    outputs = open_session(tmp_path / pair.tail.file, "disabled").run(["scores"], {pair.tensors[0].name: feature})[0]
    assert outputs.tobytes() == expected.tobytes()


def test_a_refused_cut_names_its_pair_and_writes_nothing(tmp_path: Path) -> None:
    model = exported("densenet_small")
    index, types = index_graph(model), tensor_types(model)
    inner = next(name for name in index.makers if "stage2.unit2.conv2" in name)
    clean = single_tensor_cuts(index)[3]
    with pytest.raises(CoopexportError, match=r"^inner: cannot cut at .*2 tensors cross there"):
        write_pairs(model, {"good": [clean], "inner": [inner]}, types, tmp_path / "new")
    with pytest.raises(CoopexportError, match='a pair cannot be called "whole"'):
        write_pairs(model, {"whole": [clean]}, types, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pairs_of_the_same_network_add_up_and_another_network_is_refused(tmp_path: Path) -> None:
    model = exported("unet_small")
    index, types = index_graph(model), tensor_types(model)
    first, second = single_tensor_cuts(index)[:2]
    write_pairs(model, {"first": [first]}, types, tmp_path, None, "ab12", source_name="unet.onnx")
    pairs = write_pairs(model, {"second": [second]}, types, tmp_path, None, "ab12", source_name="unet.onnx")
    assert [pair.name for pair in pairs.pairs] == ["first", "second"]
    other = exported("branchynet_small")
    index, types = index_graph(other), tensor_types(other)
    before = contents(tmp_path)
    third = {"third": [single_tensor_cuts(index)[0]]}
    with pytest.raises(CoopexportError) as caught:
        write_pairs(other, third, types, tmp_path, None, "cd34", source_name="branchy.onnx")
    assert str(caught.value) == (
        f"{tmp_path} holds pairs of another network, unet.onnx (SHA-256 ab12); choose another folder, or delete this "
        "one first"
    )
    with pytest.raises(CoopexportError, match="pairs of this file that were made when its external weights were oth"):
        write_pairs(other, third, types, tmp_path, None, "ab12", source_name="unet.onnx")
    assert contents(tmp_path) == before


def test_other_weights_are_another_network(tmp_path: Path) -> None:
    model = exported("unet_small")
    types = tensor_types(model)
    (first, *_) = single_tensor_cuts(index_graph(model))
    write_pairs(model, {"first": [first]}, types, tmp_path)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    weight = max(changed.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weight.raw_data = bytes(len(weight.raw_data))
    before = contents(tmp_path)
    with pytest.raises(CoopexportError, match="holds pairs of another network; choose another folder"):
        write_pairs(changed, {"first": [first]}, types, tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("standalone", "remedy"), [(True, "give --standalone"), (False, "leave out --standalone")])
def test_pairs_of_another_form_are_not_replaced(standalone: bool, remedy: str, tmp_path: Path) -> None:
    model = exported("unet_small")
    types = tensor_types(model)
    first, second = single_tensor_cuts(index_graph(model))[:2]
    write_pairs(model, {"first": [first]}, types, tmp_path, standalone=standalone)
    before = contents(tmp_path)
    with pytest.raises(CoopexportError, match=f"weights.*; {remedy}, or choose another folder"):
        write_pairs(model, {"second": [second]}, types, tmp_path, standalone=not standalone)
    assert contents(tmp_path) == before


def test_a_pair_is_not_overwritten_by_one_that_is_cut_elsewhere(tmp_path: Path) -> None:
    model = exported("unet_small")
    types = tensor_types(model)
    first, second = single_tensor_cuts(index_graph(model))[:2]
    write_pairs(model, {"pair": [first]}, types, tmp_path)
    before = contents(tmp_path)
    with pytest.raises(CoopexportError, match=f"holds a pair 'pair' that is cut at {first}, not at {second}; choose"):
        write_pairs(model, {"pair": [second]}, types, tmp_path)
    assert contents(tmp_path) == before
    write_pairs(model, {"pair": [first]}, types, tmp_path)
    assert contents(tmp_path) == before


def test_the_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"something")
    model = exported("unet_small")
    index, types = index_graph(model), tensor_types(model)
    with pytest.raises(CoopexportError, match=r"holds another model\.onnx"):
        write_pairs(model, {"first": [single_tensor_cuts(index)[0]]}, types, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_names_of_pairs_are_file_names_and_differ() -> None:
    assert pair_name(["conv1"]) == "conv1"
    assert pair_name(["/block/Add", "a:0"]) == "block_Add+a_0"
    assert pair_name(["../x"]) == "_x"
    assert pair_name(["whole"]) == "cut-whole"
    assert pair_name(["..."]) == "cut-"
    assert len(pair_name(["a" * 300])) == 100
    assert pair_name(["a" * 300]) != pair_name(["a" * 301])
    model = exported("unet_small")
    index, types = index_graph(model), tensor_types(model)
    layers = layers_of(index, types)
    cuts = all_cuts(index, layers, types, 3)
    assert len(cuts) == len(single_tensor_cuts(index)) + len(multi_tensor_cuts(index, 3))
    assert not any("/" in name for name in cuts)
    first = next(layer for layer in layers if layer.clean)
    assert wanted_cuts(index, layers, [first.name, first.tensor]) == {pair_name([first.name]): (first.tensor,)}


def test_names_that_no_file_could_tell_apart_get_a_hash() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a:b"]), helper.make_node("Sin", ["a:b"], ["a/b"]),
             helper.make_node("Neg", ["a/b"], ["y"])]  # fmt: skip
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    index = index_graph(helper.make_model(helper.make_graph(nodes, "names", values[:1], values[1:])))
    cuts = wanted_cuts(index, (), ["a:b", "a/b"])
    assert list(cuts.values()) == [("a:b",), ("a/b",)]
    assert [name[:3] for name in cuts] == ["a_b", "a_b"]
    assert len(cuts) == 2
    # Each has the same name when it is asked for alone, and in a cut of several.
    assert {**wanted_cuts(index, (), ["a/b"]), **wanted_cuts(index, (), ["a:b"])} == cuts
    assert len(wanted_cuts(index, (), ["a:b+x", "a/b+x"])) == 2


def test_a_layer_has_its_own_name_before_a_tensor_that_is_called_like_it() -> None:
    """Nodes and what they make have one name: the layer conv ends behind its activation, the tensor conv before it."""
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]> net (float[4, 4] x) => (y) {
        conv = MatMul (x, x) act = Relu (conv) y = Neg (act) }""")
    for node in model.graph.node:
        node.name = node.output[0]
    index, types = index_graph(model), tensor_types(model)
    cuts = all_cuts(index, layers_of(index, types), types)
    assert cuts["conv"] == ("act",)
    assert set(cuts.values()) == {("conv",), ("act",)}
