"""The commands over all variants of pruning in two steps: each is cut where it was made for, and names itself."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pruning_variants import write_two_steps
from tests_support import files_below

from exporter.bundles.bundle import read_split
from exporter.project.settings import load_project
from jetson.runtime.partition_policy import read_partition_policy

CUTS = {
    "original": {"conv4_1", "conv4_3"},
    "step1": {"conv4_1", "conv4_3"},
    "step1-control-1": {"conv4_1", "conv4_3"},
    "step1-control-2": {"conv4_1", "conv4_3"},
    **{f"{layer}-{width}": {layer} for layer in ("conv4_1", "conv4_3") for width in (6, 3, 1)},
}


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, fresh_project: Path) -> Path:
    """A project with the variants of two steps and two candidate layers. Do not write into it."""
    folder = Path(shutil.copytree(fresh_project, tmp_path_factory.mktemp("many") / "project"))
    write_two_steps(load_project(folder / "coopexport.toml"))
    file = folder / "coopexport.toml"
    text = file.read_text()
    assert "\ncandidates = " in text
    lines = ['candidates = ["conv4_1", "conv4_3"]' if line.startswith("candidates = ") else line
             for line in text.splitlines()]  # fmt: skip
    file.write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def measured(registered: Path, tmp_path_factory: pytest.TempPathFactory, coopexport: Callable) -> Path:
    """The same, split, built and measured. Do not write into it."""
    folder = Path(shutil.copytree(registered, tmp_path_factory.mktemp("measured") / "project"))
    for arguments in (["split", "--all"], ["build"], ["bench", "--rounds", "8", "--warm-up", "1"]):
        result = coopexport(folder, *arguments)
        assert result.code == 0, result.errors
        (folder / f"{arguments[0]}.txt").write_text(result.output + result.errors)
    return folder


@pytest.fixture
def project(registered: Path, tmp_path: Path) -> Path:
    """A copy to write into."""
    return Path(shutil.copytree(registered, tmp_path / "project"))


def bundles(folder: Path) -> dict[str, set[str]]:
    """Return the cuts of every variant that has some."""
    found: dict[str, set[str]] = {}
    for name in files_below(folder / "out"):
        if name.endswith(".split.json"):
            variant, file = name.split("/")
            found.setdefault(variant, set()).add(file.removesuffix(".split.json"))
    return found


def test_all_means_where_each_variant_makes_sense(measured: Path) -> None:
    assert bundles(measured) == CUTS
    lines = (measured / "split.txt").read_text().splitlines()
    assert sum(" of 10  " in line for line in lines) == sum(map(len, CUTS.values()))
    line = next(line for line in lines if "conv4_1-3, cut after conv4_1" in line)
    assert line.startswith(" 6 of 10")
    assert "48 symbol bytes" in line  # 3 channels of 4 x 4, 8 bits each
    assert f"{read_split(measured / 'out' / 'conv4_1-3', 'conv4_1').payload_bytes.mean:.0f} wire bytes" in line


def test_engines_and_latencies_are_summed_up(measured: Path) -> None:
    built = (measured / "build.txt").read_text()
    assert "38 engines of 10 variants, 0 reused" in built
    rows = [line for line in (measured / "bench.txt").read_text().splitlines() if "conv4_1-3" in line]
    assert [[cell.strip() for cell in row.split("│")][1] for row in rows] == ["conv4_1", "whole"]
    head, encode, decode, tail = (float(cell) for cell in rows[0].split("│")[2:6])
    assert min(head, encode, decode, tail) > 0


def test_a_layer_leaves_out_variants_for_others(coopexport: Callable, project: Path) -> None:
    result = coopexport(project, "split", "--layer", "conv4_1", "--variant", "conv4_?-3", "--variant", "step1")
    assert result.code == 0, result.errors
    assert bundles(project) == {"step1": {"conv4_1"}, "conv4_1-3": {"conv4_1"}}
    assert "left out: 1 variant not for conv4_1" in result.errors
    result = coopexport(project, "build", "--layer", "conv4_1")
    assert result.code == 0, result.errors
    result = coopexport(project, "split", "--layer", "conv4_1", "--variant", "conv4_3-*")
    assert result.code == 2
    assert "none of 3 variants can be cut there" in result.errors


def test_a_variant_that_is_named_is_cut_anywhere(coopexport: Callable, project: Path) -> None:
    result = coopexport(project, "split", "--layer", "pool3", "--variant", "conv4_1-3")
    assert result.code == 0, result.errors
    result = coopexport(project, "calibrate", "--all", "--variant", "conv4_1-3")
    assert result.code == 0, result.errors
    assert "conv4_1" in result.output
    assert "conv4_3" not in result.output
    assert bundles(project) == {"conv4_1-3": {"pool3"}}


def test_others_go_on_where_some_lose_too_much(coopexport: Callable, project: Path) -> None:
    arguments = ["split", "--layer", "conv4_1", "--bits", "1", "--clip", "minmax"]
    result = coopexport(project, *arguments, "--variant", "original", "--variant", "conv4_1-*")
    assert result.code == 2, result.output
    assert "layer conv4_1 of original: encoding the feature costs" in result.errors
    assert "conv4_1-1" in bundles(project)
    assert "original" not in bundles(project)
    assert len(result.error_lines) == 1


def test_a_damaged_variant_names_itself(coopexport: Callable, project: Path) -> None:
    (project / "out" / "conv4_1-3" / "model.onnx").unlink()
    (project / "out" / "conv4_1-3" / "shrink.json").write_text("{}")
    result = coopexport(project, "split", "--layer", "conv4_1")
    assert result.code == 2
    assert len(result.error_lines) == 1
    assert "conv4_1-3" in result.errors


def test_many_ranges_share_a_table(coopexport: Callable, project: Path) -> None:
    result = coopexport(project, "calibrate", "--layer", "conv4_1")
    assert result.code == 0, result.errors
    assert "Clip ranges of 7 variants" in result.output
    assert sum("conv4_1-" in line for line in result.output.splitlines()) == 3


def test_layers_of_all_steps_are_the_same_and_shown_once(coopexport: Callable, project: Path) -> None:
    result = coopexport(project, "layers")
    assert result.code == 0, result.errors
    assert [line.split()[-1] for line in result.output.splitlines() if "Layers of" in line] == ["original", "step1"]
    assert "left out: 8 variants" in result.errors


def test_variants_are_listed_and_drawn(coopexport: Callable, measured: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(measured, tmp_path / "project"))
    result = coopexport(project, "variants")
    assert result.code == 0, result.errors
    rows = {
        cells[0]: cells for cells in ([cell.strip() for cell in line.split("│")] for line in result.output.split("\n"))
    }
    assert set(CUTS) <= set(rows)
    narrow = rows["conv4_1-3"]
    assert narrow[1:5] == ["step1", "step2", "conv4_1", "3"]
    assert narrow[8] == "48"
    assert narrow[9] == f"{read_split(project / 'out' / 'conv4_1-3', 'conv4_1').payload_bytes.mean:.0f}"
    assert narrow[-1] == "2,000"
    assert rows["original"][7] == "1.00x"
    for name in ("macs", "bytes"):
        assert b"conv4_3" in (project / "out" / "figures" / f"accuracy_against_{name}.svg").read_bytes()
    by_metric = coopexport(project, "variants", "--sort", "metric")
    listed = [line.split()[0] for line in by_metric.output.splitlines() if "│" in line]
    assert listed.index("original") < listed.index("step1") < listed.index("conv4_1-1")


def test_without_matplotlib_there_is_the_table(
    coopexport: Callable, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = coopexport(project, "variants")
    assert result.code == 0, result.errors
    assert "step1-control-2" in result.output
    assert "coopexport[report]" in result.errors
    assert not (project / "out" / "figures").exists()


def test_selection_keeps_every_variant_and_compares_families(
    coopexport: Callable, measured: Path, tmp_path: Path
) -> None:
    project = Path(shutil.copytree(measured, tmp_path / "project"))
    result = coopexport(project, "select", "--maximum-loss-points", "100")
    assert result.code == 0, result.errors
    plan = read_partition_policy(str(project / "out" / "plan.json"))
    cuts: dict[str, set[str]] = {}
    for candidate in plan.candidates:
        if candidate["layer"] not in ("input", "output"):
            cuts.setdefault(candidate["variant"], set()).add(candidate["layer"])
        wanted = {"o": None, "s": "step 1", "c": "step 2"}[candidate["variant"][0]]
        assert candidate.get("family") == wanted
        for file in candidate["files"].values():
            assert (project / "out" / file).is_file()
    assert cuts == CUTS
    names = list(plan.content["links"][0]["baselines"])
    assert [name.split(", ")[1] for name in names] == ["original"] * 4 + ["step 1"] * 4 + ["step 2"] * 4
    assert "best split, step 2" in result.output
    file = project / "coopexport.toml"
    assert "\nmaximum_loss_points = 1.0" in file.read_text()
    file.write_text(file.read_text().replace("\nmaximum_loss_points = 1.0", "\nmaximum_loss_points = 100.0"))
    result = coopexport(project, "report")
    assert "was split before select settings changed; run: coopexport split --all" in result.errors
    assert coopexport(project, "split", "--all").code == 0  # pictures at the lowest quality within the new bound
    result = coopexport(project, "report")
    assert result.code == 0, result.errors
    page = (project / "out" / "report.html").read_text()
    assert "What each step adds" in page
    assert all(f">{name}<" in page for name in CUTS)
    assert ">step1-control-2<" in page[page.index("Equal fine-tuning") :]
