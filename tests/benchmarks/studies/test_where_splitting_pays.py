"""The study of where splitting pays, from end to end on a tiny network: its page says what its project holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_study import TINY

from benchmarks.selection.project_selection import ProjectSelection, select_for_project
from benchmarks.studies.splitting.experiment import trained_project
from benchmarks.studies.splitting.page import GOODPUTS_BPS, SLOWDOWNS, at, best_picture_bytes
from benchmarks.studies.where_splitting_pays import RECIPE, study
from exporter.bundles.bundle import read_split
from exporter.project.settings import load_project
from jetson.errors import CoopexportError


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("study") / "project"
    page, figure = study(folder, TINY)
    assert figure.startswith(b"<svg") and b"with bottlenecks" in figure
    return folder, page


@pytest.fixture(scope="module")
def result(studied: tuple[Path, str]) -> ProjectSelection:
    project = load_project(studied[0] / "coopexport.toml")
    return select_for_project(project, project.settings.select, "cpu")


def rows(page: str, title: str) -> list[list[str]]:
    table = page.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_what_crosses_is_what_the_bundles_say(studied: tuple[Path, str], result: ProjectSelection) -> None:
    folder, page = studied
    found = {(row[0], row[1]): row for row in rows(page, "What crosses")}
    bundle = read_split(folder / "out" / "pool1-bottleneck-1", "bottleneck")
    row = found["pool1-bottleneck-1", "bottleneck"]
    assert float(row[4]) == pytest.approx(bundle.payload_bytes.mean, abs=0.06)
    assert float(row[5]) == pytest.approx(100 * bundle.metric.value, abs=0.006)
    picture = best_picture_bytes(result)
    assert row[7] == f"{100 * (1 - bundle.payload_bytes.mean / picture):.1f} %"
    assert {key for key in found if key[0] == "original"} == {("original", "pool1"), ("original", "pool5")}
    assert [row[2].split(" ")[0] for row in rows(page, "What crosses") if row[0] == "picture"] == [
        "raw",
        "jpeg",
        "webp",
    ]


@pytest.mark.parametrize(("title", "bottlenecks"), [("With bottlenecks", True), ("Without", False)])
def test_the_maps_are_the_fastest_ways(studied, result: ProjectSelection, title: str, bottlenecks: bool) -> None:
    found = rows(studied[1], title)
    assert len(found) == len(GOODPUTS_BPS)
    for row, goodput in zip(found, GOODPUTS_BPS, strict=True):
        for cell, slowdown in zip(row[1:], SLOWDOWNS, strict=True):
            best = at(result, slowdown, goodput, bottlenecks)
            text = f"{best.way} {best.gain:.2f}x"
            assert cell == (f"**{text}**" if best.way == "split" else text)
            assert best.split is not None
            assert bottlenecks or best.split.variant == "original"


def test_without_a_bottleneck_no_split_is_faster_than_with_it(result: ProjectSelection) -> None:
    for slowdown in SLOWDOWNS:
        for goodput in GOODPUTS_BPS:
            assert at(result, slowdown, goodput, True).split_ms <= at(result, slowdown, goodput, False).split_ms


def test_a_folder_of_another_recipe_is_refused(studied: tuple[Path, str]) -> None:
    with pytest.raises(CoopexportError, match="holds the project of another recipe: delete it, or name another folder"):
        trained_project(studied[0], RECIPE)
