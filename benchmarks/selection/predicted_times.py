"""Times of parts that were not measured, predicted from those that were, in the form of the table's rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from benchmarks.latency.table import Latency
from benchmarks.prediction.predict import Prediction
from benchmarks.prediction.project_cells import predicted_rows
from benchmarks.selection.candidates import VariantFiles
from benchmarks.selection.part_times import median_ms
from engines.building.build_items import WHOLE
from exporter.project.settings import Project
from jetson.errors import InputError

# Variant, layer, part, and the graph that runs.
_Graph = tuple[str, str, str, str]


def predicted_latencies(
    project: Project, variants: Sequence[VariantFiles], rows: Sequence[Latency], target: str
) -> list[Latency]:
    """Return the predicted times of the heads, tails and whole networks that `rows` have none of on `target`.

    Each says in its flags how sure it is. Nothing where all were measured, or where too little was to predict from:
    then the parts count as not measured. Raises CoopexportError when a graph that is to be read is damaged or missing.
    """
    own = [row for row in rows if row.target == target]
    measured = {(row.variant, row.layer, row.part, row.source_sha256 or "") for row in own}
    if not own or measured.issuperset(_graphs(variants)):
        return []
    try:
        found = predicted_rows(project, [replace(row, p50_ms=median_ms(row)) for row in own], target)
    except InputError:  # a time that nothing can be fitted to
        return []
    return [_row(target, item) for item in found.made]


def _graphs(variants: Iterable[VariantFiles]) -> Iterable[_Graph]:
    for files in variants:
        yield files.variant, WHOLE, WHOLE, files.whole.model.sha256
        for split in files.splits:
            yield split.variant, split.layer, "head", split.head.sha256
            yield split.variant, split.layer, "tail", split.tail.sha256
        for form in files.forms:
            for role, made in form.roles.items():
                yield form.variant, form.layer, role, made.file.sha256


def _row(target: str, prediction: Prediction) -> Latency:
    key = prediction.key
    return Latency(
        "predicted", target, key.variant, key.layer, key.part, "", prediction.source_sha256, None, prediction.ms, None,
        prediction.low_ms, prediction.high_ms, precision=key.precision, batch=key.batch, flags=(prediction.text(),),
    )  # fmt: skip
