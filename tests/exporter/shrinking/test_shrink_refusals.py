"""What cannot be shrunk is refused by name."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from small_networks import Functional, images, seeded
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

from exporter.masks.masks import Masks
from exporter.shrinking.shrink import shrink
from jetson.errors import CoopexportError

HALF = np.array([True, False, True, False])
INPUT_SHAPE = (3, 9, 8)


class DependsOnData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) if x.sum() > 0 else x


class Misread(nn.Module):
    """What torch.fx reads otherwise than Python runs it, without noticing."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.fc, self.how = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x))
        if self.how == "type" and isinstance(x, torch.Tensor):
            x = x - x.amax((2, 3), keepdim=True)
        if self.how == "second name":
            y = x
            y += 1.0
        return self.fc(x.square().mean((2, 3)))


def pruned_by_hook() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 6, 5))
    prune.ln_structured(network[0], "weight", 0.5, 2, 0)
    return network


REFUSED_NETWORKS = [
    (DependsOnData, "fc", (4,), ["cannot be traced"]),
    (lambda: Misread("type"), "conv", INPUT_SHAPE, ["cannot be traced", "other outputs than forward", "isinstance"]),
    (lambda: Misread("second name"), "conv", INPUT_SHAPE, ["cannot be traced", r"x \+= y"]),
    (pruned_by_hook, "0", INPUT_SHAPE, ["'0'", "hook", "prune.remove"]),
    (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()),
        "0", INPUT_SHAPE, ["'1'", "running statistics"],
    ),
    (
        lambda: Functional(lambda x: functional.dropout(torch.flatten(x, 1))), "conv", INPUT_SHAPE,
        ["'dropout'", "self.training"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "layer", "shape", "words"), REFUSED_NETWORKS)
def test_networks_without_one_function_are_refused_by_name(make, layer: str, shape: tuple[int, ...], words) -> None:
    with pytest.raises(CoopexportError) as caught:
        shrink(seeded(make).eval(), Masks({layer: HALF}, "channel"), images(shape))
    for word in words:
        assert re.search(word, str(caught.value)), str(caught.value)


def test_a_network_of_one_precision_is_refused_for_that_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """torch.fx prints what fails in a traced network, with a traceback, before it raises."""

    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.weight = nn.Conv2d(3, 4, 3), nn.Parameter(torch.rand(4, 5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.mm(torch.relu(self.conv(x)).mean((2, 3)).to(torch.float32), self.weight)

    with pytest.raises(CoopexportError, match=r"does not run in float64, in which equality is proven .*\.float\(\)"):
        shrink(seeded(Single).eval(), Masks({"conv": HALF}, "channel"), images(INPUT_SHAPE))
    assert (*capfd.readouterr(),) == ("", "")


def test_weights_that_are_not_numbers_are_refused_by_name() -> None:
    network = chain()
    with torch.no_grad():
        network[0].weight[1, 0, 0, 0] = float("nan")
    with pytest.raises(CoopexportError, match=r"'0.weight'.*NaN"):
        shrink(network, Masks({"0": HALF}, "channel"), images(INPUT_SHAPE))


def chain() -> nn.Sequential:
    return seeded(
        nn.Sequential,
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(168, 6),
        nn.Linear(6, 5),
    ).eval()


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ({"0": np.zeros(4, bool)}, ["'0'", "every channel"]),
        ({"5": np.arange(5) > 0}, ["'5'", "outputs of the network"]),
        ({"0": np.arange(3) > 0}, ["'0'", "3 entries", "4 output channels"]),
        ({"conv": HALF}, ["'conv'", "0, 4, 5"]),
        ({"1": HALF}, ["'1'", "not a convolution or linear"]),
    ],
)
@pytest.mark.parametrize("meaning", ["channel", "weight"])
def test_masks_that_do_not_fit_are_refused_by_name(keep, words: list[str], meaning: str) -> None:
    with pytest.raises(CoopexportError) as caught:
        shrink(chain(), Masks(keep, meaning), images(INPUT_SHAPE))
    for word in words:
        assert word in str(caught.value)


def test_training_mode_is_refused_even_of_one_module() -> None:
    network = chain()
    network[1].train()
    with pytest.raises(CoopexportError, match="training mode"):
        shrink(network, Masks({"0": HALF}, "channel"), images(INPUT_SHAPE))


def test_inputs_of_another_shape_are_refused_with_their_shape() -> None:
    with pytest.raises(CoopexportError, match=r"\(3, 5, 5\).*model.input_shape"):
        shrink(chain(), Masks({"0": HALF}, "channel"), images((3, 5, 5)))


@pytest.mark.parametrize("inputs", [torch.zeros(8, *INPUT_SHAPE), images(INPUT_SHAPE, count=1)])
def test_outputs_that_do_not_vary_prove_nothing(inputs: torch.Tensor) -> None:
    with pytest.raises(CoopexportError, match="vary by only"):
        shrink(chain(), Masks({"0": HALF}, "channel"), inputs)
