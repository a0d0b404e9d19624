"""Runs head and tail one after the other, as they would run on two machines, and compares bits with the whole."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from exporter.cutting.cut import Halves
from exporter.onnx_graphs.nodes import network_inputs
from exporter.onnx_graphs.session import Optimisation, open_session


def outputs_of(model: onnx.ModelProto, feed: Mapping[str, np.ndarray], level: Optimisation = "disabled"):
    """Return the outputs of `model` by name."""
    names = [value.name for value in model.graph.output]
    return dict(zip(names, open_session(model, level).run(None, dict(feed)), strict=True))


def composed(halves: Halves, feed: Mapping[str, np.ndarray], level: Optimisation = "disabled"):
    """Return what the head makes beside the boundary, and what the tail makes out of the boundary alone."""
    made = outputs_of(halves.head, feed, level)
    cut_tensor = [value.name for value in network_inputs(halves.tail)]
    assert list(made)[: len(cut_tensor)] == cut_tensor
    results = {name: value for name, value in made.items() if name not in cut_tensor}
    results.update(outputs_of(halves.tail, {name: made[name] for name in cut_tensor}, level))
    # A cut tensor may be an output of the network, too.
    return {**{name: made[name] for name in cut_tensor}, **results}


def assert_exact(model: onnx.ModelProto, halves: Halves, feed: Mapping[str, np.ndarray]) -> None:
    """Check that both halves are valid graphs and together the whole, bit for bit."""
    for part in (halves.head, halves.tail):
        onnx.checker.check_model(part)
    made = composed(halves, feed)
    for name, value in outputs_of(model, feed).items():
        assert made[name].dtype == value.dtype
        assert made[name].tobytes() == value.tobytes(), name
