"""Files that others exported: the networks that come with onnx, opset 9, batch 1, their weights computed by nodes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from exporter.cutting.onnx_cuts import all_cuts
from exporter.cutting.onnx_file import read_graph
from exporter.cutting.pair_files import write_pairs
from exporter.cutting.pair_parity import pairs_parity
from exporter.layers.candidates import layers_of
from exporter.layers.cut_points import multi_tensor_cuts, single_tensor_cuts
from exporter.layers.table import cut_rows
from exporter.onnx_graphs.index import index_graph
from exporter.onnx_graphs.tensor_types import TensorType, tensor_types

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
if not LIGHT.is_dir():  # not every distribution of onnx has its test data
    pytest.skip("this onnx comes without its light networks", allow_module_level=True)


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        # As published: 19.63, 4.09 and 2.83 thousand million.
        ("vgg19", 19_632_062_464),
        ("resnet50", 4_089_184_256),
        ("densenet121", 2_834_161_664),
    ],
)
def test_costs_are_the_published_ones_though_weights_are_computed(name: str, macs: int) -> None:
    model = read_graph(LIGHT / f"light_{name}.onnx")
    index, types = index_graph(model), tensor_types(model)
    assert index.varying <= set(types)
    layers = layers_of(index, types)
    assert all(layer.tensor in index.varying for layer in layers)
    assert cut_rows(index, types, layers)[-1].macs_before == macs


def test_a_constant_that_begins_with_the_batch_size_has_no_batch() -> None:
    model = read_graph(LIGHT / "light_inception_v1.onnx")
    index, types = index_graph(model), tensor_types(model)
    constants = [name for name in index.makers if name not in index.varying]
    assert any(types[name].shape[:1] == (1,) for name in constants)
    assert not any(types[name].has_batch for name in constants)
    assert types[index.outputs[0]] == TensorType((1000,))


@pytest.mark.parametrize("name", ["squeezenet", "inception_v1", "shufflenet"])
def test_cuts_of_given_files_are_exact(name: str, tmp_path: Path) -> None:
    path = LIGHT / f"light_{name}.onnx"
    model = read_graph(path)
    index, types = index_graph(model), tensor_types(model)
    cuts = all_cuts(index, layers_of(index, types), types, 2)
    assert len(cuts) == len(single_tensor_cuts(index)) + len(multi_tensor_cuts(index, 2))
    some = dict(list(cuts.items())[5::12])
    assert len(some) >= 3
    assert {len(tensors) for tensors in some.values()} == {1, 2}
    write_pairs(model, some, types, tmp_path, path.parent)
    assert len(pairs_parity(tmp_path)) == len(some)
