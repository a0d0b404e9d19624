"""Where the time of a VGG-16 goes in ONNX Runtime: its own profile, node by node, one thread."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

from exporter.onnx_graphs.session import import_onnxruntime

# `blocked`: convolution in the layout NCHWc, channels in blocks that fill a vector register; `im2col`: patches
# copied into a matrix, then a matrix product.
Kernel = Literal["blocked", "im2col"]
_LAYER = re.compile(r"(?:conv|bn|relu)(\d_\d)")


@dataclass(frozen=True)
class ConvolutionTime:
    """Mean time of one convolution (with its activation) in microseconds, and the kernel that ran it."""

    us: float
    kernel: Kernel


@dataclass(frozen=True)
class NetworkProfile:
    """Mean times in microseconds: convolutions by layer name, and the nodes beside them.

    `reorder_us`: changes between the planar and the blocked layout; `classifier_us`: flatten and linear.
    """

    convolutions: dict[str, ConvolutionTime]
    reorder_us: float
    pool_us: float
    classifier_us: float

    @property
    def total_us(self) -> float:
        """Return the time of all nodes."""
        return sum(item.us for item in self.convolutions.values()) + self.reorder_us + self.pool_us + self.classifier_us


def profile_model(model: onnx.ModelProto, runs: int = 150, warm_up: int = 20) -> NetworkProfile:
    """Run `model` (batch 1) under ONNX Runtime's profiler and return where the time goes; raises OSError."""
    return read_events(_events(model, runs + warm_up), warm_up)


def read_events(events: Sequence[Mapping[str, Any]], warm_up: int) -> NetworkProfile:
    """Return the profile from the profiler's events; the first `warm_up` of each kind are left out."""
    nodes = _durations(events)
    convolutions: dict[str, ConvolutionTime] = {}
    others = {"reorder": 0.0, "pool": 0.0, "classifier": 0.0}
    for (name, operator), durations in nodes.items():
        us = _typical(durations[warm_up:])
        layer = _LAYER.search(name)
        if operator.endswith("Conv") and layer is not None:
            convolutions[f"conv{layer.group(1)}"] = ConvolutionTime(us, _kernel(name))
        elif operator.startswith("Reorder"):
            others["reorder"] += us
        else:
            others["pool" if operator.endswith("Pool") else "classifier"] += us
    return NetworkProfile(convolutions, others["reorder"], others["pool"], others["classifier"])


def convolution_alone(inputs: int, outputs: int, size: int, runs: int = 120, warm_up: int = 20) -> ConvolutionTime:
    """Return the time of one 3x3 convolution with ReLU by itself, run after run: its weights stay in near caches.

    `inputs`, `outputs`: channels; `size`: side of the feature map. Raises OSError.
    """
    durations = _durations(_events(_one_convolution(inputs, outputs, size), runs + warm_up))
    (name, _), values = next(item for item in durations.items() if item[0][1].endswith("Conv"))
    return ConvolutionTime(_typical(values[warm_up:]), _kernel(name))


def channels_per_block() -> int:
    """Return in blocks of how many channels ONNX Runtime convolves on this processor: 16 with AVX-512, 1 for none.

    Read from what it makes of the bias of one output channel: blocked convolutions fill the block up with zeros.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options = _options()
        options.optimized_model_filepath = str(path)
        _open(_one_convolution(16, 1, 4), options)
        optimised = onnx.load(path)
    initialisers = {item.name: item for item in optimised.graph.initializer}
    node = next(node for node in optimised.graph.node if node.op_type.endswith("Conv"))
    return int(initialisers[node.input[2]].dims[0])


def _kernel(name: str) -> Kernel:
    return "blocked" if name.endswith("_nchwc") else "im2col"


def _typical(durations: Sequence[float]) -> float:
    """Return the mean of the middle half: the profiler counts whole microseconds, and neighbours disturb some runs."""
    ranked = np.sort(np.asarray(durations, dtype=np.float64))
    quarter = len(ranked) // 4
    return float(ranked[quarter : len(ranked) - quarter].mean())


def _durations(events: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], list[float]]:
    """Return microseconds by name and operator of each node, in order of execution."""
    suffix = "_kernel_time"
    nodes: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(suffix):
            key = (event["name"].removesuffix(suffix), event["args"]["op_name"])
            nodes.setdefault(key, []).append(float(event["dur"]))
    return nodes


def _events(model: onnx.ModelProto, runs: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        options = _options()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = _open(model, options)
        item = session.get_inputs()[0]
        feed = {item.name: np.random.default_rng(0).standard_normal(item.shape, dtype=np.float32)}
        for _ in range(runs):
            session.run(None, feed)
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return events


def _options() -> Any:
    """Return the settings of exporter.onnx_graphs.session with optimisation `all` and one thread."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _open(model: onnx.ModelProto, options: Any) -> Any:
    return import_onnxruntime().InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _one_convolution(inputs: int, outputs: int, size: int) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    weight = random.standard_normal((outputs, inputs, 3, 3), dtype=np.float32) / np.float32(3 * inputs**0.5)
    initialisers = [
        onnx.numpy_helper.from_array(weight, "weight"),
        onnx.numpy_helper.from_array(random.standard_normal(outputs, dtype=np.float32), "bias"),
    ]
    nodes = [
        onnx.helper.make_node("Conv", ["x", "weight", "bias"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        onnx.helper.make_node("Relu", ["c"], ["y"], name="relu"),
    ]
    value = onnx.helper.make_tensor_value_info
    shapes = [value("x", 1, [1, inputs, size, size])], [value("y", 1, [1, outputs, size, size])]
    graph = onnx.helper.make_graph(nodes, "one convolution", *shapes, initialisers)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
