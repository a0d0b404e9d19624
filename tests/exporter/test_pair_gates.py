"""Pairs are proven from their files, step by step; a pair that is a little off is caught."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from family_graphs import exported, write_all
from onnx import TensorProto, helper, numpy_helper

from exporter import pair_gates
from exporter.pair_files import write_pairs
from exporter.pair_gates import PROOFS_FILE, prove_pairs
from exporter.tensor_types import tensor_types
from jetson.errors import CoopexportError


def test_proving_goes_on_where_it_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = write_all(exported("branchynet_small"), tmp_path)
    names = [pair.name for pair in pairs.pairs]
    proven: list[str] = []
    require_exact = pair_gates._require_exact

    def interrupted(folder, record, feed, reference):
        if len(proven) == 3:
            raise KeyboardInterrupt
        proven.append(record.name)
        return require_exact(folder, record, feed, reference)

    monkeypatch.setattr(pair_gates, "_require_exact", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prove_pairs(tmp_path)
    monkeypatch.setattr(
        pair_gates,
        "_require_exact",
        lambda folder, record, *rest: proven.append(record.name) or require_exact(folder, record, *rest),
    )
    progress: list[int] = []
    prove_pairs(tmp_path, on_progress=progress.append)
    assert proven == names
    assert progress == list(range(3, len(names)))
    prove_pairs(tmp_path)
    assert proven == names  # nothing is run again
    prove_pairs(tmp_path, {"images": np.zeros((1, 3, 32, 32), np.float32)})
    assert proven == names * 2  # other inputs are another proof


def test_a_weight_of_the_tail_that_is_a_little_off_is_caught(tmp_path: Path) -> None:
    pairs = write_all(exported("branchynet_small"), tmp_path, standalone=True)
    pair = next(item for item in pairs.pairs if "conv3" in item.name)
    prove_pairs(tmp_path)
    tail = onnx.load(str(tmp_path / pair.tail.file))
    bias = next(item for item in tail.graph.initializer if item.name == "fc2.bias")
    values = numpy_helper.to_array(bias).copy()
    values[0] += np.float32(1e-5)
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    changed = tail.SerializeToString(deterministic=True)
    (tmp_path / pair.tail.file).write_bytes(changed)
    with pytest.raises(CoopexportError, match=f"{pair.tail.file} is not the file that its manifest names"):
        prove_pairs(tmp_path, {"images": np.ones((1, 3, 32, 32), np.float32)})
    manifest = tmp_path / "pairs.json"
    sha256 = pair_gates.sha256_of_bytes(changed)
    manifest.write_text(manifest.read_text().replace(pair.tail.sha256, sha256))
    with pytest.raises(CoopexportError, match=f"{pair.name}: 'scores' of head and tail differs from the whole"):
        prove_pairs(tmp_path)


def test_damaged_weights_and_proofs_are_refused(tmp_path: Path) -> None:
    write_all(exported("branchynet_small"), tmp_path)
    prove_pairs(tmp_path)
    (tmp_path / PROOFS_FILE).write_text('{"schema": "coopexport.pair-proofs/1.0", "proofs": [{"name": 3}]}')
    with pytest.raises(CoopexportError, match="is malformed; delete it"):
        prove_pairs(tmp_path)
    (tmp_path / PROOFS_FILE).unlink()
    weight = next((tmp_path / "weights").iterdir())
    weight.write_bytes(bytes(weight.stat().st_size))
    with pytest.raises(CoopexportError, match=f"{weight.name} is missing or damaged"):
        prove_pairs(tmp_path)
    with pytest.raises(CoopexportError, match=r"there is no .*pairs\.json"):
        prove_pairs(tmp_path / "none")


def test_outputs_that_are_not_finite_prove_nothing(tmp_path: Path) -> None:
    write_all(exported("branchynet_small"), tmp_path)
    with pytest.raises(CoopexportError, match="output 'scores' is not finite for these inputs"):
        prove_pairs(tmp_path, {"images": np.full((1, 3, 32, 32), np.nan, np.float32)})


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
    prove_pairs(tmp_path)
    doubled = graph(0, 1, helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Add", ["r", "r"], ["a"]))
    halved = graph(1, 2, helper.make_node("Mul", ["a", "half"], ["r"]), helper.make_node("Sin", ["r"], ["y"]))
    manifest = tmp_path / "pairs.json"
    for part, other in ((pair.head, doubled), (pair.tail, halved)):
        data = other.SerializeToString(deterministic=True)
        (tmp_path / part.file).write_bytes(data)
        manifest.write_text(manifest.read_text().replace(part.sha256, pair_gates.sha256_of_bytes(data)))
    with pytest.raises(CoopexportError, match="pair: 'a' of head and tail differs from the whole graph's"):
        prove_pairs(tmp_path)
