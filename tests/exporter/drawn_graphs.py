"""Random ONNX graphs that run: sums, activations and constants over one or two inputs, with one or several outputs."""

from __future__ import annotations

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

WIDTH = 3
OPERATORS = ("Relu", "Neg", "Sin", "Sigmoid")


@st.composite
def drawn_models(draw: st.DrawFn, most_outputs: int = 3) -> onnx.ModelProto:
    """Draw a model: nodes read earlier tensors, some read constants; what nobody reads is an output or dead."""
    inputs = ["x", "y"][: draw(st.integers(1, 2))]
    tensors, nodes = list(inputs), []
    for index in range(draw(st.integers(2, 9))):
        # Mostly the last tensor, so that the graphs have cuts.
        choice = st.one_of(st.just(tensors[-1]), st.just(tensors[-1]), st.sampled_from(tensors))
        reads = draw(st.lists(choice, min_size=1, max_size=3))
        if draw(st.integers(0, 3)) == 0:
            reads.append(draw(st.sampled_from(["weight", "computed"])))
        operator = "Sum" if len(reads) > 1 else draw(st.sampled_from(OPERATORS))
        nodes.append(helper.make_node(operator, reads, [f"t{index}"], name=f"n{index}"))
        tensors.append(f"t{index}")
    made = tensors[len(inputs) :]
    outputs = [made[-1], *draw(st.lists(st.sampled_from(made), max_size=most_outputs - 1))]
    # What is computed from constants alone is a constant.
    nodes.insert(draw(st.integers(0, 1)), helper.make_node("Neg", ["weight"], ["computed"], name="constant"))
    nodes.sort(key=lambda node: node.name != "constant")
    graph = helper.make_graph(
        nodes,
        "drawn",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in dict.fromkeys(outputs)],
        [numpy_helper.from_array(np.float32([0.25, -0.5, 0.75]), "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def reached(model: onnx.ModelProto, start: set[str], without: set[str]) -> set[str]:
    """Return all tensors that depend on one of `start`, when those of `without` are taken away."""
    found = start - without
    for node in model.graph.node:
        if found & set(node.input):
            found |= set(node.output) - without
    return found
