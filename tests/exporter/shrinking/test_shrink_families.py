"""Networks of every usual family shrink to what their masks say, reload, export, and tell a wrong plan."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from network_families import FAMILIES, FULL_FAMILIES, Family, random_masks, settle_masked
from plan_mutations import mutated_plans
from safetensors.torch import save
from torch import nn

from exporter.layers.export import export
from exporter.masks.masked_network import masked_network
from exporter.masks.masks import Masks
from exporter.onnx_graphs.session import open_session, run
from exporter.shrinking.plan import WEIGHTS_FILE, ShrinkFile, write_shrink_plan
from exporter.shrinking.rebuild import rebuild
from exporter.shrinking.shrink import Shrunk, shrink, shrink_parity
from exporter.shrinking.slice_modules import apply_shrink_plan
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes

MEANINGS = ("channel", "weight")
BOUND, FLOAT32_BOUND, EXPORT_BOUND = 1e-9, 1e-5, 1e-4


class Made(NamedTuple):
    """A settled network of a family, its masks, the masked reference and what shrinking gave."""

    network: nn.Module
    masks: Masks
    masked: nn.Module
    shrunk: Shrunk


def argument(inputs: tuple[torch.Tensor, ...]) -> torch.Tensor | tuple[torch.Tensor, ...]:
    return inputs if len(inputs) > 1 else inputs[0]


def make(family: Family, meaning: str, samples: int = 8) -> Made:
    network = family.build()
    masks = random_masks(network, meaning, seed=len(family.name))
    settle_masked(network, masks, family.inputs(2 * samples, seed=0))
    inputs = argument(family.inputs(samples))
    shrunk = shrink(network, masks, inputs)
    return Made(network, masks, masked_network(copy.deepcopy(network), masks, inputs), shrunk)


@cache
def made(name: str, meaning: str) -> Made:
    return make(family_of(name), meaning)


def family_of(name: str) -> Family:
    return next(family for family in FAMILIES if family.name == name)


def outputs_of(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    """Return the outputs as a list, computed in the inputs' dtype."""
    with torch.no_grad():
        outputs = copy.deepcopy(network).to(inputs[0].dtype)(*inputs)
    return [item.numpy() for item in ((outputs,) if isinstance(outputs, torch.Tensor) else outputs)]


def error(outputs: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Return the largest error over the outputs' spread, which must not be small."""
    errors = []
    for one, other in zip(outputs, expected, strict=True):
        spread = float(np.ptp(other, axis=0).max())
        assert spread > 0.01 * float(np.abs(other).max())
        errors.append(float(np.abs(one - other).max()) / spread)
    return max(errors)


def doubled(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(item.double() for item in inputs)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def check_shrinks(case: Made, inputs: tuple[torch.Tensor, ...], *, deep: bool = False) -> None:
    """Compare masked and shrunk network on inputs that the proof has not seen.

    `deep`: a network of full size, whose untrained weights alone may lose more to float32 than the bound.
    """
    exact = apply_shrink_plan(copy.deepcopy(case.network).double(), case.shrunk.plan)
    expected = outputs_of(case.masked, doubled(inputs))
    assert error(outputs_of(exact, doubled(inputs)), expected) < BOUND
    own = error(outputs_of(case.masked, inputs), expected) if deep else 0.0
    assert error(outputs_of(case.shrunk.network, inputs), expected) < max(FLOAT32_BOUND, 3 * own)
    left = 0.75 if case.masks.meaning == "channel" else 0.9
    assert parameters(case.shrunk.network) < left * parameters(case.network)


every_family = pytest.mark.parametrize("name", [family.name for family in FAMILIES])


@every_family
@pytest.mark.parametrize("meaning", MEANINGS)
def test_a_family_shrinks_to_what_its_masks_say(name: str, meaning: str) -> None:
    check_shrinks(made(name, meaning), family_of(name).inputs(8, seed=2))


@every_family
def test_a_family_is_rebuilt_from_its_files(name: str, tmp_path: Path) -> None:
    shrunk = made(name, "channel").shrunk
    weights = save({key: value.clone().contiguous() for key, value in shrunk.network.state_dict().items()})
    file = ShrinkFile(
        **shrunk.plan.model_dump(),
        factory=f"network_families:{name}",
        arguments={},
        made_from={"checkpoint": "c" * 64, "masks": "d" * 64},
        weights=WEIGHTS_FILE,
        weights_sha256=sha256_of_bytes(weights),
        parity=tuple(check.to_json() for check in shrunk.parity),
    )
    write_shrink_plan(tmp_path, file, weights)
    rebuilt = rebuild(tmp_path, Path(__file__).parents[1])
    inputs = family_of(name).inputs(3, seed=3)
    pairs = zip(outputs_of(rebuilt, inputs), outputs_of(shrunk.network, inputs), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


@every_family
def test_a_shrunk_family_exports_to_what_the_masked_one_computes(name: str) -> None:
    case = made(name, "channel")
    inputs = family_of(name).inputs(4, seed=4)
    graph = export(case.shrunk.network, argument(inputs))
    outputs = run(open_session(graph.model, "disabled"), [item.numpy() for item in inputs])
    assert error(outputs, outputs_of(case.masked, doubled(inputs))) < EXPORT_BOUND


@every_family
def test_a_plan_with_a_shifted_index_is_noticed_in_a_family(name: str) -> None:
    """Where the index is that of a channel which is zero all the same, nothing changes, and another is taken."""
    case, inputs = made(name, "channel"), family_of(name).inputs(8)
    expected = outputs_of(case.masked, doubled(inputs))
    noticed = 0
    for plan in mutated_plans(case.shrunk.plan, 12, seed=len(name)):
        try:
            wrong = apply_shrink_plan(copy.deepcopy(case.network).double(), plan)
        except CoopexportError as refusal:
            assert "the shrink plan does not fit" in str(refusal)
            continue
        if error(outputs_of(wrong, doubled(inputs)), expected) < BOUND:
            continue
        with pytest.raises(CoopexportError, match="parity check 'shrink'"):
            shrink_parity(case.masked, case.shrunk.network, argument(inputs), shrunk_in_double=wrong)
        noticed += 1
        if noticed == 3:
            return
    raise AssertionError(f"only {noticed} plans changed anything")


@pytest.mark.full
@pytest.mark.parametrize("meaning", MEANINGS)
@pytest.mark.parametrize("family", FULL_FAMILIES, ids=lambda family: family.name)
def test_a_published_network_shrinks_to_what_its_masks_say(family: Family, meaning: str) -> None:
    check_shrinks(make(family, meaning, samples=3), family.inputs(3, seed=2), deep=True)
