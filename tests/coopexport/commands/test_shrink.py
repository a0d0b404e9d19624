"""`coopexport shrink` with each of its options, on a project of its own with a grouped convolution."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import grouped_network
import pytest
from grouped_project import random_keep, write_grouped_project
from safetensors.torch import load_file, save_file

from exporter.masks.masks import Masks, read_masks, write_masks
from exporter.shrinking.plan import read_shrink_plan

Run = Callable


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose network is built by a file of its own. Do not write into it."""
    folder = tmp_path_factory.mktemp("shrink")
    write_grouped_project(folder)
    shutil.copy(grouped_network.__file__, folder / "small_net.py")
    settings = folder / "coopexport.toml"
    settings.write_text(settings.read_text().replace("grouped_network:make", "small_net:make"))
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "project")
    return tmp_path / "project"


def plan(project: Path):
    return read_shrink_plan(project / "out" / "pruned")


def test_shrink_says_what_is_left_and_verify_proves_it_again(project: Path, coopexport: Run) -> None:
    shrunk = coopexport(project, "shrink")
    assert shrunk.code == 0, shrunk.errors
    assert re.search(r"conv2\s.*24 -> 13", shrunk.output)
    verified = coopexport(project, "shrink", "--verify")
    assert verified.code == 0, verified.errors
    lines = verified.output.splitlines()
    assert [": ".join(line.split(": ")[:2]) for line in lines] == [
        "pruned: shrink", *[f"pruned: shrink-float32, batches of {size}" for size in (1, 2, 7, 16)]
    ]  # fmt: skip
    assert all(float(line.split()[line.split().index("error") + 1]) < 1e-5 for line in lines)


def test_rounding_fills_widths_and_says_what_each_layer_costs(project: Path, coopexport: Run) -> None:
    result = coopexport(project, "shrink", "--round-to", "8")
    assert result.code == 0, result.errors
    assert re.search(r"conv1\s.*5 rounded up to a multiple of 8", result.output)
    row = next(line for line in result.output.splitlines() if "conv2" in line and "13 -> 16" in line)
    times = re.findall(r"(\d+\.\d+) -> (\d+\.\d+)", row)
    assert len(times) == 1
    assert all(float(value) > 0 for value in times[0])
    assert plan(project).layers["conv1"].zeroed_outputs
    masks = read_masks(project / "out" / "pruned" / "masks.safetensors")
    assert {name: int(keep.sum()) for name, keep in masks.keep.items()} == {"conv1": 11, "conv2": 13}
    assert coopexport(project, "shrink", "--verify").code == 0


def test_new_masks_are_measured_beside_those_that_were_given(project: Path, coopexport: Run) -> None:
    result = coopexport(project, "shrink", "--round-to", "8", "--round-to-revive")
    assert result.code == 0, result.errors
    measured = r"top1 \d+\.\d\d under the masks as given, \d+\.\d\d of the shrunk network \(32 images\)"
    assert re.search(measured, result.output)


def test_an_approximation_says_its_error(project: Path, coopexport: Run) -> None:
    result = coopexport(project, "shrink", "--masks", "weight.safetensors", "--approximate", "0.5")
    assert result.code == 0, result.errors
    assert f"error by approximation: {plan(project).parity[0]['error']:.2e}" in result.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--round-to-revive"], "--round-to"),
        (["--fold-borders", "--approximate"], "give one of them"),
        (["--masks", "weight.safetensors", "--masks-from", "zero-weights"], "give one of them"),
        (["--masks", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--masks-from", "zero-weights"], "nothing to shrink by"),
        (["--masks", "weight.safetensors", "--approximate", "1e-12"], "parity check 'shrink' failed"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    project: Path, coopexport: Run, options: list[str], words: str
) -> None:
    refused = coopexport(project, "shrink", *options)
    assert refused.code == 2
    assert words in refused.errors
    assert len(refused.errors.splitlines()) == 1
    assert not (project / "out" / "pruned" / "shrink.json").exists()


def spoil(project: Path, what: str) -> None:
    """Make one thing wrong with the masks, the weights or the network's code."""
    keep = random_keep(0)
    if what == "length":
        keep["conv1"] = keep["conv1"][:-1]
    elif what == "layer":
        keep["conv9"] = keep["conv1"]
    elif what == "everything":
        keep["conv2"][:] = False
    elif what == "nan":
        weights = load_file(project / "net.safetensors")
        weights["conv2.weight"][3] = float("nan")
        save_file(weights, project / "net.safetensors")
    code = project / "small_net.py"
    if what == "trace":
        code.write_text(
            code.read_text().replace("return self", "if x.sum() > 0:\n            x = x + 1\n        return self")
        )
    if what == "training":
        code.write_text(code.read_text().replace("self.fc(", "self.fc(torch.nn.functional.dropout("))
        code.write_text(code.read_text().replace("x.mean((2, 3)))", "x.mean((2, 3))))"))
    write_masks(project / "masks.safetensors", Masks(keep, "channel"))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("length", ["'conv1'", "19 entries", "20 output channels"]),
        ("layer", ["'conv9'", "conv1, conv2"]),
        ("everything", ["'conv2'", "keep at least one"]),
        ("nan", ["conv2.weight", "NaN", "train or save it again"]),
        ("trace", ["cannot be traced", "must leave forward()"]),
        ("training", ["'dropout'", "training=self.training"]),
    ],
)
def test_bad_input_is_one_line_that_names_the_layer_and_the_fix(
    project: Path, coopexport: Run, what: str, words: list[str]
) -> None:
    spoil(project, what)
    refused = coopexport(project, "shrink")
    assert refused.code == 2
    assert len(refused.errors.splitlines()) == 1
    for word in words:
        assert word in refused.errors
    assert not (project / "out").exists()
