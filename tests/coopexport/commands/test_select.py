"""What select prints: the choice on each link below what it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from example_selection import example_selection
from example_variants import two_step_selection

from benchmarks.report.summary import link_sentences
from benchmarks.selection.selector import OUTPUT, describe
from coopexport.commands.select import costs_of_chosen, interval_rows, result_rows, times_of_chosen
from jetson.runtime.partition_policy import read_partition_policy


def test_the_printed_table_says_what_was_selected() -> None:
    result = example_selection(("conv1_1", "pool3", "conv4_1"))
    rows = result_rows(result)
    chosen = [row for row in rows if row[1] == "chosen"]
    assert len(chosen) == len(result.selection.links) == 3
    for row, choice in zip(chosen, result.selection.links, strict=True):
        assert row[2] == describe(result.selection.candidates[choice.candidate])
        assert row[5] == f"{choice.latency_ms:.3f}"
    assert [row[0] for row in rows if row[0]] == ["3G 1.1 Mbit/s", "4G 5.85 Mbit/s", "WiFi 18.88 Mbit/s"]
    kinds = {describe(candidate) for candidate in result.selection.candidates if candidate.variant == "pruned"}
    assert "pruned, all on the device" in kinds
    # The better of the two.
    assert any(kind.startswith(f"pruned, all on the edge ({codec} q") for kind in kinds for codec in ("jpeg", "webp"))
    assert "pruned, cut after conv4_1 (8-bit zlib-huffman)" in kinds


def test_the_table_says_which_of_a_family_it_is() -> None:
    rows = {(row[1], row[2]) for row in result_rows(two_step_selection())}
    assert ("device only, original", "") in rows
    assert any(name == "device only, step 2" and "all on the device" in which for name, which in rows)


def test_the_table_says_the_precision_where_it_is_not_float32() -> None:
    result = example_selection(("conv4_1",))
    found = tuple(
        replace(one, precision="int8") if (one.variant, one.layer) == ("pruned", OUTPUT) else one
        for one in result.selection.candidates
    )
    changed = replace(result, selection=replace(result.selection, candidates=found))
    rows = {row[1]: row[2] for row in result_rows(changed)}
    assert (rows["device only, original"], rows["device only, pruned"]) == ("", "pruned, all on the device, int8")


def test_it_is_said_where_the_times_of_what_was_chosen_come_from() -> None:
    selection = example_selection(("conv1_1", "pool3", "conv4_1")).selection
    chosen = {describe(selection.candidates[choice.candidate]) for choice in selection.links}
    said = times_of_chosen(selection)
    assert len(said) == len(chosen)
    for line in said:
        on_device = "all on the device" in line
        assert line.endswith(": device scaled" if on_device else ": device scaled, edge measured")
    mixed = replace(selection.candidates[0], device_origin="scaled", note="encode not measured on orin")
    choice = replace(selection.links[0], candidate=0)
    other = replace(selection, candidates=(mixed, *selection.candidates[1:]), links=(choice, choice))
    assert times_of_chosen(other) == [
        f"times of {describe(mixed)}: device scaled, edge measured (encode not measured on orin)"
    ]


def test_what_was_chosen_takes_is_said_where_it_has_a_bound() -> None:
    result = example_selection(("conv1_1", "pool3", "conv4_1"))
    assert costs_of_chosen(result) == []
    known = tuple(replace(one, device_memory_bytes=5e6, device_mj=2.5) for one in result.selection.candidates)
    settings = result.settings.model_copy(update={"maximum_device_memory_bytes": 6e6, "maximum_device_mj": 3.0})
    bounded = replace(result, selection=replace(result.selection, candidates=known), settings=settings)
    chosen = dict.fromkeys(describe(known[choice.candidate]) for choice in result.selection.links)
    takes = "takes 5000000 bytes of device memory, the limit is 6e+06; takes 2.5 mJ on the device, the limit is 3"
    assert costs_of_chosen(bounded) == [f"{one} {takes}" for one in chosen]
    assert f"It {takes}." in link_sentences(bounded, bounded.selection.links[0])
    assert "device memory" not in link_sentences(result, result.selection.links[0])


def test_options_reach_the_plan(coopexport: Callable, finished_project: Path) -> None:
    result = coopexport(
        finished_project, "select", "--maximum-loss-points", "100", "--maximum-latency-ms", "10000", "--goodput-bps",
        "2e6", "--round-trip-ms", "5", "--no-upload", "--cut", "pruned:pool3", "--cut", "pruned:output",
        "--device-load", "busy=2.5", "--edge-load", "full=4", "--precision", "fp32", "--batch", "1",
        "--hysteresis-percent", "0",
    )  # fmt: skip
    assert result.code == 0, result.errors
    plan = read_partition_policy(str(finished_project / "out" / "plan.json"))
    assert [(one.device_load, one.edge_load, one.round_trip_ms) for one in plan.envelopes] == [
        (device, edge, 5.0) for device in ("idle", "busy") for edge in ("idle", "full")
    ]
    assert plan.content["objective"] == "most accurate within maximum_latency_ms"
    reasons = {(item["variant"], item["layer"]): item.get("reason", "") for item in plan.candidates}
    assert reasons["pruned", "conv4_1"] == "pruned may be cut at pool3, output only"
    assert reasons["pruned", "input"] == "sends the input, which may not be uploaded"
    for envelope in plan.envelopes:
        named = f"device {envelope.device_load}, edge {envelope.edge_load}; round trip 5 ms"
        assert named in " ".join(result.output.split())
        assert list(envelope.stay_from_bps) == list(envelope.from_bps)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--maximum-latency-ms", "1e-9"], ["no candidate takes at most 1e-09 ms at 1.1 Mbit/s (3G): the nearest"]),
        (["--maximum-latency-ms", "-1"], ["--maximum-latency-ms"]),
        (["--goodput-bps", "0"], ["--goodput-bps", "positive number of bits per second"]),
        (["--device-load", "busy=fast"], ["device_loads.busy", "number"]),
        (["--device-load", "idle=2"], ["device_loads", "its factor is 1"]),
        (["--cut", "nothing:pool3"], ['cuts: "nothing" fits no variant']),
        (["--device-target", "orin-nano"], ["has nothing of orin-nano; it has cpu"]),
        (["--maximum-device-mj", "3"], ["no candidate keeps 3 mJ on the device: that was not measured of any"]),
    ],
)
def test_a_refusal_is_one_line_and_leaves_the_plan(
    coopexport: Callable, finished_project: Path, options: list[str], words: list[str]
) -> None:
    plan = finished_project / "out" / "plan.json"
    before = plan.read_bytes()
    result = coopexport(finished_project, "select", "--maximum-loss-points", "100", *options)
    assert (result.code, len(result.error_lines)) == (2, 1), result.errors
    for word in words:
        assert word in result.error_lines[0]
    assert plan.read_bytes() == before


def test_a_pair_without_its_sign_is_refused(coopexport: Callable, finished_project: Path) -> None:
    result = coopexport(finished_project, "select", "--device-load", "busy")
    assert result.code == 2
    assert "'busy' is not NAME=FACTOR" in result.errors


def test_intervals_are_printed_from_the_lowest_goodput_on() -> None:
    selection = example_selection(("conv1_1", "pool3", "conv4_1")).selection
    rows = interval_rows(selection.envelopes[0], selection.candidates)
    assert (rows[0][0], rows[-1][1]) == ("0.000", "and more")
    assert [row[2] for row in rows] == [describe(selection.candidates[one.candidate]) for one in selection.intervals]
