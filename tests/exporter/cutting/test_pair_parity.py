"""Pairs are proven from their files, step by step; a pair that is a little off is caught."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from family_graphs import exported, write_all
from onnx import TensorProto, helper, numpy_helper

from exporter.cutting import pair_parity as pair_gates
from exporter.cutting.pair_files import write_pairs
from exporter.cutting.pair_parity import PROOFS_FILE, PairProof, pairs_parity
from exporter.onnx_graphs.tensor_types import tensor_types
from jetson.errors import CoopexportError, ParityError


def test_proving_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = write_all(exported("branchynet_small"), tmp_path)
    names = [pair.name for pair in pairs.pairs]
    proven: list[str] = []
    exact_parity = pair_gates._exact_parity

    def interrupted(folder, record, feed, reference):
        if len(proven) == 3:
            raise KeyboardInterrupt
        proven.append(record.name)
        return exact_parity(folder, record, feed, reference)

    monkeypatch.setattr(pair_gates, "_exact_parity", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pairs_parity(tmp_path)
    monkeypatch.setattr(
        pair_gates,
        "_exact_parity",
        lambda folder, record, *rest: proven.append(record.name) or exact_parity(folder, record, *rest),
    )
    progress: list[int] = []
    pairs_parity(tmp_path, on_progress=progress.append)
    assert proven == names
    assert progress == list(range(3, len(names)))
    pairs_parity(tmp_path)
    assert proven == names  # nothing is run again
    pairs_parity(tmp_path, {"images": np.zeros((1, 3, 32, 32), np.float32)})
    assert proven == names * 2  # other inputs are another proof


def test_a_weight_of_the_tail_that_is_a_little_off_is_caught(tmp_path: Path) -> None:
    pairs = write_all(exported("branchynet_small"), tmp_path, standalone=True)
    pair = next(item for item in pairs.pairs if "conv3" in item.name)
    pairs_parity(tmp_path)
    tail = onnx.load(str(tmp_path / pair.tail.file))
    bias = next(item for item in tail.graph.initializer if item.name == "fc2.bias")
    values = numpy_helper.to_array(bias).copy()
    values[0] += np.float32(1e-5)
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    changed = tail.SerializeToString(deterministic=True)
    (tmp_path / pair.tail.file).write_bytes(changed)
    with pytest.raises(CoopexportError, match=f"{pair.tail.file} is not the file that its manifest names"):
        pairs_parity(tmp_path, {"images": np.ones((1, 3, 32, 32), np.float32)})
    manifest = tmp_path / "pairs.json"
    sha256 = pair_gates.sha256_of_bytes(changed)
    manifest.write_text(manifest.read_text().replace(pair.tail.sha256, sha256))
    with pytest.raises(CoopexportError, match=f"{pair.name}: 'scores' of head and tail differs from the whole"):
        pairs_parity(tmp_path)


def test_damaged_weights_and_proofs_are_refused(tmp_path: Path) -> None:
    write_all(exported("branchynet_small"), tmp_path)
    pairs_parity(tmp_path)
    (tmp_path / PROOFS_FILE).write_text('{"schema": "coopexport.pair-proofs/1.0", "proofs": [{"name": 3}]}')
    with pytest.raises(CoopexportError, match="is malformed; delete it"):
        pairs_parity(tmp_path)
    (tmp_path / PROOFS_FILE).unlink()
    weight = next((tmp_path / "weights").iterdir())
    weight.write_bytes(bytes(weight.stat().st_size))
    with pytest.raises(CoopexportError, match=f"{weight.name} is missing or damaged"):
        pairs_parity(tmp_path)
    with pytest.raises(CoopexportError, match=r"there is no .*pairs\.json"):
        pairs_parity(tmp_path / "none")


def test_outputs_that_are_not_finite_prove_nothing(tmp_path: Path) -> None:
    write_all(exported("branchynet_small"), tmp_path)
    with pytest.raises(CoopexportError, match="output 'scores' is not finite for these inputs"):
        pairs_parity(tmp_path, {"images": np.full((1, 3, 32, 32), np.nan, np.float32)})


HEAD = '<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 2]>'


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"{HEAD} {text}")


def proofs_of(text: str, tensor: str, folder: Path, **inputs: np.ndarray) -> tuple[PairProof, ...]:
    """Cut the graph of `text` at one tensor, and prove the pair."""
    model = parsed(text)
    write_pairs(model, {"pair": [tensor]}, tensor_types(model), folder)
    return pairs_parity(folder, inputs or None)


def test_an_empty_output_is_no_proof(tmp_path: Path) -> None:
    """Nothing of x is above 5 but where x is: noise never is, and not its cosine."""
    found = "float[2, 4] x) => (int64[2, n] y) { a = Cos (x) t = Constant <value_float = 5.0> () b = Greater (a, t)"
    with pytest.raises(ParityError, match=r"^pair: written and not proven: output 'y': empty \(2x0\), so that"):
        proofs_of(f"net ({found} y = NonZero (b) }}", "a", tmp_path)
    assert not (tmp_path / PROOFS_FILE).exists()


def test_where_noise_finds_nothing_louder_noise_is_taken(tmp_path: Path) -> None:
    found = "float[2, 4] x) => (int64[2, n] y) { a = Abs (x) t = Constant <value_float = 5.0> () b = Greater (a, t)"
    (proof,) = proofs_of(f"net ({found} y = NonZero (b) }}", "a", tmp_path)
    assert proof.values_compared > 8  # the feature has 8; the rest is what was found
    assert proof.varying_outputs == ("y",)
    notes = (tmp_path / PROOFS_FILE).stat().st_mtime_ns
    assert pairs_parity(tmp_path) == (proof,)
    assert (tmp_path / PROOFS_FILE).stat().st_mtime_ns == notes  # it is known which noise it was


def test_given_inputs_for_which_something_comes_out_prove_it(tmp_path: Path) -> None:
    text = """net (float[2, 4] x) => (int64[2, n] y) {
        a = Cos (x) t = Constant <value_float = 0.999> () b = Greater (a, t) y = NonZero (b) }"""
    with pytest.raises(ParityError, match="output 'y': empty"):
        proofs_of(text, "a", tmp_path, x=np.full((2, 4), 3.0, np.float32))
    (proof,) = pairs_parity(tmp_path, {"x": np.float32([[0, 1, 2, 3], [3, 0, 1, 2]])})
    assert proof.values_compared == 8 + 4


def test_outputs_that_never_change_show_nothing_and_are_named(tmp_path: Path) -> None:
    """Behind a dead activation all is constant; so is what is made of constants, of which nothing else is expected."""
    text = """net (float[n, 4] x) => (float[n, 4] dead, float[n, 4] alive, float[k] anchors) {
        a = Tanh (x) far = Constant <value_float = -9.0> () shifted = Add (a, far) dead = Relu (shifted)
        alive = Neg (a) c = Constant <value_floats = [1.0, 2.0]> () anchors = Identity (c) }"""
    (proof,) = proofs_of(text, "a", tmp_path)
    assert (proof.varying_outputs, proof.constant_outputs) == (("alive",), ("dead",))
    (other,) = proofs_of(text.replace("alive = Neg (a)", "alive = Identity (dead)"), "a", tmp_path / "other")
    assert (other.varying_outputs, other.constant_outputs) == ((), ("dead", "alive"))


def test_a_network_that_draws_numbers_is_told_from_a_wrong_pair(tmp_path: Path) -> None:
    text = "net (float[n, 4] x) => (float[n, 4] y) { a = Relu (x) b = RandomNormalLike (a) y = Add (a, b) }"
    with pytest.raises(ParityError, match="output 'y' of the network changes from run to run on the same inputs"):
        proofs_of(text, "a", tmp_path)


def test_texts_are_compared_as_texts(tmp_path: Path) -> None:
    text = """net (float[n, 4] x) => (string[n] y) { a = Tanh (x) k = ArgMax <axis = 1, keepdims = 0> (a)
        y = ai.onnx.ml.LabelEncoder <keys_int64s = [0, 1, 2, 3], values_strings = ["cat", "dog", "eel", "fly"]> (k) }"""
    (proof,) = proofs_of(text, "a", tmp_path)
    assert (proof.values_compared, proof.difference_all) == (8 + 2, 0.0)
    manifest = tmp_path / "pairs.json"
    tail = onnx.load(str(tmp_path / "pair.tail.onnx"))
    labels = next(item for item in tail.graph.node[-1].attribute if item.name == "values_strings")
    labels.strings[:] = [b"cat", b"cat", b"cat", b"cat"]
    before = next(iter(pairs_parity(tmp_path))).tail_sha256
    data = tail.SerializeToString(deterministic=True)
    (tmp_path / "pair.tail.onnx").write_bytes(data)
    manifest.write_text(manifest.read_text().replace(before, pair_gates.sha256_of_bytes(data)))
    with pytest.raises(ParityError, match="'y' of head and tail differs"):
        pairs_parity(tmp_path)


def test_an_output_that_is_no_tensor_is_refused_by_name(tmp_path: Path) -> None:
    text = """net (float[2, 4] x) => (seq(float[2, 2]) y, float[2, 4] z) {
        a = Relu (x) y = SplitToSequence <axis = 1> (a) z = Neg (a) }"""
    with pytest.raises(CoopexportError, match="output 'y' of the whole graph is a sequence"):
        proofs_of(text, "a", tmp_path)


def test_outputs_of_other_sizes_at_a_reported_level_are_no_number() -> None:
    whole = {"y": np.zeros((2, 3), np.float32)}
    assert pair_gates._difference(whole, pair_gates._Made({}, {"y": np.zeros((2, 2), np.float32)})) is None
    assert pair_gates._difference(whole, pair_gates._Made({}, {"y": np.ones((2, 3), np.float32)})) == 1.0


def test_what_version_1_0_noted_is_proven_again(tmp_path: Path) -> None:
    """It did not look whether outputs vary."""
    text = "net (float[n, 4] x) => (float[n, 4] y) { a = Tanh (x) y = Neg (a) }"
    (proof,) = proofs_of(text, "a", tmp_path)
    path = tmp_path / PROOFS_FILE
    content = json.loads(path.read_text())
    del content["proofs"][0]["varying_outputs"], content["proofs"][0]["constant_outputs"]
    path.write_text(json.dumps({**content, "schema": "coopexport.pair-proofs/1.0"}))
    assert pairs_parity(tmp_path) == (proof,)
    assert json.loads(path.read_text())["proofs"][0]["varying_outputs"] == ["y"]


def test_another_feature_with_the_same_outputs_is_caught(tmp_path: Path) -> None:
    """Clip ranges and symbols are of the feature: twice of it, halved again in the tail, is another one."""
    value = helper.make_tensor_value_info
    ends = [value(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "a", "y")]

    def graph(first: int, last: int, *nodes: onnx.NodeProto) -> onnx.ModelProto:
        half = numpy_helper.from_array(np.float32([0.5]), "half")
        made = helper.make_graph(list(nodes), "part", [ends[first]], [ends[last]], [half])
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)

    relu, sine = helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Sin", ["a"], ["y"])
    model = graph(0, 2, relu, sine)
    (pair,) = write_pairs(model, {"pair": ["a"]}, tensor_types(model), tmp_path).pairs
    pairs_parity(tmp_path)
    doubled = graph(0, 1, helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Add", ["r", "r"], ["a"]))
    halved = graph(1, 2, helper.make_node("Mul", ["a", "half"], ["r"]), helper.make_node("Sin", ["r"], ["y"]))
    manifest = tmp_path / "pairs.json"
    for part, other in ((pair.head, doubled), (pair.tail, halved)):
        data = other.SerializeToString(deterministic=True)
        (tmp_path / part.file).write_bytes(data)
        manifest.write_text(manifest.read_text().replace(part.sha256, pair_gates.sha256_of_bytes(data)))
    with pytest.raises(CoopexportError, match="pair: 'a' of head and tail differs from the whole graph's"):
        pairs_parity(tmp_path)
