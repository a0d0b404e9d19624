"""`coopexport bottleneck`: from training to a plan that may choose it, killed and gone on with."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from chain_project import write_chain_project
from click.testing import CliRunner

import coopexport
from coopexport.commands.bench import bench
from coopexport.commands.bottleneck import bottleneck
from coopexport.commands.build import build
from coopexport.commands.report import report
from coopexport.commands.select import select
from coopexport.commands.split import split
from coopexport.commands.variants import variants
from jetson.errors import CoopexportError

OPTIONS = (
    "--layer", "conv1", "--max-drop", "10", "--trainings", "2", "--channels", "2", "--bits", "2",
    "--first-epochs", "6", "--epochs", "3",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a trained network. Do not write into it."""
    folder = tmp_path_factory.mktemp("chain")
    write_chain_project(folder)
    return folder


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy of it to write into."""
    return Path(shutil.copytree(folder, tmp_path / "chain"))


def invoke(command: click.Command, folder: Path, *options: str) -> str:
    result = CliRunner().invoke(command, ["--project", str(folder / "coopexport.toml"), *options])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_from_training_to_a_plan(own: Path) -> None:
    said = invoke(bottleneck, own, *OPTIONS)
    assert "conv1, training 1: 2 channels, stride 2, 2 bits: about " in said
    assert "rate weight 0.0004: about " in said
    assert "variant conv1-bottleneck-1: encoder of " in said
    assert "points below the original)" in said
    assert "coopexport split --all" in said
    invoke(split, own, "--all")
    listed = invoke(variants, own)
    assert "conv1-bottleneck-1" in listed
    invoke(build, own)
    invoke(bench, own, "--rounds", "8")
    invoke(select, own)
    invoke(report, own)
    plan = json.loads((own / "out" / "plan.json").read_text())
    competed = {(one["variant"], one["layer"]) for one in plan["candidates"]}
    assert ("conv1-bottleneck-1", "bottleneck") in competed
    assert ("original", "conv1") in competed
    assert "conv1-bottleneck-1" in (own / "out" / "report.html").read_text()


def test_a_killed_search_goes_on_and_ends_with_the_same_weights(folder: Path, tmp_path: Path) -> None:
    whole, killed = (Path(shutil.copytree(folder, tmp_path / name)) for name in ("whole", "killed"))
    invoke(bottleneck, whole, *OPTIONS)
    command = [sys.executable, "-m", "coopexport", "bottleneck", *OPTIONS]
    process = subprocess.Popen(command, cwd=killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = killed / "out" / "bottlenecks" / "original" / "conv1"
    while process.poll() is None and not list(state.glob("*")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((killed / "out").glob("conv1-bottleneck-*"))
    invoke(bottleneck, killed, *OPTIONS)
    made = sorted((whole / "out").glob("conv1-bottleneck-*/weights.safetensors"))
    assert made
    for path in made:
        assert (killed / path.relative_to(whole)).read_bytes() == path.read_bytes()


def test_python_does_the_same(own: Path, folder: Path, tmp_path: Path) -> None:
    invoke(bottleneck, own, *OPTIONS)
    other = Path(shutil.copytree(folder, tmp_path / "python"))
    result = coopexport.Project(other / "coopexport.toml").bottleneck(
        "conv1", maximum_loss_points=10, trainings=2, channels=2, bits=2, first_epochs=6, epochs=3
    )
    for record in result.variants:
        weights = Path("out") / record.variant / "weights.safetensors"
        assert (own / weights).read_bytes() == (other / weights).read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "say where to cut: --layer NAME"),
        (("--layer", "conv1", "--all"), "--layer and --all were both given"),
        (("--layer", "conv1", "--channels", "64"), r"to 64x4x4 is no reduction"),
        (("--layer", "conv1", "--variant", "step1"), 'there is no variant "step1"'),
    ],
)
def test_bad_input_ends_in_one_line(folder: Path, options: tuple[str, ...], said: str) -> None:
    with pytest.raises(CoopexportError, match=said) as caught:
        invoke(bottleneck, folder, *options)
    assert "\n" not in str(caught.value)
    assert not list((folder / "out").glob("*bottleneck-*"))
