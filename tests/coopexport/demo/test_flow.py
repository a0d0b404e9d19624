"""The demo from end to end in this process, on the small network of the fixtures."""

from __future__ import annotations

import re
import shutil
import sys
from importlib import util
from pathlib import Path

import pytest

from benchmarks.demo import data as demo_data
from benchmarks.demo.pair import PairResult, run_pair
from benchmarks.demo.prepare import CANDIDATES, Recipe
from coopexport.demo import flow
from coopexport.demo.flow import LAYER, run_demo, typed_in_background
from exporter.bundles.bundle import read_split, split_layers
from exporter.project.settings import load_project
from jetson.errors import CoopexportError
from jetson.runtime.partition_policy import read_partition_policy

RECIPE = Recipe(train_count=11, evaluation_count=22, step_two_layers=("conv4_1",), seed=33)
COMMANDS = [
    "doctor", "prune two-step", "bottleneck", "prune two-step", "layers", "split", "split", "split", "variants",
    "build", "bench", "select", "report",
]  # fmt: skip


@pytest.fixture(scope="module")
def finished_demo(tmp_path_factory: pytest.TempPathFactory, fresh_project: Path) -> tuple[Path, PairResult, str]:
    """Run the demo with the network that is trained already; return folder, result and what was printed."""
    folder = tmp_path_factory.mktemp("demo") / "demo"

    made = object()

    def make_data(train_count: int, evaluation_count: int, seed: int, pixels: int) -> object:
        assert (train_count, evaluation_count, seed, pixels) == (11, 22, 33, 64)
        return made

    def prepare(target: Path, recipe: Recipe, data: object, *callbacks: object) -> Path:
        assert recipe == RECIPE
        assert data is made
        assert len(callbacks) == 2
        file = Path(shutil.copytree(fresh_project, target)) / "coopexport.toml"
        # The small network's bottleneck loses more than a point.
        bound = "maximum_loss_points = 1.0             # against the unpruned network"
        assert bound in file.read_text()
        file.write_text(file.read_text().replace(bound, bound.replace("1.0 ", "20.0")))
        return file

    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(demo_data, "make_data", make_data)
        patched.setattr(flow, "prepare_project", prepare)
        patched.setattr(flow.click, "echo", lambda message="", **options: printed.append(str(message)))
        result = run_demo(folder, RECIPE)
    return folder, result, "\n".join(printed)


def test_the_demo_is_the_commands_in_order(finished_demo: tuple[Path, PairResult, str]) -> None:
    _, _, printed = finished_demo
    typed = re.findall(r"^\$ coopexport (prune two-step|\w+)(.*)$", printed, flags=re.MULTILINE)
    gpus = re.findall(r"--target (rtx-\w+) --layer bottleneck", printed)
    if util.find_spec("tensorrt_rtx"):
        assert gpus == ["rtx-ampere", "rtx-ada"]
    else:
        assert printed.count("left out: engines for rtx-") == 2
    assert [name for name, options in typed if "rtx-" not in options] == COMMANDS
    assert all("--project" in options for name, options in typed if name != "doctor")


def test_the_bottleneck_is_trained_beside_step_two_and_told_after_it(
    finished_demo: tuple[Path, PairResult, str],
) -> None:
    _, _, printed = finished_demo
    _, behind = printed.split("$ coopexport bottleneck --project", 1)
    beside, behind = behind.split("[done] coopexport bottleneck", 1)
    assert "$ coopexport prune two-step" in beside
    told, _ = behind.split("$ coopexport split", 1)
    assert "pool1, training 1: 4 channels" in told
    assert "variant step1-pool1-bottleneck-1: encoder of" in told


def test_everything_is_there_afterwards(finished_demo: tuple[Path, PairResult, str]) -> None:
    folder, _, _ = finished_demo
    out = folder / "out"
    for variant in ("original", "step1"):
        assert set(split_layers(out / variant)) <= set(CANDIDATES)
        assert LAYER in split_layers(out / variant)
        assert len(split_layers(out / variant)) > len(CANDIDATES) / 2
        for layer in split_layers(out / variant):
            assert (out / variant / "engines" / "cpu" / f"{layer}.tail.engine.json").is_file()
    plan = read_partition_policy(str(out / "plan.json"))
    assert all("device_ms" in candidate for candidate in plan.candidates)
    assert (out / "report.html").stat().st_size > 1000
    assert not list(folder.rglob("*.part"))


def test_the_pair_is_as_good_as_its_bundle_says(finished_demo: tuple[Path, PairResult, str]) -> None:
    folder, result, printed = finished_demo
    project = load_project(folder / "coopexport.toml")
    bundle = read_split(project.variant_folder(result.variant), result.layer)
    original = read_split(project.variant_folder("original"), LAYER)
    assert result.variant.startswith("step1-pool1-bottleneck-")
    assert result.layer == "bottleneck"
    assert result.metric.value == pytest.approx(bundle.metric.value)
    assert result.metric.reference == pytest.approx(original.metric.reference)
    assert result.bytes_per_image == pytest.approx(bundle.payload_bytes.mean)
    lost, won = result.metric.only_reference_right, result.metric.only_this_right
    assert lost is not None
    assert won is not None
    assert result.metric.loss_points == pytest.approx(100 * (lost - won) / result.metric.samples)
    assert f"{100 * result.metric.value:.2f} %" in printed
    assert f"{lost} images lost, {won} won" in printed
    assert run_pair(project, result.variant, result.layer) == result
    assert printed.count("The pair of ") == 2  # and the narrowest of step 2
    assert re.search(
        r"A split (pays most|does not pay on any link; it comes nearest) at [\d.e+]+ Mbit/s: \d+\.\d\dx", printed
    )


def test_a_refusal_in_the_background_is_told(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.toml")
    with typed_in_background("bottleneck", "--project", missing, "--all"):
        pass
    assert f"{missing}; write one with: coopexport init" in capfd.readouterr().out


def test_what_breaks_in_the_background_breaks_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        pytest.raises(RuntimeError, match="coopexport doctor ended with exit code 1"),
        typed_in_background("doctor"),
    ):
        pass


def test_what_breaks_beside_it_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    endless.write_text("#!/bin/sh\nexec sleep 600\n")
    endless.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(endless))
    with pytest.raises(KeyError), typed_in_background("doctor"):
        raise KeyError


def test_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(CoopexportError, match=r"the demo needs sklearn; pip install 'coopexport\[demo\]'"):
        run_demo(tmp_path / "demo", RECIPE)
    assert not (tmp_path / "demo").exists()
