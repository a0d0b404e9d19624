"""The running pair gives for one image after the other what the bundle says of all of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from engines.building.pair import Pair, open_pair
from engines.targets.lookup import find_target
from exporter.bundles.bundle import read_golden, read_split
from exporter.data.datasets import load_dataset, network_inputs
from exporter.onnx_graphs.session import open_session, run
from exporter.project.settings import load_project
from jetson.errors import CoopexportError
from jetson.runtime.preprocessing import Preprocessing

CPU = find_target("cpu")


@pytest.fixture(scope="module")
def folder(split_project: Path) -> Path:
    return split_project / "out" / "pruned"


@pytest.fixture(scope="module")
def pair(folder: Path) -> Pair:
    return open_pair(folder, "conv4_1", CPU, CPU)


def test_one_by_one_equals_all_at_once(split_project: Path, folder: Path, pair: Pair) -> None:
    project = load_project(split_project / "coopexport.toml")
    dataset = load_dataset(project, "evaluation").first(40)
    bundle = read_split(folder, "conv4_1")
    symbols = run(open_session(onnx.load(str(folder / bundle.head.file)), "all"), [network_inputs(project, dataset)])[0]
    outputs = run(open_session(onnx.load(str(folder / bundle.tail.file)), "all"), [symbols])[0]
    for index, image in enumerate(dataset.images):
        head_symbols = pair.head([pair.preprocess(image)])[0]
        assert (head_symbols.dtype, head_symbols.shape) == (np.uint8, (1, *bundle.tensors[0].shape))
        assert np.abs(head_symbols.astype(int) - symbols[index]).max() <= 1
        scores, size = pair.infer(image)
        assert size == len(pair.encode([head_symbols]))
        assert scores.shape == (1, 10)
        assert scores.argmax() == outputs[index].argmax()
        # A symbol may differ by one where rounding does: a hundredth of the scores' spread covers that.
        assert np.abs(scores[0] - outputs[index]).max() < 0.01 * np.ptp(outputs, axis=0).max()


def test_golden_data_come_out_again(folder: Path, pair: Pair) -> None:
    golden = read_golden(folder, read_split(folder, "conv4_1").golden)
    for index, image in enumerate(golden["images"]):
        inputs = pair.preprocess(image)
        assert inputs.dtype == np.float32
        assert np.array_equal(inputs[0], golden["inputs"][index])
        scores, _ = pair.infer(image)
        assert np.abs(scores[0] - golden["outputs"][index]).max() < 0.01 * np.ptp(golden["outputs"], axis=0).max()


def test_a_message_carries_the_symbols_and_nothing_else(folder: Path, pair: Pair) -> None:
    golden = read_golden(folder, read_split(folder, "conv4_1").golden)
    for symbols in golden["symbols_0"]:
        message = pair.encode([symbols[np.newaxis]])
        assert np.array_equal(pair.decode(message)[0], symbols[np.newaxis])
    with pytest.raises(CoopexportError, match="checksum"):
        pair.decode(message[:-1] + bytes([message[-1] ^ 1]))
    other = dataclasses.replace(pair, codec=pair.codec._replace(associated_data=b"another pair"))
    with pytest.raises(CoopexportError, match="not of the same cut"):
        pair.decode(other.encode([symbols[np.newaxis]]))


def test_networks_that_normalise_by_themselves_get_float32_too(pair: Pair) -> None:
    """Exported graphs take float32, whatever preprocessing ends with."""
    plain = dataclasses.replace(pair, preprocessing=Preprocessing(input_dtype="uint8"))
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    inputs = plain.preprocess(image)
    assert inputs.dtype == np.float32
    assert np.array_equal(inputs[0], image.transpose(2, 0, 1))
    assert plain.infer(image)[0].shape == (1, 10)


def test_a_missing_engine_is_named(folder: Path) -> None:
    with pytest.raises(CoopexportError, match=r"conv4_1\.head\.onnx is missing; make it with: coopexport build"):
        open_pair(folder, "conv4_1", find_target("cuda"), CPU)
