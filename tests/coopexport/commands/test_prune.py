"""`coopexport prune two-step`: every variant registered and proven, killed and gone on with, on several families."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cifar_networks
import click
import numpy as np
import pytest
import torch
from chain_project import CHAIN, write_chain_project, write_images
from click.testing import CliRunner
from conftest import run_coopexport
from pruning_case import trained_chain
from safetensors.torch import load_file, save_file
from torch import nn

from coopexport.commands.prune import prune
from coopexport.commands.split import split
from exporter.bundles.bundle import read_split
from exporter.project.settings import load_project
from exporter.shrinking.plan import read_shrink_plan
from exporter.variants.layer_graphs import variants
from exporter.variants.record import read_variant_record
from exporter.variants.variant_parity import variant_parity
from jetson.errors import CoopexportError

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def chain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project's folder with a trained network, not pruned yet."""
    folder = tmp_path_factory.mktemp("chain")
    write_chain_project(folder)
    return folder


@pytest.fixture(scope="module")
def pruned_folder(chain_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same project after two-step pruning."""
    folder = tmp_path_factory.mktemp("pruned") / "chain"
    shutil.copytree(chain_folder, folder)
    run(folder)
    return folder


def run(folder: Path, *options: str) -> str:
    return invoke(prune.commands["two-step"], folder, *options)


def invoke(command: click.Command, folder: Path, *options: str) -> str:
    result = CliRunner().invoke(command, ["--project", str(folder / "coopexport.toml"), *options])
    if result.exception is not None:
        raise result.exception
    return result.output


def weights_of(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    found = sorted((folder / "out").glob("*/weights.safetensors"))
    return {path.parent.name: load_file(path) for path in found}


def test_every_network_is_a_variant_with_a_record(pruned_folder: Path) -> None:
    project = load_project(pruned_folder / "coopexport.toml")
    names = variants(project)
    records = {name: read_variant_record(project.variant_folder(name)) for name in names if name != "original"}
    assert records["step1"].parent == "original" and records["step1"].cuts is None
    narrow = [record for record in records.values() if record.step == "step2"]
    layers = {str(record.method["layer"]): record.cuts for record in narrow}
    assert layers == {"conv1": ("conv1",), "conv2": ("conv2", "pool")}
    for layer in layers:
        widths = [record.widths[layer] for record in narrow if record.method["layer"] == layer]
        assert widths[-1] == 1 and widths == sorted(widths, reverse=True)
    controls = [record for record in records.values() if record.step == "control"]
    assert [record.training["images_since_step1"] for record in controls] == [96, 192, 288]
    assert {record.training["images_since_step1"] for record in narrow} <= {96, 192, 288}
    assert all(record.interval is not None and record.metric.samples == 60 for record in records.values())


def test_parity_is_proven_for_every_variant(pruned_folder: Path) -> None:
    project = load_project(pruned_folder / "coopexport.toml")
    pruned = [name for name in variants(project) if name != "original"]
    assert len(pruned) > 6
    for name in pruned:
        checks = {check["check"]: check for check in read_shrink_plan(project.variant_folder(name)).parity}
        assert checks["shrink"]["error"] <= 1e-9 and "shrink-float32" in checks
        exported = {check["check"] for check in read_variant_record(project.variant_folder(name)).parity}
        assert "export" in exported


def test_every_variant_is_proven_again_from_its_files(pruned_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chain"
    shutil.copytree(pruned_folder, folder)
    project = load_project(folder / "coopexport.toml")
    for name in [name for name in variants(project) if name != "original"]:
        checks = variant_parity(project, name)
        assert len(checks) == 5 and checks[0].error <= 1e-9, name
    weights = load_file(folder / "out" / "conv2-1" / "weights.safetensors")
    assert not torch.equal(weights["fc.weight"], load_file(folder / "network.safetensors")["fc.weight"][:, :16])


def test_a_second_run_trains_nothing_and_changes_nothing(pruned_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (pruned_folder / "out").rglob("*") if path.is_file()}
    output = run(pruned_folder)
    assert "variant step1:" in output and "variant conv2-1:" in output
    assert before == {path: path.stat().st_mtime_ns for path in (pruned_folder / "out").rglob("*") if path.is_file()}


def test_what_an_earlier_version_trained_is_not_trained_again_without_being_asked(
    pruned_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "chain"
    shutil.copytree(pruned_folder, folder)
    plan = folder / "out" / "step1" / "shrink.json"
    content = json.loads(plan.read_text())
    checkpoint = content.pop("made_from")["checkpoint"]
    plan.write_text(json.dumps({**content, "checkpoint_sha256": checkpoint}))
    listed = run_coopexport(folder, "variants")
    assert listed.code == 0 and listed.errors == "", listed.errors
    assert "step1" in listed.output
    with pytest.raises(CoopexportError, match=r"another pruning \(step1; other version of coopexport\): pass --series"):
        run(folder)


def test_killed_at_any_time_it_goes_on_to_the_same_bits(
    chain_folder: Path, pruned_folder: Path, tmp_path: Path
) -> None:
    """Each run goes on from where the one before was killed."""
    folder = tmp_path / "chain"
    shutil.copytree(chain_folder, folder)
    for line in ("step 1, round 1", "variant step1:", "variant conv1-1:"):
        kill_after(line, folder)
    run(folder)
    wanted, found = weights_of(pruned_folder), weights_of(folder)
    assert wanted.keys() == found.keys()
    for variant, tensors in wanted.items():
        assert all(torch.equal(tensor, found[variant][name]) for name, tensor in tensors.items()), variant


def kill_after(line: str, folder: Path) -> None:
    """Start the command in a process of its own and kill that soon after it has printed `line`."""
    command = [sys.executable, "-u", "-m", "coopexport", "prune", "two-step"]
    environment = {
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests' / 'exporter' / 'pruning'}",
        "PATH": "/usr/bin:/bin",
    }
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    for printed in process.stdout:
        if printed.startswith(line):
            break
    else:
        pytest.fail(f"it never printed {line}")
    time.sleep(0.05)  # into what comes next: wherever that is, the bits are the same
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, f"it ended before it was killed after {line}"


def test_another_pruning_does_not_mix_with_the_first(pruned_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chain"
    shutil.copytree(pruned_folder, folder)
    with pytest.raises(CoopexportError, match=r"variants of another pruning \(step1.*--series.*--replace"):
        run(folder, "--criterion", "l1-norm")
    assert set(weights_of(folder)) == set(weights_of(pruned_folder))
    run(folder, "--criterion", "l1-norm", "--step", "1", "--replace")
    assert set(weights_of(folder)) == {"step1"}


def test_other_widths_are_made_from_the_same_first_step(pruned_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chain"
    shutil.copytree(pruned_folder, folder)
    output = run(folder, "--widths", "1", "--layer", "conv2", "--replace")
    assert set(weights_of(folder)) == {"step1", "conv2-1", "step1-control-1"}, output
    before, after = (load_file(one / "out" / "step1" / "weights.safetensors") for one in (pruned_folder, folder))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_a_candidate_that_is_asked_for_later_is_added_to_what_is_there(chain_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chain"
    shutil.copytree(chain_folder, folder)
    run(folder, "--layer", "conv2", "--without-controls")
    before = weights_of(folder)
    run(folder, "--layer", "conv2", "--layer", "pool", "--without-controls")
    project = load_project(folder / "coopexport.toml")
    assert read_variant_record(project.variant_folder("conv2-1")).cuts == ("conv2", "pool")
    after = weights_of(folder)
    assert all(torch.equal(tensor, after[name][key]) for name in before for key, tensor in before[name].items())
    run(folder, "--layer", "conv2", "--without-controls")
    assert read_variant_record(project.variant_folder("conv2-1")).cuts == ("conv2", "pool")


def test_two_series_stand_beside_each_other(chain_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chain"
    shutil.copytree(chain_folder, folder)
    run(folder, "--step", "1", "--series", "first")
    run(folder, "--step", "1", "--series", "second", "--criterion", "l1-norm", "--seed", "5")
    names = variants(load_project(folder / "coopexport.toml"))
    assert {"first-step1", "second-step1"} <= set(names) and "step1" not in names


def test_learning_from_the_unpruned_network_changes_what_is_learned(chain_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chain"
    shutil.copytree(chain_folder, folder)
    run(folder, "--step", "1", "--series", "plain")
    run(folder, "--step", "1", "--series", "taught", "--distil", "0.7")
    found = weights_of(folder)
    assert not torch.equal(found["plain-step1"]["fc.weight"], found["taught-step1"]["fc.weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layer", "conv9_9"), 'there is no layer "conv9_9"'),
        (("--layer", "fc"), "no channel that crosses after 'fc' can be removed"),
        (("--rounds", "4"), "^rounds needs macs_reduction"),
        (("--removed-share", "2"), "^--removed-share: Input should be less than 1"),
        (("--series", "../up"), "series"),
        (("--device", "cuda"), 'training.device is "cuda"'),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    chain_folder: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    folder = tmp_path / "chain"
    shutil.copytree(chain_folder, folder)
    with pytest.raises(CoopexportError, match=message):
        run(folder, *options)


SAMPLES = """
import numpy as np
READ = []
class Samples:
    def __len__(self):
        return 300
    def __getitem__(self, index):
        READ.append(index)
        return np.random.default_rng(index).integers(0, 255, (8, 8, 3)).astype(np.uint8), index % 3
held_out = Samples
"""


def test_validation_data_is_read_once_for_each_score(chain_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chain"
    shutil.copytree(chain_folder, folder)
    (folder / "samples_of_validation.py").write_text(SAMPLES)
    text = (folder / "coopexport.toml").read_text()
    text = text.replace('validation = "held_out.npz"', 'validation = "samples_of_validation:held_out"')
    (folder / "coopexport.toml").write_text(text)
    output = run(folder, "--step", "1", "--least-left", "0.85", "--final-epochs", "0", "--maximum-loss", "100")
    scores = 1 + output.count("step 1, round")
    read = sys.modules["samples_of_validation"].READ
    assert sorted(read) == sorted([0, *range(300)] + list(range(300)) * (scores - 1)), "the first is looked at, too"


def test_without_training_data_the_key_is_named(chain_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "chain"
    shutil.copytree(chain_folder, folder)
    text = (folder / "coopexport.toml").read_text().replace('training = "train.npz"\n', "")
    (folder / "coopexport.toml").write_text(text)
    with pytest.raises(CoopexportError, match=r"data\.training is not set"):
        run(folder)


def test_a_variant_is_refused_once_its_checkpoint_has_changed(pruned_folder: Path, tmp_path: Path) -> None:
    from exporter.variants.layer_graphs import layer_graph

    folder = tmp_path / "chain"
    shutil.copytree(pruned_folder, folder)
    save_file(
        dict(trained_chain().double().float().state_dict()) | {"fc.bias": torch.zeros(3)},
        folder / "network.safetensors",
    )
    with pytest.raises(CoopexportError, match="prune two-step"):
        layer_graph(load_project(folder / "coopexport.toml"), "step1")


SPLIT = """
[split]
maximum_loss_points = 100.0
"""
# Name, arguments, layers to cut at, side of an image, training images, epochs.
SMALL = (
    ("resnet18", {"width": 8, "depth": 2}, ("stages.1.1", "stages.2.0"), 16, 32, 0.5),
    ("mobilenet_v2", {"width": 0.25, "depth": 3}, ("stages.2.0.depthwise", "stages.3.1"), 16, 32, 0.5),
    ("densenet", {"growth": 4, "units": 2}, ("stages.2", "stages.3.2"), 16, 32, 0.5),
)
FULL = (
    ("resnet18", {"width": 32}, ("stages.1.1", "stages.3.0"), 32, 256, 2.0),
    ("mobilenet_v2", {}, ("stages.2.0.depthwise", "stages.3.1"), 32, 256, 2.0),
    ("densenet", {"growth": 12, "units": 3}, ("stages.2", "stages.4.2"), 32, 256, 2.0),
)


@pytest.mark.parametrize(
    ("name", "arguments", "cuts", "size", "count", "epochs"),
    [*SMALL, *(pytest.param(*one, marks=pytest.mark.full) for one in FULL)],
    ids=[*(f"{one[0]}, small" for one in SMALL), *(one[0] for one in FULL)],
)
def test_networks_with_ties_go_through_the_same_command(
    name: str, arguments: dict, cuts: tuple[str, ...], size: int, count: int, epochs: float, tmp_path: Path
) -> None:
    write_images(tmp_path / "train.npz", count, 0, size)
    write_images(tmp_path / "held_out.npz", 48, 1, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = settled(getattr(cifar_networks, name)(**arguments), tmp_path / "train.npz")
    save_file(dict(network.state_dict()), tmp_path / "network.safetensors")
    text = CHAIN.replace("pruning_case:Chain", f"cifar_networks:{name}").replace("[3, 8, 8]", f"[3, {size}, {size}]")
    listed = ", ".join(f"{key} = {value}" for key, value in arguments.items())
    text = text.replace("checkpoint", f"arguments = {{ {listed} }}\ncheckpoint").split("[split]")[0]
    text = text.replace("epochs = 1", f"epochs = {epochs}").replace("widths = 3", "widths = 2")
    text = text.replace("removed_share = 0.2\nleast_left = 0.7", "macs_reduction = 2\nrounds = 2\nleast_left = 0.01")
    (tmp_path / "coopexport.toml").write_text(
        text.replace("maximum_loss_points = 50", "maximum_loss_points = 100") + SPLIT
    )
    run(tmp_path, "--without-controls", *(option for layer in cuts for option in ("--layer", layer)))
    project = load_project(tmp_path / "coopexport.toml")
    records = [read_variant_record(project.variant_folder(one)) for one in variants(project) if one != "original"]
    first = next(record for record in records if record.step == "step1")
    original = sum(
        layer["macs"] for layer in json.loads((tmp_path / "out/original/model.layers.json").read_text())["layers"]
    )
    assert original / first.macs >= 2
    narrow = [record for record in records if record.step == "step2"]
    assert len({record.method["layer"] for record in narrow}) >= 2 and len(narrow) >= 3
    assert all(check["error"] <= check["bound"] for record in records for check in record.parity)
    cut = str(narrow[0].method["layer"])
    invoke(split, tmp_path, "--layer", cut, "--variant", "step1", "--variant", narrow[0].variant)
    bundles = [read_split(project.variant_folder(name), cut) for name in ("step1", narrow[0].variant)]
    assert bundles[1].payload_bytes.mean < bundles[0].payload_bytes.mean


def settled(network: nn.Module, data: Path) -> nn.Module:
    """Return `network` with batch-norm statistics of the data, so that its outputs depend on its inputs."""
    with np.load(data) as content:
        inputs = torch.from_numpy((content["images"].transpose(0, 3, 1, 2) / 255 - 0.5) / 0.25).float()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        network.train()(inputs)
    return network.eval()
