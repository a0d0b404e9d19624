"""Weights come out of every usual file, code never does, and what does not fit is said in one line."""

from __future__ import annotations

import argparse
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from small_networks import Residual, images, seeded
from torch import nn
from torch.nn.utils import prune

from exporter.project.checkpoint import build_network, effective_state, load_network, load_weights, read_state_dict
from jetson.errors import CoopexportError

REPOSITORY = Path(__file__).resolve().parents[3]
WEIGHTS = OrderedDict(weight=torch.arange(6.0).reshape(2, 3), bias=torch.tensor([0.5, -0.5]))


def refusal(path: Path) -> str:
    with pytest.raises(CoopexportError) as caught:
        read_state_dict(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def assert_same(found: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(WEIGHTS)
    assert all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3, "best": 0.9},
        {"model_state_dict": WEIGHTS, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        {"model": WEIGHTS},
        {f"module.{name}": value for name, value in WEIGHTS.items()},
        {"state_dict": {f"module.{name}": value for name, value in WEIGHTS.items()}},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files(tmp_path: Path, content: dict, zipped: bool) -> None:
    torch.save(content, tmp_path / "net.pt", _use_new_zipfile_serialization=zipped)
    assert_same(read_state_dict(tmp_path / "net.pt"))


def test_safetensors(tmp_path: Path) -> None:
    save_file(dict(WEIGHTS), tmp_path / "net.safetensors")
    found = read_state_dict(tmp_path / "net.safetensors")
    assert all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


class Attack:
    """A pickle that makes a file when it is loaded carelessly."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


@pytest.mark.parametrize("writer", ["zip", "legacy", "pickle"])
def test_a_pickle_that_wants_to_run_code_is_refused_and_does_not_run(tmp_path: Path, writer: str) -> None:
    proof, path = tmp_path / "proof", tmp_path / "net.pt"
    content = {"state_dict": WEIGHTS, "extra": Attack(proof)}
    if writer == "pickle":
        path.write_bytes(pickle.dumps({"extra": Attack(proof)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "zip")
    message = refusal(path)
    assert "system" in message
    assert "torch.save(model.state_dict(), ...)" in message
    assert not proof.exists()
    pickle.loads(pickle.dumps(Attack(proof)))  # the attack works where code is run
    assert proof.exists()


@pytest.mark.parametrize(
    ("extra", "type_name"),
    [
        (argparse.Namespace(lr=0.1), "argparse.Namespace"),
        (np.float64(0.5), r"numpy\S*scalar"),
        (Path("x"), "pathlib"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ],
)
def test_foreign_types_are_named_with_the_way_out(tmp_path: Path, extra: object, type_name: str) -> None:
    torch.save({"state_dict": WEIGHTS, "extra": extra}, tmp_path / "net.pt")
    message = refusal(tmp_path / "net.pt")
    assert re.search(type_name, message)
    assert "torch.save(model.state_dict(), ...)" in message


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"weight": WEIGHTS["weight"], "epoch": 3}, "'epoch' is a int"),
        ({}, "no weights"),
        ([WEIGHTS["weight"]], "no weights"),
        (WEIGHTS["weight"], "no weights"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object, word: str) -> None:
    torch.save(content, tmp_path / "net.pt")
    assert word in refusal(tmp_path / "net.pt")


MOVED = {name: value + 1 for name, value in WEIGHTS.items()}


@pytest.mark.parametrize(
    ("key", "other", "average"),
    [
        ("state_dict", "state_dict_ema", MOVED),  # timm
        ("model", "model_ema", MOVED),  # ConvNeXt, DeiT
        ("model", "model_ema", {"n_averaged": torch.tensor(7), **{f"module.{n}": v for n, v in MOVED.items()}}),
        ("model", "ema", {"module": MOVED, "updates": 7}),  # RT-DETR
        ("model", "ema", {"shadow": {name: value for name, value in MOVED.items() if name != "bias"}}),
        ("model_state_dict", "ema", {"decay": 0.9, "shadow_params": list(MOVED.values())}),  # torch-ema
        ("model_state_dict", "swa_model", {f"averaged.{name}": value for name, value in MOVED.items()}),
        ("state_dict", "model", MOVED),
        ("state_dict", "teacher", MOVED),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_two_versions_of_the_weights_are_refused_by_both_names(
    tmp_path: Path, key: str, other: str, average: object, first: bool
) -> None:
    """None is taken for the other without a word, in whatever form the average is kept."""
    entries = [(key, {f"module.{name}": value for name, value in WEIGHTS.items()}), (other, average), ("epoch", 3)]
    torch.save(dict(entries if first else reversed(entries)), tmp_path / "net.pt")
    message = refusal(tmp_path / "net.pt")
    assert f"'{key}' and '{other}'" in message
    way_out = re.search(r"torch\.load\('net.pt', weights_only=True\)\['(\w+)'\]", message)
    assert way_out is not None
    torch.save(torch.load(tmp_path / "net.pt", weights_only=True)[way_out[1]], tmp_path / "alone.pt")
    assert_same(read_state_dict(tmp_path / "alone.pt"))


@pytest.mark.parametrize(
    "beside",
    [
        {"model": {name: value.clone() for name, value in WEIGHTS.items()}},  # the same twice
        {"ema": None, "ema_decay": 0.999, "ema_updates": torch.tensor(7)},
        {"optimizer": {"state": {0: {"exp_avg": WEIGHTS["weight"]}, 1: {"exp_avg": WEIGHTS["bias"]}}}},
        {"optimizer": {"momentum": MOVED}},
        {"discriminator": {"weight": torch.ones(4, 4), "scale": torch.ones(4), "bias": torch.ones(4)}},
        {"config": {"bias": True, "classes": ["cat", "dog"]}},
    ],
)
def test_what_is_no_other_version_of_the_weights_is_left_alone(tmp_path: Path, beside: dict) -> None:
    torch.save({"state_dict": WEIGHTS, **beside}, tmp_path / "net.pt")
    assert_same(read_state_dict(tmp_path / "net.pt"))


def test_weights_and_their_average_under_prefixes_of_one_dictionary_do_not_fit(tmp_path: Path) -> None:
    mixed = {**WEIGHTS, **{f"ema.{name}": value for name, value in MOVED.items()}}
    torch.save({"state_dict": mixed}, tmp_path / "net.pt")
    with pytest.raises(CoopexportError, match=r"2 unknown \(ema.bias, ema.weight\)"):
        load_weights(nn.Linear(3, 2), read_state_dict(tmp_path / "net.pt"), "net.pt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "missing" in refusal(tmp_path / "net.pt")


@settings(max_examples=150)
@given(st.data())
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_damaged_files_are_refused_in_one_line(tmp_path_factory, form: str, data) -> None:
    """Cut off or with bytes changed: one line, or (where no checksum covers the byte) tensors."""
    folder = tmp_path_factory.mktemp("net")
    path = folder / ("net.safetensors" if form == "safetensors" else "net.pt")
    if form == "safetensors":
        save_file(dict(WEIGHTS), path)
    else:
        torch.save({"state_dict": WEIGHTS, "epoch": 3}, path, _use_new_zipfile_serialization=form == "zip")
    content = bytearray(path.read_bytes())
    cut = data.draw(st.booleans())
    if cut:
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 5))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found = read_state_dict(path)
    except CoopexportError as error:
        assert str(path) in str(error)
    else:
        assert not cut
        assert all(isinstance(value, torch.Tensor) for value in found.values())


# Weights and network.


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weights: weights.pop("bias"), ["1 missing", "bias"]),
        (lambda weights: weights.update(scale=torch.ones(2)), ["1 unknown", "scale"]),
        (lambda weights: (weights.pop("bias"), weights.update(b=torch.ones(2))), ["1 missing (bias)", "1 unknown (b)"]),
        (lambda weights: weights.update(weight=torch.ones(3, 2)), ["weight", "(3, 2)", "(2, 3)"]),
    ],
)
def test_weights_that_do_not_fit_are_named(change, words: list[str]) -> None:
    weights = dict(WEIGHTS)
    change(weights)
    network = nn.Linear(3, 2)
    before = network.weight.detach().clone()
    with pytest.raises(CoopexportError) as caught:
        load_weights(network, weights, "net.pt")
    assert "\n" not in str(caught.value)
    for word in ["net.pt", "model.arguments", *words]:
        assert word in str(caught.value)
    assert torch.equal(network.weight, before)


def test_many_missing_weights_are_counted_not_listed() -> None:
    with pytest.raises(CoopexportError, match=r"4 missing \(0\.bias, 0\.weight, 1\.bias, \.\.\.\) and 1 unknown"):
        load_weights(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), {"x": torch.ones(1)}, "net.pt")


def test_a_network_whose_own_child_is_called_module_loads(tmp_path: Path) -> None:
    network = nn.Sequential(OrderedDict(module=nn.Linear(3, 2)))
    torch.save({f"module.{name}": value for name, value in WEIGHTS.items()}, tmp_path / "net.pt")
    load_weights(network, read_state_dict(tmp_path / "net.pt"), "net.pt")
    assert torch.equal(network.module.weight, WEIGHTS["weight"])


# Weights that were saved while torch.nn.utils.prune was active.


def pruned_residual(seed: int = 0) -> nn.Module:
    """Return a network of which some weights and biases are pruned, once or twice over."""
    network = seeded(Residual, seed=seed)
    prune.ln_structured(network.stem, "weight", amount=3, n=2, dim=0)
    prune.l1_unstructured(network.stem, "weight", amount=0.3)
    prune.l1_unstructured(network.block1.conv2, "bias", amount=2)
    prune.l1_unstructured(network.fc, "weight", amount=0.5)
    return network


def made_permanent(network: nn.Module) -> nn.Module:
    for module, name in [(network.stem, "weight"), (network.block1.conv2, "bias"), (network.fc, "weight")]:
        prune.remove(module, name)
    return network


@settings(max_examples=20)
@given(st.integers(0, 2**16))
def test_the_effective_state_is_that_of_pruning_made_permanent(seed: int) -> None:
    weights = pruned_residual(seed).state_dict()
    names = list(weights)
    found, expected = effective_state(weights), made_permanent(pruned_residual(seed)).state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert list(weights) == names
    assert set(effective_state(found)) == set(found)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_saved_with_pruning_active_loads(tmp_path: Path, prefix: str) -> None:
    network = pruned_residual().eval()
    torch.save({prefix + name: value for name, value in network.state_dict().items()}, tmp_path / "net.pt")
    plain = Residual().eval()
    load_weights(plain, read_state_dict(tmp_path / "net.pt"), "net.pt")
    with torch.no_grad():
        assert torch.equal(plain(images((3, 16, 16))), network(images((3, 16, 16))))
    parallel = nn.Sequential(OrderedDict(module=Residual()))
    load_weights(parallel, read_state_dict(tmp_path / "net.pt"), "net.pt")
    assert torch.equal(parallel.module.fc.weight, plain.fc.weight)


def test_a_network_that_is_being_pruned_takes_its_own_checkpoint_as_it_is() -> None:
    network, other = pruned_residual(seed=1), pruned_residual(seed=2)
    load_weights(other, network.state_dict(), "net.pt")
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in other.state_dict().items())


def test_a_mask_that_does_not_fit_is_named() -> None:
    weights = pruned_residual().state_dict()
    weights["fc.weight_mask"] = weights["fc.weight_mask"][:3]
    with pytest.raises(
        CoopexportError, match=r"^net.pt: the mask of fc.weight is \(3, 128\).*\(10, 128\).*prune.remove"
    ):
        load_weights(Residual(), weights, "net.pt")


def test_what_is_hidden_by_a_mask_must_be_finite_too() -> None:
    """As PyTorch computes it, NaN times 0 is NaN."""
    weights = pruned_residual().state_dict()
    weights["fc.weight_orig"][:] = float("nan")
    with pytest.raises(CoopexportError, match=r"net.pt: 1280 values of fc.weight are NaN"):
        load_weights(Residual(), weights, "net.pt")


@pytest.mark.parametrize("extra", [["weight_mask"], ["weight_orig"], ["weight_orig", "weight_mask", "weight"]])
def test_what_is_no_pair_stays_and_is_reported(extra: list[str]) -> None:
    """Spectral norm has a weight_orig as well, without a mask."""
    weights = dict(WEIGHTS)
    weights.update(dict.fromkeys(extra, WEIGHTS["weight"]))
    assert set(effective_state(weights)) == set(weights)
    with pytest.raises(CoopexportError, match=rf"{len(extra) - extra.count('weight')} unknown"):
        load_weights(nn.Linear(3, 2), weights, "net.pt")


def test_load_network_gives_the_weights_of_the_file_in_eval_mode(tmp_path: Path) -> None:
    from exporter.models.vgg import vgg16

    widths = [4] * 13
    torch.save(seeded(vgg16, widths, seed=5).state_dict(), tmp_path / "net.pt")
    network = load_network("exporter.models.vgg:vgg16", {"widths": widths}, tmp_path / "net.pt", tmp_path)
    assert not any(module.training for module in network.modules())
    stored = torch.load(tmp_path / "net.pt", weights_only=True)
    assert all(torch.equal(value, stored[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("factory", "arguments", "words"),
    [
        ("exporter.models.vgg:vgg16", {"widths": [1]}, ["vgg16", "ValueError", "13"]),
        ("exporter.models.vgg:vgg16", {"width": 1}, ["vgg16", "TypeError", "width"]),
        (
            "exporter.parity:Parity",
            {"check": "", "error": 0, "bound": 0, "samples": 0, "how": ""},
            ["Parity", "Module"],
        ),
    ],
)
def test_factories_that_do_not_build_are_named(tmp_path: Path, factory: str, arguments: dict, words: list[str]) -> None:
    with pytest.raises(CoopexportError) as caught:
        build_network(factory, arguments, tmp_path)
    for word in ["model.factory", *words]:
        assert word in str(caught.value)


def test_nothing_in_the_repository_loads_pickles() -> None:
    careless = re.compile(r"weights_only\s*=\s*False|allow_pickle\s*=\s*True|\bpickle\.loads?\(|\bunpickl\w*\(", re.I)
    found = [
        f"{path.relative_to(REPOSITORY)}: {line.strip()}"
        for path in REPOSITORY.rglob("*.py")
        if not {"tests", ".venv", "build", "dist"} & set(path.relative_to(REPOSITORY).parts)
        for line in path.read_text(encoding="utf-8").splitlines()
        if careless.search(line) or ("torch.load(" in line and "weights_only=True" not in line)
    ]
    assert found == []
