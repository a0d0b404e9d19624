"""The verb select: what is selected, with a request's values, is what the plan file holds."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import item, run_of
from tests_support import files_below

import coopexport
from benchmarks.latency.table import import_run, latest
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.select_project import SelectRequest, select_project
from benchmarks.selection.selector import INPUT, OUTPUT, latency_ms
from exporter.bundles.bundle import images_sha256, read_split, read_whole
from exporter.project.settings import Project, SelectSection, load_project
from jetson.errors import CoopexportError, InputError
from jetson.runtime.partition_policy import choose, read_partition_policy


@pytest.fixture
def finished(finished_project: Path) -> Project:
    return load_project(finished_project / "coopexport.toml")


def test_the_plan_holds_what_was_selected(finished: Project) -> None:
    written = select_project(finished, SelectRequest(device_slowdown=3.0, maximum_loss_points=50.0))
    result = written.selected
    assert written.path == finished.output / "plan.json"
    plan = read_partition_policy(str(written.path))
    content = plan.content
    assert content["assumptions"]["device_slowdown"] == 3.0
    assert content["assumptions"]["latency_runs"] == sorted({row.run for row in result.rows})
    original = read_whole(finished.variant_folder("original"))
    assert content["bound"] == {
        "metric": "top1",
        "maximum_loss_points": 50.0,
        "reference": original.metric.value,
        "reference_variant": "original",
    }
    assert len(plan.candidates) == len(result.selection.candidates) == 2 * (4 + 2)
    for stored, candidate in zip(plan.candidates, result.selection.candidates, strict=True):
        fields = {key: value for key, value in dataclasses.asdict(candidate).items() if value not in (None, "")}
        assert {key: value for key, value in stored.items() if key != "files"} == fields
        assert all((finished.output / path).is_file() for path in stored["files"].values())
        roles = {"whole"} if candidate.layer in (INPUT, OUTPUT) else {"head", "tail"}
        assert set(stored["files"]) == roles
        for role in roles & {"head", "tail"}:
            assert stored["files"][role] == f"{candidate.variant}/{candidate.layer}.{role}.onnx"
    for link in content["links"]:
        assert finished.settings.select.goodput_bps[link["link"]] == link["goodput_bps"]
        assert choose(plan, link["goodput_bps"]) == link["candidate"]
        for baseline in link["baselines"].values():
            candidate = result.selection.candidates[baseline["candidate"]]
            assert baseline["latency_ms"] == latency_ms(candidate, link["goodput_bps"])
    assert content["intervals"][0]["from_bps"] == 0
    assert content["intervals"][-1]["upto_bps"] is None


def test_what_is_not_known_is_absent_from_the_plan(finished: Project) -> None:
    (finished.output / "latency.sqlite").unlink()
    folder = finished.variant_folder("pruned")
    whole, split = read_whole(folder), read_split(folder, "conv4_1")
    images = images_sha256(whole)
    measured = [
        item(part, layer="whole", source_sha256=sha256)
        for part, sha256 in (("preprocess", images), ("whole", whole.model.sha256))
    ]
    broken = [item("head", source_sha256=split.head.sha256, failure="RuntimeError: broken")]
    import_run(finished.output / "latency.sqlite", run_of(*measured, *broken))
    plan = json.loads(select_project(finished, SelectRequest(maximum_loss_points=100)).path.read_text())
    known = [c for c in plan["candidates"] if "reason" not in c]
    assert [(c["variant"], c["layer"]) for c in known] == [("pruned", OUTPUT)]
    for candidate in plan["candidates"]:
        assert None not in candidate.values()
        if candidate not in known:
            assert "device_ms" not in candidate or "edge_ms" not in candidate
    (cut,) = [c for c in plan["candidates"] if (c["variant"], c["layer"]) == ("pruned", "conv4_1")]
    assert cut["reason"] == "head failed when it was measured (RuntimeError: broken)"
    assert {link["candidate"] for link in plan["links"]} == {plan["candidates"].index(known[0])}


def test_links_of_the_request_take_the_place_of_the_projects(finished: Project) -> None:
    request = SelectRequest(maximum_loss_points=100, goodput_bps={"mine": 2e6, "other": 3e6})
    result = select_project(finished, request)
    assert [(link.link, link.goodput_bps) for link in result.selected.selection.links] == [
        ("mine", 2e6),
        ("other", 3e6),
    ]
    assert [link["link"] for link in read_partition_policy(str(result.path)).content["links"]] == ["mine", "other"]
    default = select_project(finished, SelectRequest(maximum_loss_points=100)).selected
    assert {link.link: link.goodput_bps for link in default.selection.links} == finished.settings.select.goodput_bps


def test_the_selection_is_told_before_the_plan_is_written(finished: Project) -> None:
    (finished.output / "plan.json").unlink()
    told: list[ProjectSelection] = []

    def on_result(found: ProjectSelection) -> None:
        assert not (finished.output / "plan.json").exists()
        told.append(found)

    result = select_project(finished, SelectRequest(maximum_loss_points=100), on_result)
    assert told == [result.selected]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (SelectRequest(device_slowdown=-1), r"^device_slowdown: "),
        (SelectRequest(maximum_loss_points=-0.1), r"^maximum_loss_points: "),
        (SelectRequest(goodput_bps={"given": 0}), r"^goodput_bps: .*the goodput of given must be a positive number"),
        (SelectRequest(goodput_bps={}), r"^goodput_bps: .*name at least one link"),
        (SelectRequest(target="cuda"), r"no candidate is left to choose from: .*run: coopexport bench"),
    ],
)
def test_a_refusal_names_the_value_and_writes_nothing(finished: Project, request_: SelectRequest, words: str) -> None:
    (finished.output / "plan.json").unlink()
    before = files_below(finished.folder)
    with pytest.raises(CoopexportError, match=words):
        select_project(finished, request_)
    assert files_below(finished.folder) == before


def test_the_plan_says_which_times_are_the_devices_own(finished: Project) -> None:
    """Rows of the device's target replace the slowdown, part by part."""
    table = finished.output / "latency.sqlite"
    here = [row for row in latest(table) if row.target == "cpu"]
    rows = [row for row in here if row.part in ("preprocess", "head", "encode") and row.codec not in ("jpeg", "webp")]
    items = [
        item(
            row.part, variant=row.variant, layer=row.layer, codec=row.codec, source_sha256=row.source_sha256,
            samples_ms=(20.0,) * 8,
        )
        for row in rows
    ]  # fmt: skip
    import_run(table, run_of(*items, target="orin-nano", started_at="2030-01-01T00:00:00+00:00"))
    result = select_project(finished, SelectRequest(maximum_loss_points=100.0, device_target="orin-nano"))
    plan = read_partition_policy(str(result.path))
    assert "measured on target orin-nano" in plan.content["assumptions"]["device_ms"]
    assert set(plan.content["assumptions"]["latency_runs"]) == {row.run for row in latest(table)}
    for candidate in plan.candidates:
        if candidate["layer"] not in (INPUT, OUTPUT):
            assert (candidate["device_ms"], candidate["device_origin"]) == (60.0, "measured")
        elif candidate["layer"] == OUTPUT:
            assert (candidate["device_origin"], candidate["note"]) == ("scaled", "whole not measured on orin-nano")
    with pytest.raises(InputError, match="device_target: the latency table has nothing of nano; it has cpu, orin-nano"):
        select_project(finished, SelectRequest(device_target="nano"))


def test_loads_round_trip_and_hysteresis_are_in_the_plan(finished: Project) -> None:
    request = SelectRequest(
        maximum_loss_points=100.0, round_trip_ms=20.0, device_loads={"busy": 3.0}, hysteresis_percent=10.0,
        maximum_latency_ms=1e4, upload=False, cuts={"pruned": ["conv4_*", OUTPUT]},
    )  # fmt: skip
    result = select_project(finished, request)
    plan = read_partition_policy(str(result.path))
    assert plan.content["loads"] == {"device": {"idle": 1.0, "busy": 3.0}, "edge": {"idle": 1.0}}
    assert plan.content["hysteresis"]["percent"] == 10.0
    assert plan.content["bound"]["maximum_latency_ms"] == 1e4
    assert "round-trip time" not in plan.content["assumptions"]["ignored"]
    assert [(one.device_load, one.round_trip_ms) for one in plan.envelopes] == [("idle", 20.0), ("busy", 20.0)]
    for candidate in plan.candidates:
        left_out = candidate["layer"] == INPUT or (candidate["variant"], candidate["layer"]) == ("pruned", "pool3")
        assert ("reason" in candidate) == left_out
    for choice in result.selected.selection.links:
        candidate = result.selected.selection.candidates[choice.candidate]
        assert choice.latency_ms == latency_ms(candidate, choice.goodput_bps, 20.0)


def test_one_call_takes_a_project_its_file_or_candidates(finished: Project) -> None:
    path = finished.folder / "coopexport.toml"
    links = {"mine": 2e6}
    expected = select_project(finished, SelectRequest(goodput_bps=links, maximum_loss_points=100.0)).selected.selection
    for source in (finished, path, str(path), coopexport.Project(path), expected.candidates):
        assert coopexport.select(source, links, 100.0) == expected
    default = coopexport.select([replace(item, loss_points=0.5) for item in expected.candidates])
    assert [(link.link, link.goodput_bps) for link in default.links] == list(SelectSection().goodput_bps.items())
    with pytest.raises(InputError, match="no candidate keeps 0 points"):
        coopexport.select([replace(item, loss_points=0.5) for item in expected.candidates], maximum_loss_points=0.0)
    with pytest.raises(InputError, match="device_slowdown is for a project"):
        coopexport.select(expected.candidates, device_slowdown=3.0)
    with pytest.raises(InputError, match="there are no candidates"):
        coopexport.select([])
