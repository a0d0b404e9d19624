"""What rounding widths costs and gains: MACs as counted by hand, times that ONNX Runtime measured."""

from __future__ import annotations

from pathlib import Path

from grouped_project import write_grouped_project

from exporter.shrinking.removal import ShrinkOptions
from exporter.variants.rounding_cost import measure_rounding
from exporter.variants.shrunk_variant import ShrinkRequest, write_shrunk_variant


def test_each_layer_has_its_macs_and_times(tmp_path: Path) -> None:
    project = write_grouped_project(tmp_path)
    options = ShrinkOptions(round_to=8)
    variant = write_shrunk_variant(project, ShrinkRequest(options=options))
    cost = measure_rounding(project, variant, options)
    layers = {layer.name: layer for layer in cost.layers}
    assert cost.round_to == 8
    assert {name: (layer.channels_exact, layer.channels_rounded) for name, layer in layers.items()} == {
        "conv1": (11, 16), "conv2": (13, 16), "fc": (5, 5)
    }  # fmt: skip
    assert (layers["conv1"].macs_exact, layers["conv1"].macs_rounded) == (27 * 11 * 256, 27 * 16 * 256)
    assert (layers["fc"].macs_exact, layers["fc"].macs_rounded) == (13 * 5, 16 * 5)
    exact_ms = [layer.exact_ms for layer in cost.layers if layer.exact_ms is not None]
    rounded_ms = [layer.rounded_ms for layer in cost.layers if layer.rounded_ms is not None]
    assert len(exact_ms) >= 2
    assert len(rounded_ms) >= 2
    assert all(value > 0 for value in (*exact_ms, *rounded_ms))
    assert abs(sum(exact_ms) + cost.between_exact_ms - cost.exact_ms) < 1e-9
    assert abs(sum(rounded_ms) + cost.between_rounded_ms - cost.rounded_ms) < 1e-9
