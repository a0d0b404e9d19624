"""Candidates: which times add up to which side, and why a candidate has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from example_selection import example_selection, latency_rows, variant_files
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.latency.table import Latency
from benchmarks.selection.candidates import VariantFiles, list_candidates
from benchmarks.selection.part_times import Key, Sources, times_of_target
from benchmarks.selection.selector import INPUT, OUTPUT, Candidate, Constraints, Options, select
from exporter.bundles.bundle import CutTensorRecord, FileRecord, images_sha256
from exporter.encoding.specification import FLOAT32
from jetson.errors import CoopexportError

FILES = variant_files("pruned", ["conv4_1", "pool4"], 0.98, 0.2, 0.97)
ROWS = latency_rows(FILES, 4.0)


def by_name(found: Sequence[Candidate]) -> dict[tuple[str, str], Candidate]:
    named = {(candidate.layer, candidate.coding): candidate for candidate in found}
    assert len(named) == len(found)
    return named


def sources_of(
    rows: Sequence[Latency], slowdown: float = 5.0, failed: Mapping[Key, str] | None = None, device: str | None = None
) -> Sources:  # fmt: skip
    """Return where times come from; `device`: the device's target."""
    measured = None if device is None else times_of_target(device, rows, failed or {})
    return Sources(times_of_target("cpu", rows, failed or {}), slowdown, measured)


def candidates(
    rows: Sequence[Latency] = ROWS, files: VariantFiles = FILES, slowdown: float = 5.0, **options: Any
) -> dict[tuple[str, str], Candidate]:
    return by_name(list_candidates([files], sources_of(rows, slowdown, **options), 0.985))


def with_time(layer: str, part: str, codec: str, p50_ms: float) -> list[Latency]:
    """Return the rows with another median of one part."""
    chosen = [row for row in ROWS if (row.layer, row.part, row.codec) == (layer, part, codec)]
    assert len(chosen) == 1
    return [replace(row, p50_ms=p50_ms) if row is chosen[0] else row for row in ROWS]


def ms(layer: str, part: str, codec: str = "") -> float:
    return next(row.p50_ms for row in ROWS if (row.layer, row.part, row.codec) == (layer, part, codec))


def test_every_way_to_run_the_network_is_there_once() -> None:
    found = candidates()
    assert set(found) == {
        (INPUT, "raw"),
        (INPUT, "jpeg q90"),
        (OUTPUT, "nothing"),
        ("conv4_1", "8-bit zlib-huffman"),
        ("pool4", "8-bit zlib-huffman"),
    }
    assert all(candidate.variant == "pruned" and not candidate.reason for candidate in found.values())


@given(st.floats(0.1, 50))
def test_the_times_of_each_side_add_up(slowdown: float) -> None:
    found = candidates(slowdown=slowdown)
    cut = found["conv4_1", "8-bit zlib-huffman"]
    assert cut.device_ms == pytest.approx(
        slowdown * (ms("whole", "preprocess") + ms("conv4_1", "head") + ms("conv4_1", "encode", "zlib-huffman"))
    )
    assert cut.edge_ms == pytest.approx(ms("conv4_1", "decode", "zlib-huffman") + ms("conv4_1", "tail"))
    for coding, name in (("raw", "raw"), ("jpeg", "jpeg q90")):
        edge_only = found[INPUT, name]
        assert edge_only.device_ms == pytest.approx(slowdown * ms("whole", "encode", coding))
        assert edge_only.edge_ms == pytest.approx(
            ms("whole", "decode", coding) + ms("whole", "preprocess") + ms("whole", "whole")
        )
    device_only = found[OUTPUT, "nothing"]
    assert device_only.device_ms == pytest.approx(slowdown * (ms("whole", "preprocess") + ms("whole", "whole")))
    assert (device_only.edge_ms, device_only.payload_bytes) == (0, 0)


def test_bytes_and_losses_come_from_the_manifests() -> None:
    found = candidates()
    split = FILES.splits[0]
    cut = found["conv4_1", "8-bit zlib-huffman"]
    assert (cut.payload_bytes, cut.metric) == (split.payload_bytes.mean, split.metric.value)
    assert cut.loss_points == pytest.approx(100 * (0.985 - split.metric.value))
    jpeg = found[INPUT, "jpeg q90"]
    assert (jpeg.payload_bytes, jpeg.metric) == (1312.4, 0.97)
    assert jpeg.loss_points == pytest.approx(1.5)
    assert found[INPUT, "raw"].loss_points == found[OUTPUT, "nothing"].loss_points == pytest.approx(0.5)


def test_float32_is_called_so() -> None:
    tensor = CutTensorRecord(name="t", shape=(8,), encoding=FLOAT32, codec="zlib-huffman")
    plain = FILES.splits[0].model_copy(update={"tensors": (tensor,)})
    assert ("conv4_1", "float32 zlib-huffman") in candidates(files=replace(FILES, splits=(plain,)))


PARTS = [(row.layer, row.part, row.codec) for row in ROWS]
ALL_IMAGES = {("whole", "preprocess", "")}
WHOLE_RUN = {*ALL_IMAGES, ("whole", "whole", "")}
NEEDED = {
    (INPUT, "raw"): {*WHOLE_RUN, ("whole", "encode", "raw"), ("whole", "decode", "raw")},
    (INPUT, "jpeg q90"): {*WHOLE_RUN, ("whole", "encode", "jpeg"), ("whole", "decode", "jpeg")},
    (OUTPUT, "nothing"): WHOLE_RUN,
    **{
        (layer, "8-bit zlib-huffman"): {
            *ALL_IMAGES,
            (layer, "head", ""),
            (layer, "encode", "zlib-huffman"),
            (layer, "decode", "zlib-huffman"),
            (layer, "tail", ""),
        }
        for layer in ("conv4_1", "pool4")
    },
}


@pytest.mark.parametrize("lost", PARTS)
@pytest.mark.parametrize("how", ["missing", "stale", "failed"])
def test_what_is_not_known_is_a_reason_for_those_who_need_it(lost: tuple[str, str, str], how: str) -> None:
    """Never a number, and never a reason for a candidate that does without that part."""
    rows = [row for row in ROWS if (row.layer, row.part, row.codec) != lost]
    failed = {}
    if how == "stale":
        rows += [replace(row, source_sha256="an older one") for row in ROWS if (row.layer, row.part, row.codec) == lost]
    elif how == "failed":
        failed = {("cpu", "pruned", *lost): "RuntimeError: broken"}
    part = lost[1]
    said = {
        "missing": f"{part} not measured; run: coopexport bench",
        "stale": f"{part} measured on an older graph or other images; run: coopexport bench",
        "failed": f"{part} failed when it was measured (RuntimeError: broken)",
    }[how]
    for name, candidate in candidates(rows, failed=failed).items():
        if lost in NEEDED[name]:
            assert candidate.reason == said
            assert candidate.device_ms is None or candidate.edge_ms is None
        else:
            assert not candidate.reason
            assert candidate.device_ms is not None
            assert candidate.edge_ms is not None


def test_all_that_is_missing_is_named() -> None:
    rows = [row for row in ROWS if (row.layer, row.part) not in (("conv4_1", "head"), ("conv4_1", "tail"))]
    assert candidates(rows)["conv4_1", "8-bit zlib-huffman"].reason == (
        "head, tail not measured; run: coopexport bench"
    )


def test_without_any_row_nothing_can_be_chosen() -> None:
    found = candidates([])
    assert all(candidate.reason.endswith("run: coopexport bench") for candidate in found.values())
    with pytest.raises(CoopexportError, match=r"no candidate is left to choose from: .*not measured"):
        select(list(found.values()), {"WiFi": 1e7}, 100.0)


def test_rows_of_another_variant_are_not_taken() -> None:
    rows = [replace(row, variant="original") for row in ROWS]
    assert all(candidate.reason for candidate in candidates(rows).values())


def test_image_parts_go_stale_with_images_preprocessing_and_quality() -> None:
    """The graph is the same in all of these, and yet the times are of something else."""
    whole = FILES.whole
    jpeg = whole.inputs["jpeg"]
    changes = {
        "images": {"golden": FileRecord(file="golden.npz", sha256="other images")},
        "preprocessing": {"preprocessing": {"resize": 256}},
        "quality": {"inputs": {**whole.inputs, "jpeg": jpeg.model_copy(update={"quality": 50})}},
    }
    for change in changes.values():
        changed = whole.model_copy(update=change)
        assert images_sha256(changed) != images_sha256(whole)
        found = by_name(list_candidates([VariantFiles("pruned", changed, ())], sources_of(ROWS), 0.985))
        for candidate in found.values():
            assert "preprocess" in candidate.reason
            assert "measured on an older graph" in candidate.reason
    assert images_sha256(whole.model_copy(update={"made_from": {}})) == images_sha256(whole)


def with_resized(quality: int = 60) -> VariantFiles:
    """Return the variant with its image sent resized as well."""
    resized = FILES.whole.inputs["jpeg"].model_copy(update={"quality": quality})
    inputs = {**FILES.whole.inputs, "resized-jpeg": resized}
    return replace(FILES, whole=FILES.whole.model_copy(update={"inputs": inputs}))


def test_an_image_that_is_sent_resized_needs_what_is_left_of_preprocessing() -> None:
    files = with_resized()
    assert images_sha256(with_resized(50).whole) != images_sha256(files.whole) != images_sha256(FILES.whole)
    rows = latency_rows(files, 4.0)
    times_ms = {"encode": ("resized-jpeg", 0.5), "decode": ("resized-jpeg", 0.25), "preprocess": ("resized", 0.125)}
    resized = [
        replace(rows[0], part=part, codec=codec, source_sha256=images_sha256(files.whole), p50_ms=p50_ms)
        for part, (codec, p50_ms) in times_ms.items()
    ]
    found = candidates([*rows, *resized], files)
    assert found[INPUT, "resized-jpeg q60"].device_ms == pytest.approx(5 * 0.5)
    assert found[INPUT, "resized-jpeg q60"].edge_ms == pytest.approx(0.25 + 0.125 + 4.0)
    for lost in resized:
        without = candidates([*rows, *(row for row in resized if row is not lost)], files)
        assert without[INPUT, "resized-jpeg q60"].reason == f"{lost.part} not measured; run: coopexport bench"
        assert [name for name, item in without.items() if item.reason] == [(INPUT, "resized-jpeg q60")]


@pytest.mark.parametrize("name", ["graph", "evaluation data", "metric"])
def test_a_bundle_of_another_network_or_other_data_is_left_out(name: str) -> None:
    split = FILES.splits[0]
    older = split.model_copy(update={"made_from": {**split.made_from, name: "older"}})
    found = candidates(files=replace(FILES, splits=(older, FILES.splits[1])))
    reason = f"split before {name} changed; run: coopexport split --layer conv4_1"
    assert found["conv4_1", "8-bit zlib-huffman"].reason == reason
    assert not found["pool4", "8-bit zlib-huffman"].reason


@given(st.floats(0.01, 100), st.sampled_from(PARTS))
def test_a_slower_part_makes_those_slower_that_need_it(more_ms: float, part: tuple[str, str, str]) -> None:
    slower = candidates(with_time(*part, ms(*part) + more_ms))
    for name, candidate in candidates().items():
        before, after = ((c.device_ms or 0.0) + (c.edge_ms or 0.0) for c in (candidate, slower[name]))
        if part in NEEDED[name]:
            assert after - before > 0.99 * more_ms
        else:
            assert after == before


def test_a_missing_jpeg_measurement_does_not_leave_out_the_others() -> None:
    result = example_selection()
    rows = [row for row in result.rows if (row.variant, row.codec, row.part) != ("pruned", "jpeg", "encode")]
    for inputs in (["raw", "jpeg"], ["jpeg", "raw"]):
        variants = [
            replace(item, whole=item.whole.model_copy(update={"inputs": {k: item.whole.inputs[k] for k in inputs}}))
            for item in result.variants
        ]
        found = list_candidates(variants, sources_of(rows), result.reference)
        reasons = {(item.layer, item.coding): item.reason for item in found if item.variant == "pruned"}
        assert reasons["input", "raw"] == ""
        assert reasons["output", "nothing"] == ""
        assert reasons["input", "jpeg q90"] == "encode not measured; run: coopexport bench"


# --- Times of the device itself ---

CUT = ("conv4_1", "8-bit zlib-huffman")
ON_DEVICE = {
    ("whole", "preprocess", ""): 0.5,
    ("conv4_1", "head", ""): 30.0,
    ("conv4_1", "encode", "zlib-huffman"): 2.0,
}


def device_rows(*without: str) -> list[Latency]:
    rows = [row for row in ROWS if (row.layer, row.part, row.codec) in ON_DEVICE and row.part not in without]
    return [replace(row, target="orin", p50_ms=ON_DEVICE[row.layer, row.part, row.codec]) for row in rows]


def test_what_was_measured_on_the_device_is_taken_as_it_is() -> None:
    for slowdown in (1.0, 7.0):
        cut = candidates([*ROWS, *device_rows()], slowdown=slowdown, device="orin")[CUT]
        assert (cut.device_ms, cut.device_origin, cut.edge_origin, cut.note) == (32.5, "measured", "measured", "")
        assert cut.edge_ms == candidates()[CUT].edge_ms


def test_what_is_missing_on_the_device_is_scaled_and_said() -> None:
    found = candidates([*ROWS, *device_rows("head")], slowdown=3.0, device="orin")
    assert found[CUT].device_ms == pytest.approx(0.5 + 2.0 + 3.0 * ms("conv4_1", "head"))
    assert (found[CUT].device_origin, found[CUT].note) == ("scaled", "head not measured on orin")
    # Another cut has only its preprocessing there.
    assert found["pool4", "8-bit zlib-huffman"].note == "head, encode not measured on orin"
    alone = found[OUTPUT, "nothing"]
    assert (alone.device_origin, alone.edge_origin, alone.note) == ("scaled", None, "whole not measured on orin")


def test_without_a_device_all_is_scaled_as_ever() -> None:
    for candidate in candidates().values():
        assert (candidate.device_origin, candidate.note) == ("scaled", "")
        assert candidate.edge_origin == (None if candidate.layer == OUTPUT else "measured")


def test_what_was_measured_on_the_device_on_another_graph_is_not_taken() -> None:
    stale = [replace(row, source_sha256="older") if row.part == "head" else row for row in device_rows()]
    assert candidates([*ROWS, *stale], device="orin")[CUT].note == "head not measured on orin"


def test_what_failed_on_the_device_cannot_be_chosen_although_it_ran_here() -> None:
    failed = {("orin", "pruned", "conv4_1", "head", ""): "RuntimeError: no memory"}
    found = candidates([*ROWS, *device_rows("head")], failed=failed, device="orin")
    assert found[CUT].reason == "head failed when it was measured on orin (RuntimeError: no memory)"
    assert found[CUT].device_ms is None
    assert not found["pool4", "8-bit zlib-huffman"].reason


# --- What the device has to hold and to spend ---


def test_the_device_has_to_hold_the_engine_that_it_runs_as_measured_there() -> None:
    bytes_of = {("conv4_1", "head"): 5_000_000, ("whole", "whole"): 9_000_000}
    there = [replace(row, target="orin", peak_memory_bytes=bytes_of.get((row.layer, row.part))) for row in ROWS]
    rows = [*(replace(row, peak_memory_bytes=1) for row in ROWS), *there]
    found = {name: one.device_memory_bytes for name, one in candidates(rows, device="orin").items()}
    assert (found[CUT], found[OUTPUT, "nothing"]) == (5_000_000, 9_000_000)
    assert (found[INPUT, "raw"], found["pool4", "8-bit zlib-huffman"]) == (0, None)
    assert candidates(rows)[CUT].device_memory_bytes is None, "this machine is not the device"
    stale = [replace(row, source_sha256="older") if row.part == "head" else row for row in rows]
    assert candidates(stale, device="orin")[CUT].device_memory_bytes is None
    constraints = Constraints(maximum_device_memory_bytes=6e6, upload=False)
    offered = list_candidates([FILES], sources_of(rows, device="orin"), 0.985)
    judged = {
        (one.layer, one.coding): one.reason
        for one in select(offered, {"slow": 1e3}, 100.0, Options(constraints=constraints)).candidates
    }
    assert judged[CUT] == ""
    assert judged[OUTPUT, "nothing"] == "takes 9000000 bytes of device memory, the limit is 6e+06"
    assert judged["pool4", "8-bit zlib-huffman"] == "bytes of device memory not measured, the limit is 6e+06"


NEEDS = {  # bytes, millijoules
    ("whole", "preprocess", ""): (None, 0.25),
    ("whole", "whole", ""): (9_000_000, 40.0),
    ("whole", "encode", "raw"): (None, 0.5),
    ("conv4_1", "head", ""): (5_000_000, 20.0),
    ("conv4_1", "encode", "zlib-huffman"): (None, 1.0),
}


def needing(*without_energy: str) -> list[Latency]:
    """Return rows of the device with what they need; rows here need other amounts, which must not count."""
    here = [replace(row, peak_memory_bytes=1, energy_mj=1.0) for row in ROWS]
    there = []
    for row in ROWS:
        peak_bytes, energy_mj = NEEDS.get((row.layer, row.part, row.codec), (None, None))
        energy_mj = None if row.part in without_energy else energy_mj
        there.append(replace(row, target="orin", peak_memory_bytes=peak_bytes, energy_mj=energy_mj))
    return [*here, *there]


def test_what_the_device_has_to_hold_and_to_spend_is_that_of_its_own_parts() -> None:
    found = candidates(needing(), device="orin")
    needs = {name: (one.device_memory_bytes, one.device_mj) for name, one in found.items()}
    assert needs == {
        CUT: (5_000_000, 21.25),
        (OUTPUT, "nothing"): (9_000_000, 40.25),
        (INPUT, "raw"): (0, 0.5),
        (INPUT, "jpeg q90"): (0, None),
        ("pool4", "8-bit zlib-huffman"): (None, None),
    }


def test_energy_is_known_where_that_of_all_parts_is() -> None:
    found = candidates(needing("preprocess"), device="orin")
    assert [found[name].device_mj for name in (CUT, (OUTPUT, "nothing"), (INPUT, "raw"))] == [None, None, 0.5]


def test_needs_of_another_graph_or_of_this_machine_are_not_the_devices() -> None:
    stale = [replace(row, source_sha256="older") if row.part == "head" else row for row in needing()]
    assert (candidates(stale, device="orin")[CUT].device_memory_bytes, candidates(needing())[CUT].device_mj) == (
        None, None,
    )  # fmt: skip


def test_a_bound_on_energy_leaves_out_what_takes_more_and_what_was_not_measured() -> None:
    found = list_candidates([FILES], sources_of(needing(), device="orin"), 0.985)
    options = Options(constraints=Constraints(maximum_device_mj=1.0))
    judged = {(one.layer, one.coding): one.reason for one in select(found, {"slow": 1e3}, 100.0, options).candidates}
    assert judged[INPUT, "raw"] == ""
    assert judged[CUT] == "takes 21.25 mJ on the device, the limit is 1"
    assert judged[INPUT, "jpeg q90"] == "mJ on the device not measured, the limit is 1"


def test_a_predicted_time_stands_in_for_a_missing_one_and_is_called_so() -> None:
    rows = [row for row in ROWS if (row.layer, row.part) != ("conv4_1", "tail")]
    predicted = [replace(row, p50_ms=9.0) for row in ROWS]  # those that were measured are not asked for
    edge = times_of_target("cpu", rows, {}, predicted)
    cut = by_name(list_candidates([FILES], Sources(edge, 5.0), 0.985))[CUT]
    assert cut.edge_ms == pytest.approx(9.0 + ms("conv4_1", "decode", "zlib-huffman"))
    assert (cut.device_origin, cut.edge_origin, cut.reason) == ("scaled", "predicted", "")


def test_all_bytes_that_cross_are_counted_where_anything_crosses() -> None:
    files = replace(FILES, reply_bytes=40.0)
    found = list_candidates([files], sources_of(ROWS), 0.985, lambda payload, reply: 2 * payload + reply)
    for candidate in found:
        crosses = candidate.layer != OUTPUT
        assert candidate.wire_bytes == (2 * candidate.payload_bytes + 40 if crosses else 0)
    assert all(item.wire_bytes == item.payload_bytes for item in candidates().values())
