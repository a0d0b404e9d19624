"""Any ONNX file as pairs: cut where it was asked for, written, proven, gone on with, or refused before anything is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from family_graphs import exported

from exporter.cutting.pair_files import read_pairs
from exporter.cutting.split_file import SplitFileRequest, split_file
from jetson.errors import CoopexportError

# Of noise all is found, so that two runs agree on how much: of real images, it is not.
FINDING = """net (float[1, 8] x) => (float[2, found] y) {
    r = Elu (x) n = NonZero (r) f = Cast <to = 1> (n) y = Neg (f) }"""


def saved(text: str, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'), str(path))
    return path


@pytest.fixture
def network_file(tmp_path: Path) -> Path:
    """A network whose weights lie in a file of their own."""
    model = onnx.ModelProto()
    model.CopyFrom(exported("googlenet_small"))
    path = tmp_path / "network.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="network.data", size_threshold=0)
    return path


def test_pairs_compute_what_the_file_does_and_more_join_them(network_file: Path) -> None:
    folder = network_file.parent / "out"
    told: list[tuple[str, int, int]] = []
    request = SplitFileRequest(network_file, folder, ("inception3a.Concat",))
    first = split_file(request, lambda *event: told.append(event))
    assert (first.path, len(first.pairs)) == (folder / "pairs.json", 1)
    (pair,) = first.pairs
    assert pair.proof.values_compared > 0
    assert pair.size_bytes == 4 * int(np.prod(pair.record.tensors[0].shape))
    whole, head, tail = (
        onnxruntime.InferenceSession(str(path))
        for path in (network_file, folder / pair.record.head.file, folder / pair.record.tail.file)
    )
    (given,) = whole.get_inputs()
    shape = [size if isinstance(size, int) else 3 for size in given.shape]
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    feature = dict(zip([item.name for item in head.get_outputs()], head.run(None, {given.name: images}), strict=True))
    (outputs,), (reference,) = tail.run(None, feature), whole.run(None, {given.name: images})
    assert np.ptp(reference, axis=0).min() > 0
    np.testing.assert_allclose(outputs, reference, rtol=1e-4, atol=1e-5 * np.abs(reference).max())

    second = split_file(replace(request, layers=("/MaxPool_1_output_0",)), lambda *event: told.append(event))
    assert [one.record.source_tensors for one in second.pairs[1:]] == [("/MaxPool_1_output_0",)]
    assert second.pairs[0] == pair
    assert told == [
        *[("proving network.onnx", done, 1) for done in (0, 0)], *[("proving network.onnx", done, 2) for done in (0, 1)]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("request_fields", "words"),
    [
        ({"layers": ("inception3a.branch3.0.conv",)}, r"[234] tensors cross there"),
        ({"layers": ("nothing",)}, 'there is no layer "nothing"'),
        ({}, "say where to cut"),
        ({"layers": ("fc",), "all_layers": True}, "say where to cut"),
    ],
)
def test_what_cannot_be_cut_is_refused_and_nothing_is_written(
    network_file: Path, request_fields: dict, words: str
) -> None:
    with pytest.raises(CoopexportError, match=words):
        split_file(SplitFileRequest(network_file, network_file.parent / "out", **request_fields))
    assert not (network_file.parent / "out").exists()


def test_a_size_that_depends_on_the_data_cannot_cross_and_all_else_can(tmp_path: Path) -> None:
    request = SplitFileRequest(saved(FINDING, tmp_path / "network.onnx"), tmp_path / "out", all_layers=True)
    with pytest.raises(
        CoopexportError, match=r"f would cross, whose size may depend on the data \(through NonZero 'n'\)"
    ):
        split_file(replace(request, layers=("f",), all_layers=False))
    assert not (tmp_path / "out").exists()
    (pair,) = split_file(request).pairs
    assert pair.record.source_tensors == ("r",)


def test_what_stays_the_same_shows_nothing(tmp_path: Path) -> None:
    """All of noise is not zero: the places are the same for all inputs."""
    path = saved(FINDING, tmp_path / "network.onnx")
    (pair,) = split_file(SplitFileRequest(path, tmp_path / "out", all_layers=True)).pairs
    assert (pair.proof.varying_outputs, pair.proof.constant_outputs) == ((), ("y",))
    partly = FINDING.replace("=> (", "=> (float[1, 8] z, ").replace("y = Neg (f)", "y = Neg (f) z = Neg (r)")
    path = saved(partly, tmp_path / "more" / "network.onnx")
    (pair,) = split_file(SplitFileRequest(path, tmp_path / "more" / "out", all_layers=True)).pairs
    assert (pair.proof.varying_outputs, pair.proof.constant_outputs) == (("z",), ("y",))


def test_the_pairs_of_another_file_are_not_mixed_in(tmp_path: Path) -> None:
    request = SplitFileRequest(saved(FINDING, tmp_path / "network.onnx"), tmp_path / "out", all_layers=True)
    split_file(request)
    other = saved(FINDING.replace("Elu", "Tanh"), tmp_path / "other.onnx")
    with pytest.raises(
        CoopexportError, match=r"out holds pairs of another network, network\.onnx \(SHA-256 [0-9a-f]{64}\)"
    ):
        split_file(replace(request, onnx_file=other))


def test_all_cuts_of_up_to_so_many_tensors(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    onnx.save(exported("two_inputs_small"), str(path))
    split_file(SplitFileRequest(path, tmp_path / "out", all_layers=True, maximum_tensors=2, standalone=True))
    pairs = read_pairs(tmp_path / "out")
    assert {len(pair.tensors) for pair in pairs.pairs} == {1, 2}
    assert pairs.standalone
    assert any(item.name == "images/crossing" for pair in pairs.pairs for item in pair.tensors)
