"""Times of parts that were not measured, predicted from those that were, in the form of the table's rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from benchmarks.latency.bench_project import RUNS_FOLDER
from benchmarks.latency.table import Latency
from benchmarks.prediction.entropy_coders import entropy_coders
from benchmarks.prediction.predict import Prediction
from benchmarks.prediction.project_cells import predicted_rows
from benchmarks.selection.candidates import VariantFiles
from benchmarks.selection.part_times import median_ms
from engines.building.build_items import WHOLE
from exporter.project.settings import Project
from jetson.errors import InputError

# Variant, layer, part, codec, and the graph that runs, or whose symbols are coded.
_Graph = tuple[str, str, str, str, str]


def predicted_latencies(
    project: Project, variants: Sequence[VariantFiles], rows: Sequence[Latency], target: str
) -> list[Latency]:
    """Return the predicted times of the heads, tails, whole networks and coding that `rows` have none of on `target`.

    Each says in its flags how sure it is. Nothing where all were measured, or where too little was to predict from:
    then the parts count as not measured. Raises CoopexportError when a graph that is to be read is damaged or missing.
    """
    own = [row for row in rows if row.target == target]
    measured = {(row.variant, row.layer, row.part, row.codec, row.source_sha256 or "") for row in own}
    if not own or measured.issuperset(_graphs(variants)):
        return []
    try:
        coders = entropy_coders(
            project.output / RUNS_FOLDER, {row.run for row in own if row.part in ("encode", "decode")}
        )
        found = predicted_rows(project, [replace(row, p50_ms=median_ms(row)) for row in own], target, coders)
    except InputError:  # a time that nothing can be fitted to
        return []
    return [_row(target, item) for item in found.made]


def _graphs(variants: Iterable[VariantFiles]) -> Iterable[_Graph]:
    for files in variants:
        yield files.variant, WHOLE, WHOLE, "", files.whole.model.sha256
        for split in files.splits:
            yield from _of_cut(split.variant, split.layer, split.codec, split.head.sha256, split.tail.sha256)
        codecs = {split.layer: split.codec for split in files.splits}
        for form in files.forms:
            graphs = {role: made.file.sha256 for role, made in form.roles.items()}
            if form.layer in codecs:
                yield from _of_cut(form.variant, form.layer, codecs[form.layer], graphs["head"], graphs["tail"])
            else:
                yield from ((form.variant, form.layer, role, "", sha256) for role, sha256 in graphs.items())


def _of_cut(variant: str, layer: str, codec: str, head_sha256: str, tail_sha256: str) -> Iterable[_Graph]:
    yield variant, layer, "head", "", head_sha256
    yield variant, layer, "encode", codec, head_sha256
    yield variant, layer, "decode", codec, tail_sha256
    yield variant, layer, "tail", "", tail_sha256


def _row(target: str, prediction: Prediction) -> Latency:
    key = prediction.key
    return Latency(
        "predicted", target, key.variant, key.layer, key.part, prediction.codec, prediction.source_sha256, None,
        prediction.ms, None,
        prediction.low_ms, prediction.high_ms, precision=key.precision, batch=key.batch, flags=(prediction.text(),),
    )  # fmt: skip
