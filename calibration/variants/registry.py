"""The records of all variants of a project, measured again where they no longer say what is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from calibration.variants.register import Evaluation, Lineage, open_evaluation, register_variant
from exporter.project.freshness import FORMAT, Inputs, changed_inputs
from exporter.project.settings import Project
from exporter.shrinking.plan import read_shrink_plan
from exporter.variants.choice import naming
from exporter.variants.layer_graphs import LAYERS_FILE, read_layer_graph, variants
from exporter.variants.plans import ORIGINAL, PRUNED, check_plan, command_of
from exporter.variants.record import SCHEMA, VARIANT_FILE, VariantRecord, read_variant_record
from exporter.variants.staleness import measured_inputs, record_inputs
from jetson.errors import CoopexportError, DamagedFileError, StaleError


@dataclass(frozen=True)
class Registry:
    """The records of all variants, in the project's order; `outdated`: why those that do not hold could not be made."""

    records: tuple[VariantRecord, ...]
    outdated: Mapping[str, str]


def open_registry(project: Project, on_progress: Callable[[int], None] | None = None) -> Registry:
    """Return the records of all variants.

    `original` and `pruned` are registered when they have no record; every variant is measured again whose record is of
    another network, metric or evaluation data than the project's. One that cannot be exported again keeps its record
    and is named as outdated. Raises CoopexportError when there are no evaluation data, or no record and no way to one.
    """
    measured = measured_inputs(project)
    evaluation: Evaluation | None = None
    records: list[VariantRecord] = []
    outdated: dict[str, str] = {}
    for done, variant in enumerate(variants(project), start=1):
        stored = _stored(project, variant)
        if stored is not None and _is_fresh(project, stored, measured):
            records.append(stored)
        else:
            try:
                with naming(variant):
                    evaluation = open_evaluation(project) if evaluation is None else evaluation
                    records.append(register_variant(project, variant, _lineage(project, variant, stored), evaluation))
            except CoopexportError as error:
                if stored is None:
                    raise
                records.append(stored)
                outdated[variant] = str(error)
        if on_progress is not None:
            on_progress(done)
    return Registry(tuple(records), outdated)


def _stored(project: Project, variant: str) -> VariantRecord | None:
    folder = project.variant_folder(variant)
    return read_variant_record(folder) if (folder / VARIANT_FILE).is_file() else None


def _is_fresh(project: Project, record: VariantRecord, measured: Inputs) -> bool:
    """Tell whether nothing that a record is made from has changed."""
    folder = project.variant_folder(record.variant)
    try:
        if record.variant != ORIGINAL:
            check_plan(project, record.variant)
        graph = read_layer_graph(folder, record.variant).model_sha256 if (folder / LAYERS_FILE).is_file() else None
    except (StaleError, DamagedFileError):  # said again, to the user, when it cannot be exported
        return False
    now = {**record_inputs(project, record.variant, graph, measured), FORMAT: SCHEMA}
    return not changed_inputs(record.made_from, now)


def _lineage(project: Project, variant: str, stored: VariantRecord | None) -> Lineage:
    if variant == ORIGINAL:
        return Lineage(None, None, "original", {}, None, {})
    if variant == PRUNED:
        plan = read_shrink_plan(project.variant_folder(variant))
        return Lineage(ORIGINAL, None, "given", {"command": "shrink", "masks_from": plan.masks_from}, None, {})
    if stored is None:
        raise StaleError(f"variant {variant} has no record", fix=f"run: {command_of(project, variant)}")
    return Lineage(stored.parent, stored.series, stored.step, stored.method, stored.cuts, stored.training)
