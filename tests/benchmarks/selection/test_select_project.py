"""The verb select: what is selected, with a request's values, is what the plan file holds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from small_runs import item, run_of
from tests_support import files_below

from benchmarks.latency.table import import_run
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.select_project import SelectRequest, select_project
from benchmarks.selection.selector import INPUT, OUTPUT, latency_ms
from exporter.bundles.bundle import images_sha256, read_split, read_whole
from exporter.project.settings import Project, load_project
from jetson.errors import CoopexportError
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
