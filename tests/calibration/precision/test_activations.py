"""Largest magnitudes and histograms are those of all values, however the data are cut into batches."""

from __future__ import annotations

import numpy as np
import pytest
from chain_networks import LAYERS, chain, images

from calibration.precision import activations
from calibration.precision.activations import BINS, largest_magnitudes, magnitude_histograms
from exporter.onnx_graphs.session import open_session, run
from jetson.errors import CoopexportError

CHAIN = chain()
INPUTS = images(70)
TENSORS = [f"{layer}_out" for layer in LAYERS] + ["images", "conv2_out_relu"]


def value_of(tensor: str) -> np.ndarray:
    import onnx

    if tensor == "images":
        return INPUTS
    watched = onnx.ModelProto()
    watched.CopyFrom(CHAIN)
    del watched.graph.output[:]
    watched.graph.output.append(onnx.helper.make_empty_tensor_value_info(tensor))
    return run(open_session(watched, "disabled"), [INPUTS])[0]


@pytest.mark.parametrize("max_bytes", [1, 10_000, 1 << 27])
def test_histograms_count_every_value_once(max_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "_MAX_BYTES", max_bytes)
    found = magnitude_histograms(CHAIN, TENSORS, [INPUTS])
    assert list(found) == TENSORS
    for name, histogram in found.items():
        magnitudes = np.abs(value_of(name)).reshape(-1)
        assert histogram.largest == magnitudes.max()
        assert histogram.zeros == (magnitudes == 0).sum()
        assert histogram.counts.sum() + histogram.zeros == magnitudes.size
        expected, _ = np.histogram(magnitudes[magnitudes > 0], bins=BINS, range=(0, histogram.largest))
        # A value on the edge of two bins may be in either.
        assert np.abs(np.cumsum(expected) - np.cumsum(histogram.counts)).max() <= 3


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_named(bad: float) -> None:
    inputs = INPUTS.copy()
    inputs[40, 1, 2, 3] = bad
    with pytest.raises(CoopexportError, match="'conv1_out' holds NaN or infinity"):
        largest_magnitudes(CHAIN, ["conv1_out"], [inputs])


def test_no_tensors_are_no_work() -> None:
    assert magnitude_histograms(CHAIN, [], [INPUTS]) == {}
