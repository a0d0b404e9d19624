"""Masks from dictionaries and files: NNI's and plain ones read as their tools mean them, anything else is refused."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from exporter.masks.dictionaries import from_dictionary, from_nni, read_any_masks
from exporter.masks.masks import Masks, write_masks
from jetson.errors import CoopexportError

KEEP = [True, False, True, True]


def network() -> nn.Module:
    return nn.ModuleDict(
        {
            "conv": nn.Conv2d(2, 4, 3, bias=False),
            "norm": nn.BatchNorm2d(4),
            "up": nn.ConvTranspose2d(6, 4, 2, groups=2),
            "fc": nn.Linear(5, 4),
        }
    )


def rows(keep: list[bool], *shape: int) -> torch.Tensor:
    """Return a mask of the weight's shape in which whole rows are 0."""
    return torch.tensor(keep, dtype=torch.float32).reshape(-1, *[1] * len(shape)).expand(len(keep), *shape).clone()


def nni(keep: list[bool] = KEEP) -> dict:
    return {"conv": {"weight": rows(keep, 2, 3, 3), "bias": None}}


def refused(function, *arguments, **options) -> str:
    with pytest.raises(CoopexportError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# NNI.


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bool, torch.bfloat16])
def test_masks_of_whole_filters(dtype: torch.dtype) -> None:
    everything = {"weight": torch.ones(4, 5), "bias": torch.ones(4)}
    for weight in (rows(KEEP, 2, 3, 3), torch.tensor(KEEP)):
        for given_network in (None, network()):
            masks = from_nni({"conv": {"weight": weight.to(dtype), "bias": None}, "fc": everything}, given_network)
            assert masks.meaning == "weight"
            assert {name: keep.tolist() for name, keep in masks.keep.items()} == {"conv": KEEP}


@given(st.data())
def test_a_filter_goes_when_all_of_it_is_masked(data) -> None:
    weight = data.draw(arrays.arrays(np.bool_, (4, 3)))
    bias = data.draw(st.none() | arrays.arrays(np.bool_, 4))
    expected = [bool(weight[i].any() or (bias is not None and bias[i])) for i in range(4)]
    targets = {"weight": torch.from_numpy(weight), "bias": None if bias is None else torch.from_numpy(bias)}
    if all(expected):
        hidden = int((~weight).sum())
        message = refused(from_nni, {"fc": targets})
        if hidden or (bias is not None and not bias.all()):
            assert f"{hidden} of 12 weights of 'fc'" in message
    elif not any(expected):
        assert "'fc' removes every channel" in refused(from_nni, {"fc": targets})
    else:
        assert from_nni({"fc": targets}).keep["fc"].tolist() == expected


def test_a_bias_without_a_mask_counts_as_it_is_in_the_network() -> None:
    targets = {"fc": {"weight": rows([False, False, True, True], 5)}}
    given_network = network()
    with torch.no_grad():
        given_network["fc"].bias[:] = torch.tensor([0.0, 1.0, 0.0, 1.0])
    assert from_nni(targets).keep["fc"].tolist() == [False, False, True, True]
    assert from_nni(targets, given_network).keep["fc"].tolist() == [False, True, True, True]


def test_channels_of_transposed_convolutions_need_the_network() -> None:
    weight = torch.ones(6, 2, 2, 2)
    weight[3:, 0] = 0  # second group, first channel: channel 2 of 4
    masks = {"up": {"weight": weight, "bias": torch.tensor([1.0, 1, 0, 1])}}
    assert from_nni(masks, network()).keep["up"].tolist() == [True, True, False, True]
    assert "'up' are of (6,) filters and (4,) biases; give the network" in refused(from_nni, masks)


def test_masks_of_inputs_and_outputs_may_only_repeat_the_weights() -> None:
    conv = nni()["conv"]
    harmless = {"_input_0": torch.ones(1, 2), "_output_0": torch.tensor(KEEP).reshape(1, 4, 1, 1), "_output_1": None}
    assert from_nni({"conv": {**conv, **harmless}}).keep["conv"].tolist() == KEEP
    for target, mask in (
        ("_output_0", torch.tensor([True, False, False, True])),
        ("_output_0", torch.tensor([1.0, 0, 1])),
        ("_input_0", torch.tensor(KEEP)),
    ):
        message = refused(from_nni, {"conv": {**conv, target: mask}})
        assert "'conv'" in message
        assert target in message
        assert target in refused(from_nni, {"conv": {target: mask}})


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ({"conv": {"weight": torch.full((4, 2), 0.5)}}, ["'conv'", "8 values other than 0 and 1", "0.5"]),
        ({"conv": {"weight": torch.tensor([1.0, float("nan")])}}, ["'conv'", "nan"]),
        ({"conv": {"weight": "all"}}, ["'conv'", "not an array"]),
        ({"conv": {"weight": rows(KEEP, 2), "bias": torch.ones(3)}}, ["'conv'", "(4,)", "(3,)"]),
        ({"conv": torch.ones(4)}, ["'conv'", "Tensor"]),
        ({"conv": {"weight": rows([False] * 4, 2)}}, ["'conv'", "every channel"]),
        ({"conv": {"weight": torch.tensor(0.0)}}, ["conv", "()"]),
        ({3: {"weight": rows(KEEP, 2)}}, ["3", "names"]),
        ({}, ["every filter", "nothing", "out_channel"]),
        ({"conv": {"weight": torch.ones(4, 2), "bias": None}}, ["every filter", "nothing"]),
        (
            {f"conv{i}": {"weight": torch.eye(2), "bias": None} for i in range(5)},
            ["2 of 4 weights of 'conv0'", "'conv2', ...", "out_channel"],
        ),
    ],
)
def test_what_is_no_mask_of_filters_is_named(masks: dict, words: list[str]) -> None:
    message = refused(from_nni, masks)
    for word in words:
        assert word in message
    assert "conv3" not in message


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ({"conv": {"weight": rows(KEEP, 2, 3)}}, ["'conv'", "(4, 2, 3)", "(4, 2, 3, 3)"]),
        ({"conv": {"weight": torch.tensor([0.0, 1, 1])}}, ["'conv'", "3 entries", "4 output channels"]),
        ({"fc": {"weight": rows(KEEP, 5), "bias": torch.ones(5)}}, ["'fc'", "(5,)"]),
        ({"norm": {"weight": torch.tensor(KEEP)}}, ["'norm'", "BatchNorm2d", "gammas"]),
        ({"stem": {"weight": torch.tensor(KEEP)}}, ["'stem'", "conv, up, fc"]),
    ],
)
def test_masks_of_another_network_are_named(masks: dict, words: list[str]) -> None:
    message = refused(from_nni, masks, network())
    for word in words:
        assert word in message


@pytest.mark.parametrize("as_type", [Path, str])
def test_nni_files(tmp_path: Path, as_type: type) -> None:
    torch.save(nni(), tmp_path / "mask.pth")
    assert from_nni(as_type(tmp_path / "mask.pth"), network()).keep["conv"].tolist() == KEEP
    torch.save({"conv": {"weight": torch.eye(4)}}, tmp_path / "mask.pth")
    assert str(tmp_path / "mask.pth") in refused(from_nni, as_type(tmp_path / "mask.pth"))


def test_what_nni_3_returns_is_refused_as_it_stands_with_the_way_out(tmp_path: Path) -> None:
    masks = defaultdict(dict, nni())
    torch.save(masks, tmp_path / "mask.pth")
    message = refused(from_nni, tmp_path / "mask.pth")
    assert "mask.pth" in message
    assert "defaultdict" in message
    way_out = "torch.save({name: dict(targets) for name, targets in masks.items()}"
    assert way_out in message
    torch.save({name: dict(targets) for name, targets in masks.items()}, tmp_path / "mask.pth")
    assert from_nni(tmp_path / "mask.pth").keep["conv"].tolist() == KEEP


# Plain dictionaries.

FORMS = {
    "list": lambda keep: keep.tolist(),
    "list of numbers": lambda keep: [int(entry) for entry in keep],
    "tuple": lambda keep: tuple(keep.tolist()),
    "bool array": lambda keep: keep,
    "backward array": lambda keep: keep[::-1].copy()[::-1],
    "float array": lambda keep: keep.astype(np.float64),
    "uint8 array": lambda keep: keep.astype(np.uint8),
    "bool tensor": torch.tensor,
    "float tensor": lambda keep: torch.tensor(keep).float(),
    "bfloat16 tensor": lambda keep: torch.tensor(keep).bfloat16(),
    "int tensor": lambda keep: torch.tensor(keep).long(),
    "parameter": lambda keep: nn.Parameter(torch.tensor(keep).float()),
}


@pytest.mark.parametrize("form", FORMS)
@given(keep=arrays.arrays(np.bool_, st.integers(1, 20)).filter(np.any), meaning=st.sampled_from(["channel", "weight"]))
def test_dictionaries(form: str, keep: np.ndarray, meaning: str) -> None:
    masks = from_dictionary({"a": FORMS[form](keep), "b": [1, 0]}, meaning, origin="by hand")
    assert (masks.meaning, masks.origin) == (meaning, "by hand")
    assert masks.keep["a"].dtype == np.bool_
    assert masks.keep["a"].tolist() == keep.tolist()
    assert masks.keep["b"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([0, 1, 2], "2"),
        ([0.0, 1.0, float("nan")], "nan"),
        ([1.0, 1e-9], "1e-09"),
        (torch.tensor([1, -1]), "-1"),
        (np.array([1.0, np.inf]), "inf"),
        (["yes", "no"], "not an array"),
        ([True, None], "not an array"),
        ([[1], [1, 0]], "not an array"),
        (None, "not an array"),
        (torch.ones(3).to_sparse(), "not an array"),
        (np.ones((2, 2), bool), "(2, 2)"),
        (True, "()"),
        ([0, 0], "every channel"),
        (np.ones(0, bool), "every channel"),
    ],
)
def test_other_values_are_refused_by_name(values: object, word: str) -> None:
    message = refused(from_dictionary, {"good": [1, 0], "features.conv1": values}, "weight")
    assert "features.conv1" in message
    assert word in message
    assert "good" not in message


def test_the_meaning_must_be_one_of_two() -> None:
    assert '"filter"' in refused(from_dictionary, {"conv": KEEP}, "filter")


def test_names_and_lengths_are_those_of_the_network() -> None:
    given_network = network()
    assert from_dictionary({"conv": KEEP, "up": KEEP, "fc": KEEP}, "channel", given_network).keep["up"].tolist() == KEEP
    message = refused(from_dictionary, {"up": [1, 0]}, "channel", given_network)
    assert "'up' has 2 entries" in message
    assert "4 output channels" in message
    assert "'stem'" in refused(from_dictionary, {"stem": KEEP}, "channel", given_network)
    assert "BatchNorm2d" in refused(from_dictionary, {"norm": KEEP}, "channel", given_network)


# Files of any kind.


@pytest.mark.parametrize("meaning", ["channel", "weight"])
def test_every_kind_of_file(tmp_path: Path, meaning: str) -> None:
    masks = Masks({"conv": np.array(KEEP)}, meaning, "by hand")
    write_masks(tmp_path / "masks.safetensors", masks)
    torch.save({"conv": torch.tensor(KEEP), "meaning": meaning, "origin": "by hand"}, tmp_path / "plain.pt")
    torch.save({"conv": torch.tensor(KEEP), "meaning": meaning}, tmp_path / "short.pth")
    torch.save(nni(), tmp_path / "nni.pth")
    for name, origin in (
        ("masks.safetensors", "by hand"),
        ("plain.pt", "by hand"),
        ("short.pth", ""),
        ("nni.pth", "NNI"),
    ):
        found = read_any_masks(tmp_path / name, network())
        assert found.keep["conv"].tolist() == KEEP
        assert found.meaning == ("weight" if origin == "NNI" else meaning)
        assert found.origin.startswith(origin)


@pytest.mark.parametrize("name", ["masks.safetensors", "masks.pt"])
def test_files_for_another_network_are_refused_where_there_is_a_network(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix == ".pt":
        torch.save({"conv": torch.tensor([1, 0]), "meaning": "weight"}, path)
    else:
        write_masks(path, Masks({"conv": np.array([True, False])}, "weight"))
    assert read_any_masks(path).keep["conv"].tolist() == [True, False]
    message = refused(read_any_masks, path, network())
    assert message.startswith(f"mask file {path}: the mask of 'conv' has 2 entries")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"conv": torch.tensor(KEEP)}, '"meaning": "channel" or "weight"'),
        ({"conv": torch.tensor(KEEP), "meaning": "filter"}, '"filter"'),
        ({"conv": torch.tensor(KEEP), "meaning": 3}, '"3"'),
        ({"conv": torch.tensor(KEEP), "meaning": torch.ones(2)}, "meaning"),
        ({"conv": torch.ones(2, 2), "meaning": "weight"}, "(2, 2)"),
        ({"conv": {"weight": torch.eye(2)}, "fc": torch.ones(2)}, "'fc'"),
        ({}, "no masks"),
        ([1, 2], "no masks"),
        (torch.ones(3), "no masks"),
        ({"conv": nn.Linear(2, 2)}, "Linear"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: object, word: str) -> None:
    torch.save(content, tmp_path / "masks.pt")
    message = refused(read_any_masks, tmp_path / "masks.pt")
    assert message.startswith(f"mask file {tmp_path / 'masks.pt'}")
    assert word in message
    assert "checkpoint" not in message


@pytest.mark.parametrize("name", ["masks.safetensors", "masks.pth"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    assert f"{tmp_path / name} is missing" in refused(read_any_masks, tmp_path / name)


class Attack:
    """A pickle that makes a file when it is loaded carelessly."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


def test_code_in_a_mask_file_does_not_run(tmp_path: Path) -> None:
    torch.save({**nni(), "extra": Attack(tmp_path / "proof")}, tmp_path / "masks.pt")
    assert "system" in refused(read_any_masks, tmp_path / "masks.pt")
    assert not (tmp_path / "proof").exists()


@settings(max_examples=150)
@given(st.data())
@pytest.mark.parametrize("kind", ["nni", "plain"])
@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_are_refused_in_one_line(tmp_path_factory, kind: str, zipped: bool, data) -> None:
    """Cut off or with bytes changed: one line, or (where no checksum covers the byte) masks."""
    path = tmp_path_factory.mktemp("masks") / "masks.pt"
    content = nni() if kind == "nni" else {"conv": torch.tensor(KEEP), "meaning": "weight"}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    damaged = bytearray(path.read_bytes())
    cut = data.draw(st.booleans())
    if cut:
        damaged = damaged[: data.draw(st.integers(0, len(damaged) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 5))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        masks = read_any_masks(path)
    except CoopexportError as error:
        assert str(path) in str(error)
    else:
        assert not cut
        assert all(keep.dtype == np.bool_ and keep.any() for keep in masks.keep.values())
