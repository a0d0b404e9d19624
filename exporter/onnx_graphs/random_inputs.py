"""Inputs for a graph of which nothing but its inputs' types is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from exporter.onnx_graphs.nodes import network_inputs


def random_inputs(model: onnx.ModelProto, samples: int, seed: int, scale: float = 1.0) -> dict[str, NDArray[Any]]:
    """Return random inputs of `model` by name, standard normal before they take the input's type.

    `samples`: how many, where the batch is not fixed; `scale`: standard deviation of floating point inputs. The same
    for the same `seed`.
    """
    generator = np.random.default_rng(seed)
    drawn = {}
    for value in network_inputs(model):
        dimensions = value.type.tensor_type.shape.dim
        shape = [item.dim_value if item.HasField("dim_value") else samples for item in dimensions]
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        numbers = generator.standard_normal(shape)
        drawn[value.name] = (numbers * scale if dtype.kind in "fV" else numbers).astype(dtype)
    return drawn


def other_inputs(inputs: Mapping[str, NDArray[Any]], seed: int) -> dict[str, NDArray[Any]]:
    """Return other inputs out of the numbers of `inputs`: floating point numbers halved and in another order.

    Integers are put into another order where there is nothing else, and left alone beside floating point numbers: they
    may be lengths and positions. What is in the range that a network takes stays in it (token ids, pixels).
    """
    generator = np.random.default_rng(seed)
    floats = [name for name, value in inputs.items() if value.dtype.kind in "fV"]
    others = dict(inputs)
    for name in floats or inputs:
        value = inputs[name]
        moved = generator.permutation(value.reshape(-1)).reshape(value.shape)
        others[name] = (moved / 2).astype(value.dtype) if floats else moved
    return others
