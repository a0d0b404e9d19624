"""Candidates in other precisions and batches: whose rows, accuracies and bytes they have, and which are compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from small_runs import run_of

from benchmarks.latency.run import RunItem
from benchmarks.latency.table import Latency, import_run, latest
from benchmarks.links.wire import wire_bytes
from benchmarks.selection.project_selection import ProjectSelection, other_slowdowns, select_for_project
from benchmarks.selection.select import select
from benchmarks.selection.select_project import SelectRequest, select_project
from benchmarks.selection.selector import INPUT, OUTPUT, Candidate, describe
from exporter.bundles.bundle import read_split
from exporter.bundles.precision_file import PrecisionFile, read_precision
from exporter.project.settings import Project, SelectSection, load_project
from jetson.errors import CoopexportError
from jetson.runtime.partition_policy import choose, read_partition_policy

NETWORKS = ("head", "tail", "whole")
REPLY_BYTES = 10 * 4  # ten classes in float32


@pytest.fixture
def project(converted_project: Path, tmp_path: Path) -> Project:
    return load_project(Path(shutil.copytree(converted_project, tmp_path / "project")) / "coopexport.toml")


@pytest.fixture
def rows(project: Project) -> list[Latency]:
    """What the project's table holds, in float32 and of one image; the table itself is gone."""
    table = project.output / "latency.sqlite"
    found = latest(table)
    table.unlink()
    return found


def items_of(rows: Sequence[Latency], times: float = 1.0, **fields: Any) -> list[RunItem]:
    return [
        RunItem(
            **{
                "variant": row.variant, "layer": row.layer, "part": row.part, "codec": row.codec or None,
                "source_sha256": row.source_sha256, "samples_ms": (times * row.p50_ms,) * 9, **fields,
            }
        )
        for row in rows
    ]  # fmt: skip


def items_of_form(project: Project, rows: Sequence[Latency], precision: str, times: float) -> list[RunItem]:
    """Return the rows of the pruned variant's forms in a precision: each `times` as long as float32's."""
    found = []
    for layer in ("conv4_1", "whole"):
        record = form_of(project, layer, precision)
        for row in rows:
            of_images = row.layer == "whole" and row.part != "whole"
            if (row.variant, row.layer) == ("pruned", layer) and not of_images:
                role = {"encode": "head", "decode": "tail"}.get(row.part, row.part)
                sha256 = record.roles[role].file.sha256
                found += items_of([row], times, precision=precision, source_sha256=sha256)
    return found


def form_of(project: Project, layer: str, precision: str) -> PrecisionFile:
    return read_precision(project.variant_folder("pruned"), layer, precision)


def plant(project: Project, items: Sequence[RunItem], minute: int = 1, **fields: Any) -> None:
    import_run(project.output / "latency.sqlite", run_of(*items, minute=minute, **fields))


def selected(project: Project, **settings: Any) -> ProjectSelection:
    return select_for_project(project, SelectSection(**{"maximum_loss_points": 100, **settings}), "cpu")


def candidate_of(result: ProjectSelection, layer: str, precision: str, coding: str = "") -> Candidate:
    (found,) = [
        one
        for one in result.selection.candidates
        if (one.variant, one.layer, one.precision) == ("pruned", layer, precision)
        and (layer != INPUT or one.coding.startswith(coding))
    ]
    return found


def ms(rows: Sequence[Latency], layer: str, part: str, codec: str = "") -> float:
    (found,) = [
        row.p50_ms for row in rows if (row.variant, row.layer, row.part, row.codec) == ("pruned", layer, part, codec)
    ]
    return found


def test_a_faster_int8_pair_within_the_bound_is_chosen(project: Project, rows: list[Latency]) -> None:
    plant(project, [*items_of(rows), *items_of_form(project, rows, "int8", 0.25)])
    written = select_project(project, SelectRequest(maximum_loss_points=100, upload=False))
    result = written.selected
    cut, record = candidate_of(result, "conv4_1", "int8"), form_of(project, "conv4_1", "int8")
    codec = read_split(project.variant_folder("pruned"), "conv4_1").codec
    device_ms = ms(rows, "whole", "preprocess") + 0.25 * (
        ms(rows, "conv4_1", "head") + ms(rows, "conv4_1", "encode", codec)
    )
    assert cut.device_ms == pytest.approx(5 * device_ms)
    assert cut.edge_ms == pytest.approx(0.25 * (ms(rows, "conv4_1", "decode", codec) + ms(rows, "conv4_1", "tail")))
    assert (cut.metric, cut.reason) == (record.metric.value, "")
    assert cut.loss_points == pytest.approx(100 * (result.reference - record.metric.value))
    float32 = candidate_of(result, "conv4_1", "fp32")
    assert (cut.payload_bytes, cut.wire_bytes) == (float32.payload_bytes, float32.wire_bytes)
    assert describe(cut) == f"{describe(float32)}, int8"
    # The whole network is faster still, on the device; without it the pair is the fastest everywhere.
    plan = read_partition_policy(str(written.path))
    for link in plan.content["links"]:
        chosen = plan.candidates[link["candidate"]]
        assert choose(plan, link["goodput_bps"]) == link["candidate"]
        assert (chosen["variant"], chosen["precision"], chosen["batch"]) == ("pruned", "int8", 1)
    (stored,) = [one for one in plan.candidates if (one["layer"], one["precision"]) == ("conv4_1", "int8")]
    assert stored["files"] == {"head": "pruned/conv4_1.head.int8.onnx", "tail": "pruned/conv4_1.tail.int8.onnx"}
    (whole,) = [one for one in plan.candidates if (one["layer"], one["precision"]) == (OUTPUT, "int8")]
    assert whole["files"] == {"whole": "pruned/whole.int8.onnx"}
    pair = selected(project, upload=False, cuts={"*": ["conv4_1", "pool3"]}).selection
    assert {describe(pair.candidates[link.candidate]) for link in pair.links} == {describe(cut)}


def test_an_int8_pair_that_loses_too_much_is_refused(project: Project, rows: list[Latency]) -> None:
    plant(project, [*items_of(rows), *items_of_form(project, rows, "int8", 0.25)])
    float32 = candidate_of(selected(project), "conv4_1", "fp32")
    for layer in ("conv4_1", "whole"):
        path = project.variant_folder("pruned") / f"{layer}.int8.json"
        record = json.loads(path.read_text())
        record["metric"]["value"] = float32.metric - 0.03
        path.write_text(json.dumps(record))
    result = selected(project, maximum_loss_points=max(float32.loss_points, 0.0) + 1)
    cut = candidate_of(result, "conv4_1", "int8")
    assert cut.reason.startswith(f"loses {float32.loss_points + 3:.2f} points, the limit is ")
    assert {result.selection.candidates[link.candidate].precision for link in result.selection.links} == {"fp32"}


def test_a_slower_int8_pair_is_a_candidate_and_not_chosen(project: Project, rows: list[Latency]) -> None:
    before = [describe(one) for one in _with_rows(project, items_of(rows)).selection.candidates]
    assert not [name for name in before if name.endswith("int8")]
    plant(project, items_of_form(project, rows, "int8", 3.0), minute=2)
    result = selected(project)
    assert {result.selection.candidates[link.candidate].precision for link in result.selection.links} == {"fp32"}
    added = [describe(one) for one in result.selection.candidates if one.precision == "int8"]
    assert added == [
        "pruned, all on the edge (raw), int8", "pruned, all on the device, int8",
        f"{describe(candidate_of(result, 'conv4_1', 'fp32'))}, int8",
    ]  # fmt: skip
    assert [describe(one) for one in result.selection.candidates if one.precision == "fp32"] == before


def _with_rows(project: Project, items: Sequence[RunItem]) -> ProjectSelection:
    plant(project, items)
    return selected(project)


def test_precisions_say_what_may_be_chosen(project: Project, rows: list[Latency]) -> None:
    plant(project, [*items_of(rows), *items_of_form(project, rows, "int8", 0.25)])
    result = selected(project, precisions=("fp32",))
    assert {one.reason for one in result.selection.candidates if one.precision == "int8"} == {
        "is int8, allowed is fp32"
    }


def test_what_a_precision_lacks_names_the_command(project: Project, rows: list[Latency]) -> None:
    items = items_of_form(project, rows, "int8", 0.25)
    failed = [item if item.part != "tail" else _failed(item) for item in items]
    plant(project, [*items_of(rows), *failed])
    cut = candidate_of(selected(project), "conv4_1", "int8")
    assert cut.reason == "tail failed when it was measured (RuntimeError: no kernel)"
    assert not candidate_of(selected(project), OUTPUT, "int8").reason
    older = [item.model_copy(update={"source_sha256": "older"}) if item.part == "whole" else item for item in items]
    plant(project, older, minute=2)
    assert candidate_of(selected(project), OUTPUT, "int8").reason == (
        "whole measured on an older graph or other images; run: coopexport bench --precision int8"
    )


def _failed(item: RunItem) -> RunItem:
    return item.model_copy(update={"samples_ms": None, "failure": "RuntimeError: no kernel"})


def test_a_form_of_an_older_bundle_is_no_choice(project: Project, rows: list[Latency]) -> None:
    plant(project, [*items_of(rows), *items_of_form(project, rows, "int8", 0.25)])
    path = project.variant_folder("pruned") / "conv4_1.int8.json"
    record = json.loads(path.read_text())
    record["made_from"]["float32 graphs"] = "others"
    path.write_text(json.dumps(record))
    assert candidate_of(selected(project), "conv4_1", "int8").reason == (
        "converted to int8 before float32 graphs changed; run: coopexport precision --precision int8 --layer conv4_1"
    )


def test_a_batch_is_compared_with_batches_of_its_size_alone(project: Project, rows: list[Latency]) -> None:
    of_pruned = [row for row in rows if row.variant == "pruned"]
    plant(project, [*items_of(rows), *items_of(of_pruned, 3.0, batch=4)])
    one, four = selected(project), selected(project, batch=4)
    assert {candidate.batch for candidate in one.selection.candidates} == {1}
    assert {candidate.batch for candidate in four.selection.candidates} == {4}
    single, batch = (candidate_of(result, "conv4_1", "fp32") for result in (one, four))
    assert single.device_ms is not None and single.edge_ms is not None
    assert batch.device_ms == pytest.approx(3 * single.device_ms)
    assert batch.edge_ms == pytest.approx(3 * single.edge_ms)
    assert batch.payload_bytes == pytest.approx(4 * single.payload_bytes)
    assert batch.wire_bytes == wire_bytes(4 * single.payload_bytes, 4 * REPLY_BYTES, four.settings.protocol)
    assert describe(batch) == f"{describe(single)}, batch of 4"
    (choice,) = [link for link in four.selection.links if link.link == "3G"]
    chosen = four.selection.candidates[choice.candidate]
    assert chosen.device_ms is not None and chosen.edge_ms is not None
    crossing_ms = 8000 * (chosen.wire_bytes or 0.0) / choice.goodput_bps
    assert choice.latency_ms == pytest.approx(chosen.device_ms + crossing_ms + chosen.edge_ms)
    # The original was not measured in batches, and so is predicted or has a reason that names the command.
    original = next(one for one in four.selection.candidates if (one.variant, one.layer) == ("original", OUTPUT))
    assert original.reason == "preprocess, whole not measured; run: coopexport bench --batch 4"
    with pytest.raises(CoopexportError, match="not measured; run: coopexport bench --batch 8"):
        selected(project, batch=8)


def test_a_head_that_was_not_measured_in_a_batch_is_predicted_from_that_batch(
    project: Project, rows: list[Latency]
) -> None:
    missing = ("pruned", "conv4_1", "head")
    known = [row for row in rows if (row.variant, row.layer, row.part) != missing]
    plant(project, [*items_of(rows), *items_of(known, 100.0, batch=4)])
    cut = candidate_of(selected(project, batch=4), "conv4_1", "fp32")
    assert (cut.device_origin, cut.reason) == ("predicted", "")
    assert cut.note.startswith("head ")
    single = candidate_of(selected(project), "conv4_1", "fp32")
    assert (single.device_origin, single.note) == ("scaled", "")
    # Of the batch's rows, each a hundred times as long: nothing of a single image is in it.
    assert cut.device_ms is not None and single.device_ms is not None
    assert cut.device_ms > 20 * single.device_ms


def test_the_device_holds_and_spends_what_was_measured_in_the_precision_and_batch(
    project: Project, rows: list[Latency]
) -> None:
    of_pruned = [row for row in rows if row.variant == "pruned"]
    forms = {
        ("fp32", 1): items_of(of_pruned),
        ("int8", 1): items_of_form(project, rows, "int8", 0.25),
        ("fp32", 4): items_of(of_pruned, 3.0, batch=4),
        ("int8", 4): [item.model_copy(update={"batch": 4}) for item in items_of_form(project, rows, "int8", 0.5)],
    }
    there = [
        item.model_copy(update=needs_of(item, number))
        for number, items in enumerate(forms.values(), start=1)
        for item in items
    ]
    plant(project, [item for items in forms.values() for item in items])
    plant(project, there, minute=2, target="board", started_at="2031-01-01T00:00:00+00:00")
    for number, (precision, batch) in enumerate(forms, start=1):
        result = selected(project, device_target="board", batch=batch, maximum_loss_points=1e6)
        found = {layer: candidate_of(result, layer, precision, "raw") for layer in (INPUT, "conv4_1", OUTPUT)}
        bytes_of = {layer: candidate.device_memory_bytes for layer, candidate in found.items()}
        assert bytes_of == {INPUT: 0, "conv4_1": 1000 * number + 100, OUTPUT: 1000 * number + 200}
        # Parts that handle images have no precision: theirs are those of float32 in this batch.
        of_images = number if precision == "fp32" else number - 1
        mj_of = {layer: candidate.device_mj for layer, candidate in found.items()}
        preprocess, encode = 0.125 + 64 * of_images, 0.25 + 64 * of_images
        assert mj_of == {
            INPUT: encode,
            "conv4_1": preprocess + (1 + 64 * number) + (0.5 + 64 * number),
            OUTPUT: preprocess + (2 + 64 * number),
        }
    coded = [one for one in selected(project, device_target="board", batch=4).selection.candidates if _is_coded(one)]
    assert coded
    assert {(one.device_memory_bytes, one.device_mj) for one in coded} == {(0, 0.25 + 64 * 3)}


def needs_of(item: RunItem, number: int) -> dict[str, float]:
    """Return what a part needs in the form `number`; all powers of two, so that sums are exact."""
    part_mj = {"preprocess": 0.125, "head": 1.0, "whole": 2.0, "encode": 0.25 if item.layer == "whole" else 0.5}
    needs = {"energy_mj": part_mj[item.part] + 64 * number} if item.part in part_mj else {}
    held = {"head": 100, "whole": 200}
    return {**needs, "peak_memory_bytes": 1000 * number + held[item.part]} if item.part in held else needs


def _is_coded(candidate: Candidate) -> bool:
    return (candidate.variant, candidate.layer) == ("pruned", INPUT) and candidate.coding != "raw"


def test_candidates_of_any_origin_are_of_batch_1_unless_another_is_asked_for() -> None:
    made = [Candidate("net", OUTPUT, "nothing", 0.0, 9.0 * batch, 0.0, 0.9, 0.0, batch=batch) for batch in (1, 4)]
    chosen = [select(made, {"link": 1e6}, batch=batch).links[0] for batch in (None, 1, 4)]
    assert [(choice.candidate, choice.latency_ms) for choice in chosen] == [(0, 9.0), (0, 9.0), (1, 36.0)]
    with pytest.raises(CoopexportError, match="is for batches of 4, wanted are 1"):
        select(made[1:], {"link": 1e6})


def test_each_precision_is_scaled_by_its_own_ratio(project: Project, rows: list[Latency]) -> None:
    plant(project, [*items_of(rows), *items_of_form(project, rows, "int8", 0.25)])
    of_pruned = [row for row in rows if row.variant == "pruned"]
    cut_alone = [item for item in items_of_form(project, rows, "int8", 0.25 * 10) if item.layer == "conv4_1"]
    there = {"target": "board", "started_at": "2031-01-01T00:00:00+00:00"}
    plant(project, [*items_of(of_pruned, 30.0), *cut_alone], minute=2, **there)
    result = selected(project, device_target="board")
    assert result.sources.device_slowdown == pytest.approx(30)
    assert result.sources.of("int8").device_slowdown == pytest.approx(10)
    cut, whole = (candidate_of(result, layer, "int8") for layer in ("conv4_1", OUTPUT))
    assert (cut.device_origin, cut.note) == ("measured", "")
    preprocess_ms, whole_ms = ms(rows, "whole", "preprocess"), 0.25 * ms(rows, "whole", "whole")
    assert whole.device_ms == pytest.approx(30 * preprocess_ms + 10 * whole_ms)
    assert (whole.device_origin, whole.note) == ("scaled", "whole not measured on board")
    path = select_project(project, SelectRequest(maximum_loss_points=100, device_target="board")).path
    assert "in int8 it is 10, of 2 parts" in read_partition_policy(str(path)).content["assumptions"]["device_ms"]
    for slowdown, selection in other_slowdowns(result):
        other = next(one for one in selection.candidates if (one.layer, one.precision) == (OUTPUT, "int8"))
        assert other.device_ms == pytest.approx(30 * preprocess_ms + slowdown * whole_ms)


def test_a_precision_that_the_device_did_not_run_is_scaled_as_float32_and_says_so(
    project: Project, rows: list[Latency]
) -> None:
    plant(project, [*items_of(rows), *items_of_form(project, rows, "int8", 0.25)])
    there = {"target": "board", "started_at": "2031-01-01T00:00:00+00:00"}
    plant(project, items_of([row for row in rows if row.variant == "pruned"], 30.0), minute=2, **there)
    whole = candidate_of(selected(project, device_target="board"), OUTPUT, "int8")
    assert whole.note == "whole not measured on board; whole scaled as in fp32"
    preprocess_ms, whole_ms = ms(rows, "whole", "preprocess"), 0.25 * ms(rows, "whole", "whole")
    assert whole.device_ms == pytest.approx(30 * (preprocess_ms + whole_ms))


def test_a_device_without_rows_of_a_batch_is_told(project: Project, rows: list[Latency]) -> None:
    plant(project, [*items_of(rows), *items_of(rows, 3.0, batch=4)])
    plant(project, items_of(rows, 30.0), minute=2, target="board", started_at="2031-01-01T00:00:00+00:00")
    with pytest.raises(CoopexportError, match="has nothing of board in batches of 4; it has cpu"):
        selected(project, device_target="board", batch=4)
