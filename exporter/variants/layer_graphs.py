"""The variants of a project's network, and the one export of each, made when it is missing or stale."""

from __future__ import annotations

import difflib
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from exporter.bundles.bundle import verify_weights
from exporter.data.datasets import load_dataset, network_inputs
from exporter.layers.candidates import Layer
from exporter.onnx_graphs.weight_store import store_weights
from exporter.project.freshness import FORMAT, MadeFrom, changed_inputs, recorded
from exporter.project.inputs import project_inputs
from exporter.project.settings import Project
from exporter.variants.plans import (
    ORIGINAL,
    PRUNED,
    check_plan,
    command_of,
    has_plan,
    load_variant,
    noise,
    plan_inputs,
    plan_is_here,
)
from exporter.variants.record import TRAINED_STEPS, VARIANT_FILE, VariantRecord, in_order, read_variant_record
from jetson.errors import DamagedFileError, InputError
from jetson.files.atomic_files import sha256_of_bytes, sha256_of_file, write_files
from jetson.files.json_files import encode_json, read_json

SCHEMA = "coopexport.layer-graph/1.1"
GRAPH_FILE = "model.onnx"
LAYERS_FILE = "model.layers.json"
EXAMPLE_SAMPLES = 16
# Messages list all variants up to this many, and the nearest ones beyond.
_MAX_LISTED = 8
_NEAREST = 5


@dataclass(frozen=True)
class LayerGraph:
    """An exported variant as it lies on the disk.

    `made_from`: what was exported (`graph_inputs`) and in which format; `model_sha256`: hash of the graph's file, which
    names its weights by their hashes; `parity`: what was proven when it was exported.
    """

    variant: str
    folder: Path
    made_from: MadeFrom
    model_sha256: str
    layers: tuple[Layer, ...]
    parity: tuple[dict[str, Any], ...] = ()

    def verified_file(self) -> Path:
        """Return the graph's file; raises CoopexportError when it or its weights are not the recorded ones."""
        path = self.folder / GRAPH_FILE
        if not path.is_file() or sha256_of_file(str(path)) != self.model_sha256:
            raise DamagedFileError(
                f"{path} is not the file that {LAYERS_FILE} names", path=path, fix="make it again: coopexport layers"
            )
        verify_weights(self.folder, path)
        return path

    def load(self) -> onnx.ModelProto:
        """Return the graph, its large weights left in their files; raises CoopexportError as `verified_file` does.

        To run it, `open_session` wants this folder as its `weights_folder`.
        """
        return onnx.load(str(self.verified_file()), load_external_data=False)


def variants(project: Project) -> list[str]:
    """Return the variants that exist.

    `original`, `pruned` once there is a shrink plan, then those of pruning in two steps and of bottlenecks that are
    complete, in the order of `in_order`.
    """
    given = [ORIGINAL, PRUNED] if plan_is_here(project, PRUNED) else [ORIGINAL]
    return [*given, *(record.variant for record in trained_records(project))]


def trained_records(project: Project) -> list[VariantRecord]:
    """Return the records of all variants that were trained, in order; raises CoopexportError.

    A folder without its plan, or without a record, which is written last, is not complete and left out.
    """
    folders = (path.parent for path in project.output.glob(f"*/{VARIANT_FILE}") if has_plan(path.parent))
    found = []
    for folder in sorted(folders):
        record = read_variant_record(folder)
        if record.step not in TRAINED_STEPS:
            continue
        if record.variant != folder.name:
            raise DamagedFileError(
                f"{folder / VARIANT_FILE} is of variant {record.variant}: a copied or renamed folder",
                fix="delete it, or give it its name back",
            )
        found.append(record)
    return in_order(found)


def existing_variant(project: Project, variant: str) -> str:
    """Return `variant`; raises CoopexportError naming others when it does not exist."""
    known = variants(project)
    if variant in known:
        return variant
    listed = f"there are: {', '.join(known)}"
    if len(known) > _MAX_LISTED:
        nearest = difflib.get_close_matches(variant, known, n=_NEAREST, cutoff=0.0)
        listed = f"there are {len(known)}, the nearest: {', '.join(nearest)}"
    advice = ""
    if variant == PRUNED:
        advice = "; make it with: coopexport shrink"
    elif variant and plan_is_here(project, variant):
        advice = f"; it is not complete, run: {command_of(project, variant)}"
    raise InputError(f'there is no variant "{variant}" ({listed}){advice}')


def example_inputs(project: Project) -> NDArray[np.float32]:
    """Return inputs to prove equality on: real ones where the project names data, else seeded noise.

    16 samples, N x input_shape, float32.
    """
    if project.settings.data.calibration is not None:
        return network_inputs(project, load_dataset(project, "calibration").first(EXAMPLE_SAMPLES))
    made: NDArray[np.float32] = noise(project, EXAMPLE_SAMPLES).numpy()
    return made


def graph_inputs(project: Project, variant: str) -> dict[str, str | None]:
    """Return what the graph of a variant is made from, and all that is made of the graph.

    Nothing of it is known (None) where the checkpoint or the shrink plan is not: a machine that only builds or serves
    has none. The examples that the export is proven on are nothing that it is made from.
    """
    weights = plan_inputs(project, variant)
    if None in weights.values():
        return weights
    return {**weights, **project_inputs(project, "network code", "model settings")}


def layer_graph(project: Project, variant: str) -> LayerGraph:
    """Return the exported graph of a variant, exporting it when it is missing, damaged or its sources have changed.

    A variant that has its plan but no record yet is exported all the same: its record takes the graph's metric. Raises
    CoopexportError when the variant does not exist, when it was made from other weights or masks than the project's, or
    when the export fails.
    """
    if variant != ORIGINAL:
        if not variant or not plan_is_here(project, variant):
            existing_variant(project, variant)
        check_plan(project, variant)
    now = {**graph_inputs(project, variant), FORMAT: SCHEMA}
    if variant == ORIGINAL and now["checkpoint"] is None:
        file = project.path(project.settings.model.checkpoint)
        raise InputError(f"{file} is missing", path=file, fix="check model.checkpoint")
    path = project.variant_folder(variant) / LAYERS_FILE
    if path.is_file():
        stored = read_layer_graph(path.parent, variant)
        if not changed_inputs(stored.made_from, now):
            with suppress(DamagedFileError):
                stored.verified_file()
                return stored
    return _export_variant(project, variant, recorded(now))


def read_layer_graph(folder: Path, variant: str) -> LayerGraph:
    """Read `model.layers.json` in a variant's folder; raises CoopexportError when it is malformed."""
    path = folder / LAYERS_FILE
    content = read_json(str(path), SCHEMA)
    try:
        layers = tuple(_layer(item) for item in content["layers"])
        parity = tuple(content.get("parity", ()))
        made_from = dict(content.get("made_from", {}))
        return LayerGraph(variant, folder, made_from, content["model_sha256"], layers, parity)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path} is malformed ({error})", path=path, fix="delete it and run again") from None


def _layer(item: dict[str, Any]) -> Layer:
    known = {field.name: item[field.name] for field in fields(Layer)}
    return Layer(**{**known, "shape": tuple(known["shape"]), "aliases": tuple(known["aliases"])})


def _export_variant(project: Project, variant: str, made_from: MadeFrom) -> LayerGraph:
    import torch

    from exporter.layers.export import export

    exported = export(load_variant(project, variant), torch.from_numpy(example_inputs(project)))
    folder = project.variant_folder(variant)
    graph = store_weights(exported.model, folder).SerializeToString(deterministic=True)
    parity = (exported.parity.to_json(),)
    record = LayerGraph(variant, folder, made_from, sha256_of_bytes(graph), exported.layers, parity)
    content = {
        "variant": variant,
        "made_from": made_from,
        "model_sha256": record.model_sha256,
        "parity": list(parity),
        "layers": [asdict(layer) for layer in exported.layers],
    }
    write_files(str(folder), {GRAPH_FILE: graph, LAYERS_FILE: encode_json(SCHEMA, content)})
    return record
