"""Inputs for a graph of which nothing but its inputs' types is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from exporter.onnx_graph import network_inputs


def drawn_inputs(model: onnx.ModelProto, samples: int, seed: int) -> dict[str, NDArray[Any]]:
    """Return random inputs of `model` by name, standard normal before they take the input's type.

    `samples`: how many, where the batch is not fixed. The same for the same `seed`.
    """
    generator = np.random.default_rng(seed)
    drawn = {}
    for value in network_inputs(model):
        shape = [item.dim_value or samples for item in value.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        drawn[value.name] = generator.standard_normal(shape).astype(dtype)
    return drawn
