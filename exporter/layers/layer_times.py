"""Time per layer of exported networks, from ONNX Runtime's own profiler: what a width costs, layer by layer."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import onnx
from numpy.typing import NDArray

from exporter.layers.candidates import layer_name
from exporter.onnx_graphs.nodes import producers
from exporter.onnx_graphs.session import import_onnxruntime

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_SUFFIX = "_kernel_time"
_BLOCKED = "_nchwc"
OTHER = ""  # what belongs to no layer: reordering, pools, sums


def layer_times_ms(
    models: Mapping[str, onnx.ModelProto], inputs: Sequence[NDArray[Any]], runs: int = 40, warm_up: int = 5
) -> dict[str, dict[str, float]]:
    """Return for every model the median time of each of its layers in milliseconds, one sample at a time.

    `inputs`: N x ... each, of which the first sample is used. The models take turns, on one thread, with all
    optimisations; a layer's time includes the batch norm and activation that are fused into it. What belongs to no
    layer is summed up under the name "". Raises CoopexportError when ONNX Runtime is missing.
    """
    runtime = import_onnxruntime()
    with tempfile.TemporaryDirectory() as folder:
        sessions = {}
        for index, (name, model) in enumerate(models.items()):
            options = runtime.SessionOptions()
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / f"profile{index}")
            sessions[name] = runtime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        for _ in range(warm_up + runs):
            for session in sessions.values():
                names = [item.name for item in session.get_inputs()]
                session.run(None, {name: value[:1] for name, value in zip(names, inputs, strict=True)})
        events = {
            name: json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
            for name, session in sessions.items()
        }
    return {name: times_of_events(model, events[name], warm_up) for name, model in models.items()}


def times_of_events(model: onnx.ModelProto, events: Sequence[Mapping[str, Any]], warm_up: int) -> dict[str, float]:
    """Return the median milliseconds per layer of what the profiler wrote about `model`, without the first runs."""
    durations: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(_SUFFIX):
            durations[event["name"].removesuffix(_SUFFIX)].append(event["dur"] / 1000)
    owners = _owners(model.graph)
    times: dict[str, float] = defaultdict(float)
    for name, samples_ms in durations.items():
        times[owners.get(name.removesuffix(_BLOCKED), OTHER)] += median(samples_ms[warm_up:] or samples_ms)
    return dict(times)


def _owners(graph: onnx.GraphProto) -> dict[str, str]:
    """Return the layer that a profiled name stands for: a node's, or that of the tensor which a fused node makes."""
    made_by = producers(graph)
    owners: dict[str, str] = {}
    for node in graph.node:
        if node.op_type in _WEIGHTED:
            owners[node.name] = layer_name(node)
    for node in graph.node:
        for tensor in node.output:
            index = made_by[tensor]
            while graph.node[index].op_type not in _WEIGHTED:
                before = [made_by[name] for name in graph.node[index].input if name in made_by]
                if len(before) != 1:
                    break
                index = before[0]
            if graph.node[index].op_type in _WEIGHTED:
                owners.setdefault(tensor, layer_name(graph.node[index]))
    return owners
