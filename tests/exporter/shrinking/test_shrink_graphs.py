"""Whatever the graph, the shrunk network computes what the masks say, and a wrong plan is noticed."""

from __future__ import annotations

import copy
import operator
import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, seed, settings
from plan_mutations import mutated_plans
from random_blocks import BLOCKS
from random_graphs import Case, Recipe, graphs_with_masks, is_well_posed, make_case, spread
from recorded_networks import Program, masked_outputs
from torch import fx, nn

from exporter.masks.masked_network import masked_network
from exporter.masks.masks import Masks
from exporter.shrinking.shrink import Shrunk, shrink, shrink_parity
from exporter.shrinking.slice_modules import apply_shrink_plan
from jetson.errors import CoopexportError

PARTS, FULL_PARTS = 4, 40
EXAMPLES, FULL_EXAMPLES = 160, 20_000
MUTATED_GRAPHS, FULL_MUTATED_GRAPHS = 16, 400
BOUND, FLOAT32_BOUND = 1e-9, 1e-4
LARGEST = {"float64": 0.0, "float32": 0.0}
STAYS = re.compile(r"cannot shrink '[^']+': .* masked channels have to stay .* gives no zero")
UNCLEAR = re.compile(r"the channel mask of '([^']+)' cannot be followed: '(add|mul)(_\d+)?' behind it")


def explore(check: Callable[[Case], None], part: int, examples: int, names: Sequence[str] = ()) -> None:
    """Run `check` on random graphs, others in every part; parts run in parallel."""

    @seed(part)
    @settings(max_examples=examples, phases=(Phase.generate, Phase.shrink))
    @given(graphs_with_masks(names))
    def explore_part(case: Case) -> None:
        check(case)

    explore_part()
    print("largest errors so far", LARGEST)


def as_arrays(outputs: object) -> list[np.ndarray]:
    """Return the outputs of a network in the order of its program."""
    if isinstance(outputs, torch.Tensor):
        return [outputs.numpy()]
    values = outputs.values() if isinstance(outputs, dict) else outputs
    return [output.numpy() for output in values]


def argument(inputs: tuple[torch.Tensor, ...]) -> torch.Tensor | tuple[torch.Tensor, ...]:
    return inputs if len(inputs) > 1 else inputs[0]


def error(outputs: object, expected: Sequence[np.ndarray]) -> float:
    """Return the largest error over the outputs' spread."""
    return max(
        float(np.abs(one - other).max()) / spread(other)
        for one, other in zip(as_arrays(outputs), expected, strict=True)
    )


def in_double(case: Case, shrunk: Shrunk) -> nn.Module:
    """Return the shrunk network as it is made in float64; folding would round in float32."""
    return apply_shrink_plan(copy.deepcopy(case.network).double(), shrunk.plan)


def shrink_or_refuse(case: Case) -> Shrunk | None:
    """Return the shrunk network, or None where it is refused for one of the two reasons that there are."""
    try:
        return shrink(case.network, case.masks, argument(case.inputs()))
    except CoopexportError as refusal:
        unclear = UNCLEAR.match(str(refusal))
        assert unclear or STAYS.match(str(refusal)), refusal
        assert case.masks.meaning == "channel"
        assert unclear is None or unclear[1] in shifted_layers(case.network.program), refusal
        return None


def shifted_layers(program: Program) -> set[str]:
    """Return the layers whose end only a sum or product with a parameter reads: a batch norm's, or something else.

    A product leaves zero at zero, but not what may follow on it.
    """
    steps = {index + program.inputs: step for index, step in enumerate(program.steps)}
    found = set()
    for end, layer in program.layer_ends().items():
        reading = [step for step in steps.values() if end in step.inputs]
        if len(reading) == 1 and end not in program.outputs and reading[0].parameter:
            found |= {layer} if reading[0].function in (operator.add, operator.mul) else set()
    return found


def computes_what_its_masks_say(case: Case) -> None:
    before = {name: value.clone() for name, value in case.network.state_dict().items()}
    shrunk = shrink_or_refuse(case)
    assert all(torch.equal(value, before[name]) for name, value in case.network.state_dict().items())
    if shrunk is None:
        return
    inputs = case.inputs(fresh=True)  # others than those of the proof
    expected = case.outputs(fresh=True)
    with torch.no_grad():
        exact = in_double(case, shrunk)(*(item.double() for item in inputs))
        rounded = shrunk.network(*inputs)
    assert type(rounded) is type(case.network(*inputs))
    for dtype, outputs, bound in (("float64", exact, BOUND), ("float32", rounded, FLOAT32_BOUND)):
        LARGEST[dtype] = max(LARGEST[dtype], error(outputs, expected))
        assert error(outputs, expected) < bound
    says_what_stays(case, shrunk)


def says_what_stays(case: Case, shrunk: Shrunk) -> None:
    """Check that kept channels stay in their order, and that a masked one that stays is named with a reason."""
    stays: dict[str, set[int]] = {}
    for item in shrunk.plan.kept_although_masked:
        assert item.reason
        stays.setdefault(item.layer, set()).update(item.channels)
    sizes = {size.name: size for size in shrunk.sizes}
    for name in case.network.program.layers():
        size = sizes[name]
        plan = shrunk.plan.layers.get(name)
        kept = plan.kept_outputs if plan is not None else tuple(range(size.channels_before))
        assert list(kept) == sorted(set(kept))
        assert size.channels_after == len(kept)
        assert size.parameters_after == sum(item.numel() for item in shrunk.network.get_submodule(name).parameters())
        keep = case.masks.keep.get(name, np.ones(size.channels_before, bool))
        assert set(kept) & set(np.flatnonzero(~keep)) == stays.get(name, set()), name


@pytest.mark.parametrize("part", range(PARTS))
def test_any_graph_shrinks_to_what_its_masks_say(part: int) -> None:
    explore(computes_what_its_masks_say, part, EXAMPLES // PARTS)


@pytest.mark.full
@pytest.mark.parametrize("part", range(FULL_PARTS))
def test_any_of_many_graphs_shrinks_to_what_its_masks_say(part: int) -> None:
    explore(computes_what_its_masks_say, 100 + part, FULL_EXAMPLES // FULL_PARTS)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_alone_shrinks_to_what_its_masks_say(block: str) -> None:
    cases = (
        make_case(Recipe(((block, number),), number, meaning))
        for number, meaning in enumerate(("channel", "weight", "channel"))
    )
    posed = [case for case in cases if is_well_posed(case)]
    assert posed
    for case in posed:
        computes_what_its_masks_say(case)


def notices_wrong_plans(case: Case) -> None:
    shrunk = shrink_or_refuse(case)
    if shrunk is None:
        return
    inputs, expected = case.inputs(), case.outputs()
    masked = masked_network(copy.deepcopy(case.network), case.masks, argument(inputs))
    for plan in mutated_plans(shrunk.plan, 3, case.recipe.seed):
        try:
            wrong = apply_shrink_plan(copy.deepcopy(case.network).double(), plan)
            with torch.no_grad():
                outputs = wrong(*(item.double() for item in inputs))
        except (CoopexportError, RuntimeError):
            continue
        if error(outputs, expected) < BOUND:
            continue  # the channel is dead: the same function
        with pytest.raises(CoopexportError, match="parity check 'shrink'"):
            shrink_parity(masked, apply_shrink_plan(case.network, plan), argument(inputs), shrunk_in_double=wrong)


def test_a_plan_with_a_shifted_index_is_noticed() -> None:
    explore(notices_wrong_plans, 0, MUTATED_GRAPHS)


@pytest.mark.full
@pytest.mark.parametrize("part", range(10))
def test_a_plan_with_a_shifted_index_is_noticed_in_many_graphs(part: int) -> None:
    explore(notices_wrong_plans, 200 + part, FULL_MUTATED_GRAPHS // 10)


def test_much_of_what_is_masked_is_gone() -> None:
    """A shrinker that keeps everything would pass every other test here."""
    sizes = []

    def collect(case: Case) -> None:
        shrunk = shrink_or_refuse(case)
        sizes.extend(shrunk.sizes if shrunk is not None else ())

    explore(collect, 1, 20, ("plain", "residual", "grouped", "shuffle_v2", "inverted", "dense"))
    before, after = sum(size.parameters_before for size in sizes), sum(size.parameters_after for size in sizes)
    assert after < 0.8 * before


def test_the_graphs_are_what_they_claim_to_be() -> None:
    """The program without masks is the network, traced or not."""

    def is_the_network(case: Case) -> None:
        inputs = case.inputs()
        with torch.no_grad():
            outputs = as_arrays(case.network(*inputs))
            traced = as_arrays(fx.symbolic_trace(case.network)(*inputs))
            exact = as_arrays(copy.deepcopy(case.network).double()(*(item.double() for item in inputs)))
        everything = Masks({name: np.ones_like(keep) for name, keep in case.masks.keep.items()}, case.masks.meaning)
        expected = masked_outputs(case.network, everything, inputs)
        assert all(np.array_equal(one, other) for one, other in zip(outputs, traced, strict=True))
        assert all(np.allclose(one, other, rtol=1e-12) for one, other in zip(exact, expected, strict=True))

    explore(is_the_network, 2, 20)
