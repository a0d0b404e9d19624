"""coopexport: one neural network on two machines.

The verbs of the command line as functions over plain values. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

# What `import coopexport` offers: the same verbs as the commands.
API = {
    "__version__": "jetson.version:VERSION",
    "CoopexportError": "jetson.errors:CoopexportError",
    "Masks": "exporter.masks.masks:Masks",
    "read_masks": "exporter.masks.dictionaries:read_any_masks",
    "masks_from_zero_weights": "exporter.masks.importers:from_zero_weights",
    "masks_from_torch_prune": "exporter.masks.importers:from_torch_prune",
    "masks_from_batch_norm_gammas": "exporter.masks.importers:from_batch_norm_gammas",
    "masks_from_nni": "exporter.masks.dictionaries:from_nni",
    "masks_from_dictionary": "exporter.masks.dictionaries:from_dictionary",
    "prune": "exporter.pruning.one_shot:prune",
    "masked_network": "exporter.masks.masked_network:masked_network",
    "ShrinkOptions": "exporter.shrinking.removal:ShrinkOptions",
    "write_masks": "exporter.masks.masks:write_masks",
    "shrink": "exporter.shrinking.shrink:shrink",
    "export": "exporter.layers.export:export",
    "candidates": "exporter.layers.candidates:candidates",
    "find_layer": "exporter.layers.names:find_layer",
    "ClipSettings": "calibration.ranges.clip_methods:ClipSettings",
    "calibrate": "calibration.ranges.clip_range:calibrate",
    "affine_specification": "exporter.encoding.specification:affine_specification",
    "FLOAT16": "exporter.encoding.specification:FLOAT16",
    "FLOAT32": "exporter.encoding.specification:FLOAT32",
    "Boundary": "exporter.cutting.split:Boundary",
    "split": "exporter.cutting.split:split",
    "lower": "calibration.precision.lower:lower",
    "rounding_graph": "calibration.precision.half_evaluator:rounding_graph",
    "fit_symbol_model": "calibration.codecs.entropy_tables:fit_symbol_model",
    "wire_specification": "exporter.encoding.specification:wire_specification",
    "pack": "jetson.wire.message:pack",
    "unpack": "jetson.wire.message:unpack",
    "build": "engines.building.build:build_engine",
    "bench": "benchmarks.latency.bench:measure",
    "Candidate": "benchmarks.selection.selector:Candidate",
    "select": "benchmarks.selection.selector:select",
    "report": "benchmarks.report.project:report",
}


def __getattr__(name: str) -> Any:
    """Import a public function when it is first asked for, so that importing coopexport imports no torch."""
    if name not in API:
        raise AttributeError(f"module 'coopexport' has no attribute {name!r}")
    module_name, _, attribute = API[name].partition(":")
    return getattr(importlib.import_module(module_name), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *API])
