"""The reference network: a small ONNX network whose bits are fixed, in the rounds of every run on every machine.

Absolute latencies of one machine shift by a quarter from sitting to sitting; ratios to what ran in the same rounds do
not. So runs are compared through it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.latency.stages import TimedStage
from engines.backends.registry import find_backend
from engines.building.build import engine_of_graph, plain_settings
from engines.building.build_items import WHOLE
from engines.targets.target import Target
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes

REFERENCE = "reference"
_SEED = 20190311
_SIDE = 32
# Channels in, channels out, stride: 27 million multiplications, 410 KB of weights; 0.3 ms on one thread of a Xeon.
_CONVOLUTIONS = ((3, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 2))
_CLASSES = 10


def reference_model() -> onnx.ModelProto:
    """Return the network: 1 x 3 x 32 x 32 float32 to 1 x 10 x 1 x 1; always the same bytes.

    Five convolutions with rectifiers, the mean over positions, and a convolution as classifier: what every target
    computes, in opset 13. Weights come from NumPy's RandomState, whose stream is frozen.
    """
    random = np.random.RandomState(_SEED)
    nodes, weights, value = [], [], "input"
    for number, (before, after, stride) in enumerate(_CONVOLUTIONS):
        weights.append(_weights(random, f"weights_{number}", before, after, 3))
        nodes.append(
            helper.make_node(
                "Conv", [value, f"weights_{number}"], [f"conv_{number}"], name=f"conv_{number}",
                kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[stride, stride],
            )
        )  # fmt: skip
        value = f"relu_{number}"
        nodes.append(helper.make_node("Relu", [f"conv_{number}"], [value], name=value))
    weights.append(_weights(random, "weights_classes", _CONVOLUTIONS[-1][1], _CLASSES, 1))
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["mean"], name="mean"))
    nodes.append(helper.make_node("Conv", ["mean", "weights_classes"], ["output"], name="classes", kernel_shape=[1, 1]))
    inputs, outputs = (
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)]
        for name, shape in (("input", [1, 3, _SIDE, _SIDE]), ("output", [1, _CLASSES, 1, 1]))
    )
    graph = helper.make_graph(nodes, REFERENCE, inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="")


def reference_sha256() -> str:
    """Return what identifies the reference network: the digest of its bytes."""
    return sha256_of_bytes(reference_model().SerializeToString(deterministic=True))


def reference_input() -> NDArray[np.float32]:
    """Return what the network is timed on: 1 x 3 x 32 x 32, float32, from -1 to 1, always the same."""
    return _uniform(np.random.RandomState(_SEED + 1), (1, 3, _SIDE, _SIDE))


def reference_stage(target: Target) -> TimedStage:
    """Return the network as something to time, built for `target` in float32 and loaded.

    Where the target's builder or runtime does not take it, the stage fails with their reason when it is run, so that
    the run has the reason in the place of samples.
    """
    try:
        engine = engine_of_graph(reference_model(), target, plain_settings(target), "the reference network")
        runner, sample = find_backend(target.backend).load(engine.data, target), reference_input()
        run: Callable[[], Any] = lambda: runner([sample])  # noqa: E731
    except CoopexportError as error:
        run = _failing(error)
    return TimedStage(REFERENCE, WHOLE, WHOLE, None, reference_sha256(), run)


def _failing(error: CoopexportError) -> Callable[[], Any]:
    def fail() -> None:
        raise error

    return fail


def _weights(random: np.random.RandomState, name: str, before: int, after: int, side: int) -> onnx.TensorProto:
    """Return the weights of a convolution, scaled so that activations neither grow nor vanish (He et al. 2015)."""
    scale = np.float32(np.sqrt(6 / (before * side * side)))
    return numpy_helper.from_array(scale * _uniform(random, (after, before, side, side)), name)


def _uniform(random: np.random.RandomState, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return (2 * random.random_sample(shape) - 1).astype(np.float32)
