"""A graph in memory is converted as a project's would be, and says what was left out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from chain_networks import chain, images, scale_channel

from calibration.precision.convert_graph import convert_precision
from calibration.precision.evaluator import output_error
from calibration.precision.half_evaluator import rounding_graph
from exporter.layers.candidates import candidates
from exporter.onnx_graphs.session import open_session, run
from jetson.errors import CoopexportError

CHAIN = chain()
INPUTS = images(32)


def outputs(model: onnx.ModelProto) -> np.ndarray:
    return run(open_session(rounding_graph(model), "disabled"), [INPUTS])[0]


@pytest.mark.parametrize(("precision", "most"), [("fp16", 0.005), ("int8", 0.1)])
def test_outputs_stay_close_and_names_are_the_users(precision: str, most: float) -> None:
    layers = candidates(CHAIN)
    made, float32_layers = convert_precision(CHAIN, precision, [INPUTS], layers=layers)  # type: ignore[arg-type]
    assert float32_layers == ()
    everything = output_error(outputs(CHAIN), outputs(made))
    assert 0 < everything < most
    fewer, float32_layers = convert_precision(CHAIN, precision, [INPUTS], ["conv2", "conv3"], layers=layers)  # type: ignore[arg-type]
    assert [(item.layer, item.reason, item.precision) for item in float32_layers] == [
        ("conv2", "chosen by name", "fp32"), ("conv3", "chosen by name", "fp32")
    ]  # fmt: skip
    assert 0 < output_error(outputs(CHAIN), outputs(fewer)) < 1.5 * everything
    assert not np.array_equal(outputs(made), outputs(fewer))


def test_overflow_and_wrong_precision_are_named() -> None:
    loud = scale_channel(CHAIN, "conv2", 3e4, "conv3")
    made, float32_layers = convert_precision(loud, "fp16", [INPUTS], layers=candidates(loud))
    assert {item.layer for item in float32_layers} == {"conv2", "conv3"}
    assert np.isfinite(outputs(made)).all()
    with pytest.raises(CoopexportError, match='"int4" is unknown'):
        convert_precision(CHAIN, "int4", [INPUTS])  # type: ignore[arg-type]


def test_layers_to_keep_go_by_any_of_their_names_and_have_to_exist() -> None:
    layers = candidates(CHAIN)
    for name in ("conv2", "conv2_relu"):  # the activation behind it
        _, float32_layers = convert_precision(CHAIN, "fp16", [INPUTS], [name], layers=layers)
        assert [item.layer for item in float32_layers] == ["conv2"]
    for known in (layers, ()):
        with pytest.raises(CoopexportError, match='there is no layer "conv22"'):
            convert_precision(CHAIN, "fp16", [INPUTS], ["conv22"], layers=known)
