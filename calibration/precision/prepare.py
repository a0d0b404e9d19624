"""Write a bundle's graphs in another precision: lowered, judged on held-out data, with golden data and bounds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from calibration.precision.judge import Verdict, bounds_of, open_judge, rounding_between
from calibration.precision.subject import WHOLE, PairRun, Part, Subject, inputs_of, open_subject, run_parts
from calibration.precision.work import PrecisionOptions, PrecisionRefusedError, Work, choose_kept, open_work
from calibration.splitting.context import GOLDEN_SAMPLES, SplitContext, golden_file
from exporter.bundles.bundle import FileRecord, check_file, write_bundle
from exporter.bundles.golden import golden_of_split, golden_of_whole
from exporter.bundles.precision_file import (
    PRECISION_SCHEMA,
    KeptLayer,
    Precision,
    PrecisionFile,
    RoleFile,
    precision_file_name,
    read_precision,
)
from exporter.onnx_graphs.weight_store import store_weights
from exporter.project.user_code import find_source
from jetson.errors import DamagedFileError, StaleError
from jetson.files.atomic_files import sha256_of_bytes, sha256_of_file


def prepare_precision(
    context: SplitContext,
    layer: str,
    options: PrecisionOptions,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[Path, PrecisionFile]:
    """Write the graphs of `layer` ("whole": the network that is not cut) in a precision; return manifest and its path.

    `context`: of the variant, with its data. What stays in float32 is chosen on calibration data; the loss that counts
    is measured on evaluation data. What the same recipe has made before is left as it is. Raises CoopexportError naming
    layer and number when the loss is above the bound; nothing is written then.
    """
    folder = context.graph.folder
    subject = open_subject(folder, layer, context.graph.model_sha256, context.graph.layers)
    recipe_sha256 = _recipe_sha256(context, subject, options)
    path = folder / precision_file_name(layer, options.precision)
    finished = _finished(folder, layer, options.precision, recipe_sha256)
    if finished is not None:
        return path, finished
    work = open_work(context, layer, options)
    kept = work.kept(choose_kept(work, on_progress))
    graphs = work.graphs(kept)
    judged = work.judged(graphs)
    verdict = open_judge(subject, context.evaluation_inputs, context.evaluation.labels, context.metric).judge(judged)
    _require_little_loss(work, verdict, kept)
    assert verdict.score is not None and verdict.metric is not None
    inputs = context.calibration_inputs[:GOLDEN_SAMPLES]
    golden_run = run_parts(subject, judged, inputs)
    golden = golden_file(context, _golden(golden_run))
    files = {f"{layer}.{options.precision}.golden.npz": golden}
    roles = {}
    for part, lowering in zip(subject.parts, work.lowerings, strict=True):
        name = (
            f"{layer}.{options.precision}.onnx"
            if part.role == WHOLE
            else f"{layer}.{part.role}.{options.precision}.onnx"
        )
        files[name] = _graph_file(part, graphs[part.role], folder)
        stays = tuple(
            KeptLayer(layer=item, reason=reason, precision="fp16" if item in lowering.halves else "fp32")
            for item, reason in kept[part.role].items()
        )
        roles[part.role] = RoleFile(
            file=FileRecord(file=name, sha256=sha256_of_bytes(files[name])),
            source_sha256=part.source.sha256,
            lowered=tuple(item for item in lowering.fit if item not in kept[part.role]),
            kept=stays,
            bounds=bounds_of(subject, part.role, judged[part.role], inputs_of(subject, part.role, inputs, golden_run)),
        )
    manifest = PrecisionFile(
        variant=context.graph.variant,
        layer=layer,
        precision=options.precision,
        model_sha256=context.graph.model_sha256,
        float32_golden_sha256=subject.golden_sha256,
        roles=roles,
        golden=FileRecord(file=f"{layer}.{options.precision}.golden.npz", sha256=sha256_of_bytes(golden)),
        metric=context.compare(verdict.score),
        against_float32=verdict.metric.model_copy(
            update={"data": context.project.settings.data.evaluation, "data_sha256": context.evaluation_sha256}
        ),
        changed_answers=verdict.changed_answers,
        maximum_loss_points=options.bound_points,
        ranges=_ranges(options),
        largest_activations=_largest(work),
        rounding=rounding_between(subject, run_parts(subject, subject.graphs, inputs), golden_run),
        recipe_sha256=recipe_sha256,
    )
    write_bundle(folder, path.name, PRECISION_SCHEMA, manifest, files)
    return path, manifest


def _require_little_loss(work: Work, verdict: Verdict, kept: dict[str, dict[str, str]]) -> None:
    if verdict.loses_at_most(work.options.bound_points):
        return
    where = f"{work.subject.layer} of {work.context.graph.variant} in {work.options.precision}"
    advice = "see which layers suffer with --sensitivity and keep them with --keep LAYER, or raise --maximum-loss"
    if verdict.metric is None:
        raise PrecisionRefusedError(
            f"{where}: outputs are not finite on the evaluation data; {advice}; nothing was written",
            layer=work.subject.layer,
        )
    measured, stays = verdict.metric, sum(map(len, kept.values()))
    raise PrecisionRefusedError(
        f"{where} costs {measured.loss_points:.2f} points of {measured.name} against float32 ({measured.reference:.4f} "
        f"to {measured.value:.4f}, {stays} layers kept in float32), allowed are {work.options.bound_points:g}: "
        f"{advice}; nothing was written",
        layer=work.subject.layer,
        number=measured.loss_points,
    )


def _golden(found: PairRun) -> dict[str, NDArray[Any]]:
    if not found.sent:
        return golden_of_whole(found.outputs)
    return golden_of_split(found.sent, found.taken, found.exits, found.outputs)


def _graph_file(part: Part, model: onnx.ModelProto, folder: Path) -> bytes:
    """Return a graph's bytes, its weights in the variant's folder where the float32 graph has them there."""
    stored = store_weights(model, folder) if part.is_shared else model
    content: bytes = stored.SerializeToString(deterministic=True)
    return content


def _largest(work: Work) -> dict[str, float] | None:
    found = {layer: value for lowering in work.lowerings for layer, value in lowering.largest.items()}
    return found or None


def _ranges(options: PrecisionOptions) -> dict[str, object] | None:
    if options.precision != "int8":
        return None
    only = {"percentile": options.ranges.percentile} if options.ranges.method == "percentile" else {}
    return {"method": options.ranges.method, **only}


def _recipe_sha256(context: SplitContext, subject: Subject, options: PrecisionOptions) -> str:
    """Return the hash of all that the files are made from: the same recipe makes the same files."""
    name = context.project.settings.data.metric
    code = find_source(name, context.project.folder) if ":" in name else None
    recipe = {
        "schema": PRECISION_SCHEMA,
        "variant": context.graph.variant,
        "layer": subject.layer,
        "golden": subject.golden_sha256,
        "sources": {part.role: part.source.sha256 for part in subject.parts},
        "tensors": [item.model_dump(mode="json") for item in subject.tensors],
        "options": asdict(options),
        "bound": options.bound_points,
        "calibration": [context.calibration_sha256, sha256_of_bytes(context.calibration.labels.tobytes())],
        "evaluation": context.evaluation_sha256,
        "metric": [name, None if code is None else sha256_of_file(str(code))],
    }
    return sha256_of_bytes(json.dumps(recipe, sort_keys=True).encode())


def _finished(folder: Path, layer: str, precision: Precision, recipe_sha256: str) -> PrecisionFile | None:
    """Return what is there, when it is whole and was made by this recipe."""
    try:
        found = read_precision(folder, layer, precision)
        if found.recipe_sha256 != recipe_sha256:
            return None
        for record in (found.golden, *(role.file for role in found.roles.values())):
            check_file(folder, record)
    except (StaleError, DamagedFileError):
        return None
    return found
