"""`coopexport shrink` with each of its options, on a project of its own with a grouped convolution."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import prune

from exporter.masks.masks import Masks, read_masks, write_masks
from exporter.shrinking.plan import read_shrink_plan

NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 20, 3, padding=1), nn.BatchNorm2d(20)
        self.conv2, self.bn2 = nn.Conv2d(20, 24, 3, padding=1, groups=2), nn.BatchNorm2d(24)
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))

def make():
    return Net()
"""
PROJECT = """
schema = "coopexport.project/1.0"
[model]
factory = "small_net:make"
checkpoint = "net.safetensors"
masks = "masks.safetensors"
input_shape = [3, 16, 16]
[data]
calibration = "data.npz"
evaluation = "data.npz"
"""
Run = Callable


def make_network() -> nn.Module:
    namespace: dict = {}
    exec(NETWORK, namespace)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return namespace["make"]()


def random_keep(seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {"conv1": random.permutation(20) < 11, "conv2": random.permutation(24) < 13}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shrink")
    (folder / "small_net.py").write_text(NETWORK)
    (folder / "coopexport.toml").write_text(PROJECT)
    network = make_network()
    generator = torch.Generator().manual_seed(0)
    for norm in (network.bn1, network.bn2):  # statistics that fit, so that outputs depend on inputs
        norm.momentum = None
        norm.weight.data = 0.5 + torch.rand(norm.weight.shape, generator=generator)
        norm.bias.data = torch.rand(norm.bias.shape, generator=generator) - 0.5
    with torch.no_grad():
        network.train()(torch.randn((64, 3, 16, 16), generator=generator))
    save_file(network.state_dict(), folder / "net.safetensors")
    write_masks(folder / "masks.safetensors", Masks(random_keep(0), "channel"))
    write_masks(folder / "weight.safetensors", Masks(random_keep(0), "weight"))
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (32, 16, 16, 3), dtype=np.uint8)
    np.savez(folder / "data.npz", images=images, labels=random.integers(0, 5, 32))
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


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("weights.safetensors", "weights.safetensors"),
        ("masks.safetensors", "masks.safetensors"),
        ("checkpoint", "net.safetensors"),
    ],
)
def test_verify_refuses_what_is_not_what_was_proven(project: Path, coopexport: Run, damage: str, words: str) -> None:
    assert coopexport(project, "shrink").code == 0
    path = project / "net.safetensors" if damage == "checkpoint" else project / "out" / "pruned" / damage
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name] = ~tensors[name] if tensors[name].dtype == torch.bool else tensors[name] + 1
    save_file(tensors, path)
    refused = coopexport(project, "shrink", "--verify")
    assert refused.code == 2
    assert words in refused.errors
    assert len(refused.errors.splitlines()) == 1


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


def test_reviving_brings_back_the_largest_filters_and_measures_again(project: Path, coopexport: Run) -> None:
    result = coopexport(project, "shrink", "--round-to", "8", "--round-to-revive")
    assert result.code == 0, result.errors
    measured = r"top1 \d+\.\d\d under the masks as given, \d+\.\d\d of the shrunk network \(32 images\)"
    assert re.search(measured, result.output)
    masks = read_masks(project / "out" / "pruned" / "masks.safetensors")
    norms = load_file(project / "net.safetensors")["conv1.weight"].abs().sum((1, 2, 3)).numpy()
    given, keep = random_keep(0)["conv1"], masks.keep["conv1"]
    assert keep.sum() == 16
    assert (keep | ~given).all()  # nothing that was kept goes
    assert norms[keep & ~given].min() > norms[~keep].max()
    assert plan(project).layers["conv1"].zeroed_outputs == ()
    assert coopexport(project, "shrink", "--verify").code == 0


def test_constants_under_padding_stay_or_go_as_asked(project: Path, coopexport: Run) -> None:
    errors, widths = [], []
    for options in ([], ["--fold-borders"], ["--approximate", "0.5"]):
        result = coopexport(project, "shrink", "--masks", "weight.safetensors", *options)
        assert result.code == 0, result.errors
        errors.append(plan(project).parity[0]["error"])
        widths.append(len(plan(project).layers["conv1"].kept_outputs))
        assert coopexport(project, "shrink", "--verify").code == 0
    assert widths[0] > widths[1] == widths[2] == 11
    assert errors[0] < 1e-9
    assert errors[1] < 1e-9
    assert 1e-6 < errors[2] < 0.5
    assert f"error by approximation: {errors[2]:.2e}" in result.output


def test_what_is_pruned_in_the_checkpoint_is_found_there(project: Path, coopexport: Run) -> None:
    network = make_network()
    network.load_state_dict(load_file(project / "net.safetensors"))
    prune.ln_structured(network.conv2, "weight", 5, 2, 0)
    with torch.no_grad():
        network.conv2.bias[~network.conv2.weight_mask.flatten(1).any(1)] = 0
    torch.save(network.state_dict(), project / "net.pt")
    settings = (project / "coopexport.toml").read_text()
    (project / "coopexport.toml").write_text(settings.replace("net.safetensors", "net.pt"))
    result = coopexport(project, "shrink", "--masks-from", "zero-weights")
    assert result.code == 0, result.errors
    masked = read_masks(project / "out" / "pruned" / "masks.safetensors")
    assert masked.meaning == "weight"
    assert int((~masked.keep["conv2"]).sum()) == 5
    assert re.search(r"conv2\s.*24 -> 19", result.output)  # what they are constants of, the linear's bias takes over
    assert coopexport(project, "shrink", "--verify").code == 0


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
