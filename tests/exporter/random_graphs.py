"""Random small CNNs with masks, whose outputs depend on their inputs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from graph_builder import Builder
from hypothesis import assume
from hypothesis import strategies as st
from random_blocks import BLOCKS, head
from recorded_networks import Recorded, masked_outputs, masking, zero_rows
from torch import nn

from exporter.masks.masks import Masks

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d)


@dataclass(frozen=True)
class Recipe:
    """All that a graph is made from; every block has a seed of its own, so that fewer blocks are still the same."""

    blocks: tuple[tuple[str, int], ...]
    seed: int
    meaning: str


@dataclass(frozen=True)
class Case:
    """A network in eval mode with masks; `make_case(recipe)` makes it again."""

    recipe: Recipe
    network: Recorded
    masks: Masks

    def __repr__(self) -> str:
        return f"make_case({self.recipe})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # hypothesis would print every module otherwise

    @cached_property
    def all_inputs(self) -> tuple[torch.Tensor, ...]:
        generator = torch.Generator().manual_seed(1)
        return tuple(torch.randn((16, *shape), generator=generator) for shape in self.network.input_shapes)

    @cached_property
    def all_outputs(self) -> list[np.ndarray]:
        return masked_outputs(self.network, self.masks, self.all_inputs)

    def inputs(self, fresh: bool = False) -> tuple[torch.Tensor, ...]:
        """Return eight random inputs for the network; `fresh` ones are others."""
        return tuple(item[8:] if fresh else item[:8] for item in self.all_inputs)

    def outputs(self, fresh: bool = False) -> list[np.ndarray]:
        """Return what the network makes of them under its masks, in float64."""
        return [item[8:] if fresh else item[:8] for item in self.all_outputs]


def settle(network: Recorded, masks: Masks, seed: int) -> None:
    """Draw gamma and beta of every norm and let the running statistics be those of random data under the masks."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, NORMS) and module.weight is not None:
            module.weight.data = 0.5 + torch.rand(module.weight.shape, generator=generator)
            module.bias.data = torch.rand(module.bias.shape, generator=generator) - 0.5
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.reset_running_stats()
            module.momentum = None
    masked = network
    if masks.meaning == "weight":
        masked = copy.deepcopy(network)
        zero_rows(masked, masks)
    masked.train()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # dropout draws
        inputs = [torch.randn((24, *shape), generator=generator) for shape in network.input_shapes]
        masked.run(inputs, masking(masked, masks))
        for own, moved in zip(network.buffers(), masked.buffers(), strict=True):
            own.copy_(moved)
    network.eval()


def random_keep(random: np.random.Generator, width: int) -> np.ndarray:
    """Return a mask that keeps about half of the channels, and at least one."""
    keep = random.permutation(width) < max(1, round(width * random.choice([0.3, 0.5, 0.5, 0.7])))
    return np.asarray(keep, dtype=np.bool_)


def spread(outputs: np.ndarray) -> float:
    """Return the largest range of any one output over the samples."""
    return float(np.ptp(outputs, axis=0).max())


def is_well_posed(case: Case) -> bool:
    """Tell whether every output varies with the inputs, by more than float32 rounds: else it shows nothing."""
    rounded = masked_outputs(case.network, case.masks, case.all_inputs, torch.float32)
    return all(
        bool(np.isfinite(exact).all())
        and spread(half) > 2e-4 * float(np.abs(half).max())
        and float(np.abs(exact - other).max()) < 1e-5 * spread(half)
        for exact, other in zip(case.all_outputs, rounded, strict=True)
        for half in (exact[:8], exact[8:])
    )


def make_case(recipe: Recipe) -> Case:
    """Build the network of a recipe, draw its masks, settle it."""
    random = np.random.default_rng(recipe.seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(recipe.seed)
        two = any(name == "second_input" for name, _ in recipe.blocks)
        builder = Builder(random, two)
        value, keep_seeds = (0 if builder.chance(4) else BLOCKS["plain"](builder, 0)), {}
        for number, (name, seed) in enumerate(recipe.blocks, 1):
            torch.manual_seed(seed)
            builder.begin(f"block{number}", np.random.default_rng(seed))
            value = BLOCKS[name](builder, builder.bounded(value))
            keep_seeds[f"block{number}"] = seed
        torch.manual_seed(recipe.seed)
        builder.begin("head", random)
        network = builder.finish(head(builder, value, 4))
    randoms: dict[str, np.random.Generator] = {}
    keep = {}
    for layer in network.program.layers():
        block = layer.split(".")[0]
        random = randoms.setdefault(block, np.random.default_rng([keep_seeds.get(block, recipe.seed), 1]))
        mask = random_keep(random, _width(network.get_submodule(layer)))
        if random.integers(3) and layer not in network.program.output_layers():
            keep[layer] = mask
    masks = Masks(keep, recipe.meaning)
    settle(network, masks, recipe.seed)
    return Case(recipe, network, masks)


def _width(layer: nn.Module) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)


@st.composite
def recipes(draw: st.DrawFn, names: Sequence[str] = ()) -> Recipe:
    """Draw what a graph is made from: two to six blocks of the names given, or of all."""
    block = st.tuples(st.sampled_from(list(names or BLOCKS)), st.integers(0, 2**16))
    blocks = tuple(draw(st.lists(block, min_size=1, max_size=6)))
    return Recipe(blocks, draw(st.integers(0, 2**16)), draw(st.sampled_from(["channel", "weight"])))


@st.composite
def graphs_with_masks(draw: st.DrawFn, names: Sequence[str] = ()) -> Case:
    """Draw a network with masks whose outputs can show an error."""
    case = make_case(draw(recipes(names)))
    assume(is_well_posed(case))
    return case
