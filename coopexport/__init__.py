"""coopexport: one neural network on two machines.

`Project` has the verbs of the command line as methods, for a project at a time. The functions are the same verbs over
plain values: modules, graphs, arrays. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# The same names as in API, where a type checker or an IDE looks for them.
if TYPE_CHECKING:
    from benchmarks.latency.bench import time_functions as bench
    from benchmarks.planning.latency_model import Candidate as Candidate
    from benchmarks.report.project import report as report
    from benchmarks.selection.select import select as select
    from calibration.codecs.entropy_tables import fit_symbol_model as fit_symbol_model
    from calibration.precision.convert_graph import convert_precision as lower
    from calibration.precision.half_evaluator import rounding_graph as rounding_graph
    from calibration.ranges.clip_methods import ClipSettings as ClipSettings
    from calibration.ranges.clip_range import calibrate as calibrate
    from coopexport.project import Project as Project
    from engines.building.build import build_engine as build
    from exporter.cutting.split import CutTensor as Boundary
    from exporter.cutting.split import split as split
    from exporter.encoding.specification import FLOAT16 as FLOAT16
    from exporter.encoding.specification import FLOAT32 as FLOAT32
    from exporter.encoding.specification import affine_specification as affine_specification
    from exporter.encoding.specification import wire_specification as wire_specification
    from exporter.layers.candidates import candidates as candidates
    from exporter.layers.export import export as export
    from exporter.layers.names import find_layer as find_layer
    from exporter.masks.dictionaries import from_dictionary as masks_from_dictionary
    from exporter.masks.dictionaries import from_nni as masks_from_nni
    from exporter.masks.dictionaries import read_any_masks as read_masks
    from exporter.masks.importers import from_batch_norm_gammas as masks_from_batch_norm_gammas
    from exporter.masks.importers import from_torch_prune as masks_from_torch_prune
    from exporter.masks.importers import from_zero_weights as masks_from_zero_weights
    from exporter.masks.masked_network import masked_network as masked_network
    from exporter.masks.masks import Masks as Masks
    from exporter.masks.masks import write_masks as write_masks
    from exporter.pruning.one_shot import prune as prune
    from exporter.shrinking.removal import ShrinkOptions as ShrinkOptions
    from exporter.shrinking.shrink import shrink as shrink
    from jetson.errors import CoopexportError as CoopexportError
    from jetson.errors import DamagedFileError as DamagedFileError
    from jetson.errors import DeviceError as DeviceError
    from jetson.errors import InputError as InputError
    from jetson.errors import ParityError as ParityError
    from jetson.errors import StaleError as StaleError
    from jetson.errors import UnsupportedError as UnsupportedError
    from jetson.version import VERSION as __version__  # noqa: N811
    from jetson.wire.message import decode_message as unpack
    from jetson.wire.message import encode_message as pack

__all__ = [
    "FLOAT16",
    "FLOAT32",
    "Boundary",
    "Candidate",
    "ClipSettings",
    "CoopexportError",
    "DamagedFileError",
    "DeviceError",
    "InputError",
    "Masks",
    "ParityError",
    "Project",
    "ShrinkOptions",
    "StaleError",
    "UnsupportedError",
    "__version__",
    "affine_specification",
    "bench",
    "build",
    "calibrate",
    "candidates",
    "export",
    "find_layer",
    "fit_symbol_model",
    "lower",
    "masked_network",
    "masks_from_batch_norm_gammas",
    "masks_from_dictionary",
    "masks_from_nni",
    "masks_from_torch_prune",
    "masks_from_zero_weights",
    "pack",
    "prune",
    "read_masks",
    "report",
    "rounding_graph",
    "select",
    "shrink",
    "split",
    "unpack",
    "wire_specification",
    "write_masks",
]

# What `import coopexport` offers: the same verbs as the commands.
API = {
    "Project": "coopexport.project:Project",
    "__version__": "jetson.version:VERSION",
    "CoopexportError": "jetson.errors:CoopexportError",
    "InputError": "jetson.errors:InputError",
    "DamagedFileError": "jetson.errors:DamagedFileError",
    "StaleError": "jetson.errors:StaleError",
    "UnsupportedError": "jetson.errors:UnsupportedError",
    "ParityError": "jetson.errors:ParityError",
    "DeviceError": "jetson.errors:DeviceError",
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
    "Boundary": "exporter.cutting.split:CutTensor",
    "split": "exporter.cutting.split:split",
    "lower": "calibration.precision.convert_graph:convert_precision",
    "rounding_graph": "calibration.precision.half_evaluator:rounding_graph",
    "fit_symbol_model": "calibration.codecs.entropy_tables:fit_symbol_model",
    "wire_specification": "exporter.encoding.specification:wire_specification",
    "pack": "jetson.wire.message:encode_message",
    "unpack": "jetson.wire.message:decode_message",
    "build": "engines.building.build:build_engine",
    "bench": "benchmarks.latency.bench:time_functions",
    "Candidate": "benchmarks.planning.latency_model:Candidate",
    "select": "benchmarks.selection.select:select",
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
