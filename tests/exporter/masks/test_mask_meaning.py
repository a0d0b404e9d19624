"""A mask of meaning `channel` applies where docs/formats.md says, whatever forward() calls its norm and activation.

The reference shares no reading of the network: in the user's own network, hooks make channels zero behind the modules
that the case names. What cannot be told is refused by the names of layer and operation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from small_networks import images, seeded
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from exporter.masks.masked_network import masked_network
from exporter.masks.masks import Masks
from exporter.shrinking.shrink import shrink
from jetson.errors import CoopexportError

SHAPE = (3, 7, 6)
KEEP = np.array([True, False, True, True, False, False, True, False])
BOUND = 1e-5
STAYS = r"cannot shrink 'conv': 4 of its masked channels have to stay"


class Net(nn.Module):
    """A convolution with `norm` and `act`, modules or functions, read by a convolution, a pool and a classifier."""

    def __init__(self, norm: nn.Module | Callable, act: nn.Module | Callable) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 8, 3), norm, act
        self.read, self.fc = nn.Conv2d(8, 6, 1), nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.read(self.act(self.norm(self.conv(x))))).mean((2, 3)))


class Statistics(nn.Module):
    """Mean, variance, scale and shift of eight channels, under the names that batch norms have."""

    def __init__(self, learned: bool = True) -> None:
        super().__init__()
        for name, low, high in (("weight", 0.5, 1.5), ("bias", 0.1, 0.6)):
            values = torch.empty(8).uniform_(low, high)
            self.register_parameter(name, nn.Parameter(values)) if learned else self.register_buffer(name, values)
        self.register_buffer("running_mean", torch.randn(8) * 0.2)
        self.register_buffer("running_var", torch.rand(8) + 0.2)

    def normalised(self, x: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, 1e-5)


class FunctionalNorm(Statistics):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.normalised(x)


class FunctionalNormAct(Statistics):
    """What in-place activated batch norms are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.elu(self.normalised(x))


class Frozen(Statistics):
    def __init__(self) -> None:
        super().__init__(learned=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.weight.reshape(1, -1, 1, 1) * (self.running_var.reshape(1, -1, 1, 1) + 1e-5).rsqrt()
        return x * scale + (self.bias.reshape(1, -1, 1, 1) - self.running_mean.reshape(1, -1, 1, 1) * scale)


class ByStatistics(Statistics):
    """A frozen batch norm in one line, its statistics subtracted and divided by."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, var, weight, bias = (
            item[None, :, None, None] for item in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        return torch.addcmul(bias, weight, (x - mean) / (var + 1e-5).sqrt())


class NormAct(nn.BatchNorm2d):
    """timm's BatchNormAct2d."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )
        return functional.sigmoid(x)


class NormBySuper(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not isinstance(x, torch.Tensor):  # of a proxy that is not true
            return x
        return functional.leaky_relu(super().forward(x), 0.1)


class NormByHand(nn.BatchNorm2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = self.weight / (self.running_var + self.eps).sqrt()
        return x * scale[:, None, None] + (self.bias - self.running_mean * scale)[:, None, None]


class LayerNorm2d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(8, 1, 1)), nn.Parameter(torch.rand(8, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(1, keepdim=True)
        return (x - mean) / ((x - mean).square().mean(1, keepdim=True) + 1e-6).sqrt() * self.weight + self.bias


class Shifted(nn.Module):
    def __init__(self, factor: float, shift: float) -> None:
        super().__init__()
        self.factor, self.shift = factor, shift

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor + self.shift


class Own(nn.Module):
    """An activation of one's own, given as a function."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.drop = nn.Sequential(Own(lambda x: functional.relu6(x + 3.0)), nn.Dropout()), nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.inner(x)) / 6


class ShiftedPReLU(nn.Module):
    """ReActNet's activation, with a shift for each channel before and behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Parameter(torch.rand(8, 1, 1)), nn.Parameter(torch.rand(8, 1, 1))
        self.prelu = nn.PReLU(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.prelu(x - self.before) + self.after


class FunctionalPReLU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.rand(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.prelu(x, self.slope)


class Statement(nn.Module):
    """Writes into what it is given, and hands that on."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.sigmoid_()
        return x


class Repeated(nn.Module):
    """Applies one and the same h-sigmoid twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Own(lambda x: functional.relu6(x + 3) / 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(self.inner(x))


class AsksForSizes(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.size(1)
        return torch.sigmoid(x).view(x.shape[0], channels, x.size(2), x.size(3))


def hooked(module: nn.Module) -> nn.Module:
    module.register_forward_hook(lambda _, given, made: made * 2)
    return module


def parametrised() -> nn.Module:
    class Doubled(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    module = nn.BatchNorm2d(8)
    parametrize.register_parametrization(module, "weight", Doubled())
    return module


def same(x: torch.Tensor) -> torch.Tensor:
    return x


def softplus(x: torch.Tensor) -> torch.Tensor:
    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))


class Case(NamedTuple):
    """A norm, an activation, and the module of Net behind which masked channels are zero."""

    norm: Callable[[], nn.Module | Callable]
    act: Callable[[], nn.Module | Callable]
    ends: str


FOLLOWED = {
    "nn.BatchNorm2d": Case(lambda: nn.BatchNorm2d(8), lambda: same, "norm"),
    "nn.BatchNorm2d, nn.Sigmoid": Case(lambda: nn.BatchNorm2d(8), nn.Sigmoid, "act"),
    "activation in a subclass": Case(lambda: NormAct(8), lambda: same, "norm"),
    "subclass that calls its base": Case(lambda: NormBySuper(8), nn.Sigmoid, "act"),
    "subclass by hand, function behind it": Case(lambda: NormByHand(8), lambda: functional.relu, "norm"),
    "subclass, sigmoid as a function": Case(lambda: NormByHand(8), lambda: Own(torch.sigmoid), "act"),
    "subclass behind a pool": Case(lambda: nn.Sequential(nn.MaxPool2d(2, 1), NormAct(8)), lambda: same, "norm"),
    "functional.batch_norm": Case(FunctionalNorm, nn.Sigmoid, "act"),
    "functional.batch_norm alone": Case(FunctionalNorm, lambda: same, "norm"),
    "activated batch norm": Case(FunctionalNormAct, lambda: same, "norm"),
    "batch norm with a hook": Case(lambda: hooked(nn.BatchNorm2d(8)), nn.Sigmoid, "act"),
    "batch norm with a parametrisation": Case(parametrised, nn.Sigmoid, "act"),
    "activation with a hook": Case(lambda: nn.BatchNorm2d(8), lambda: hooked(nn.Sigmoid()), "act"),
    "pool with a hook": Case(lambda: hooked(nn.AvgPool2d(2)), lambda: NormAct(8), "act"),
    "batch norm behind another type": Case(lambda: Own(lambda x: x.to(x.dtype)), lambda: nn.BatchNorm2d(8), "act"),
    "h-sigmoid": Case(lambda: nn.BatchNorm2d(8), lambda: Own(lambda x: functional.relu6(x + 3) / 6), "act"),
    "h-sigmoid without batch norm": Case(lambda: same, lambda: Own(lambda x: functional.relu6(x + 3) / 6), "act"),
    "h-sigmoid that begins with a clamp": Case(lambda: same, lambda: Own(lambda x: x.clamp(-3, 3) / 6 + 0.5), "act"),
    "h-sigmoid that ends with a clamp": Case(lambda: same, lambda: Own(lambda x: (x / 6 + 0.5).clamp(0, 1)), "act"),
    "h-sigmoid in parts": Case(lambda: same, Nested, "act"),
    "h-sigmoid before batch norm": Case(lambda: Own(lambda x: functional.relu6(x + 3) / 6), lambda: NormAct(8), "act"),
    "h-swish before batch norm": Case(
        lambda: Own(lambda x: x * functional.relu6(x + 3) / 6), lambda: nn.BatchNorm2d(8), "act"
    ),
    "softplus, read twice": Case(lambda: nn.BatchNorm2d(8), lambda: Own(softplus), "act"),
    "sigmoid by exp": Case(lambda: nn.BatchNorm2d(8), lambda: Own(lambda x: 1 / (1 + torch.exp(-x))), "act"),
    "sigmoid by tanh": Case(lambda: nn.BatchNorm2d(8), lambda: Own(lambda x: 0.5 * (torch.tanh(x / 2) + 1)), "act"),
    "power": Case(lambda: nn.BatchNorm2d(8), lambda: Own(lambda x: 2.0**x), "act"),
    "one operation of PyTorch's": Case(lambda: same, lambda: Own(torch.special.ndtr), "act"),
    "cosine": Case(lambda: nn.BatchNorm2d(8), lambda: Own(torch.cos), "act"),
    "swish": Case(lambda: nn.BatchNorm2d(8), lambda: Own(lambda x: x * torch.sigmoid(1.7 * x)), "act"),
    "functional.prelu": Case(lambda: nn.BatchNorm2d(8), FunctionalPReLU, "act"),
    "statement in place": Case(lambda: nn.BatchNorm2d(8), Statement, "act"),
    "sizes asked for": Case(lambda: nn.BatchNorm2d(8), AsksForSizes, "act"),
    "called again": Case(lambda: nn.BatchNorm2d(8), lambda: Repeated(), "act"),
    "scale, then activation": Case(lambda: Shifted(0.5, 0.0), lambda: nn.ReLU(), "act"),
    # Norms of the sample's own statistics are not part of the layer.
    "nn.GroupNorm": Case(lambda: nn.GroupNorm(4, 8), nn.ELU, "conv"),
    "nn.InstanceNorm2d": Case(lambda: nn.InstanceNorm2d(8, affine=True), nn.Sigmoid, "conv"),
    "functional.group_norm": Case(lambda: Own(lambda x: functional.group_norm(x, 2)), nn.Sigmoid, "conv"),
    "LayerNorm2d by hand": Case(LayerNorm2d, nn.Sigmoid, "conv"),
}  # fmt: skip
REFUSED = {
    "frozen batch norm": (Frozen, nn.ReLU, "'norm' (Frozen)"),
    "batch norm by hand": (ByStatistics, nn.ReLU, "'norm' (ByStatistics)"),
    "frozen batch norm alone": (Frozen, lambda: same, "'norm' (Frozen)"),
    "frozen behind a pool": (lambda: nn.MaxPool2d(2), Frozen, "'act' (Frozen)"),
    "frozen behind batch norm": (lambda: nn.BatchNorm2d(8), Frozen, "'act' (Frozen)"),
    "instance norm with running statistics": (
        lambda: nn.InstanceNorm2d(8, affine=True, track_running_stats=True), nn.ReLU, "'norm' (InstanceNorm2d)"
    ),
    "scale and shift": (lambda: Shifted(2.0, -1.0), nn.ReLU, "'norm' (Shifted)"),
    "scale, then batch norm": (lambda: Shifted(2.0, 0.0), lambda: nn.BatchNorm2d(8), "'norm' (Shifted)"),
    "h-sigmoid in forward()": (lambda: nn.BatchNorm2d(8), lambda: lambda x: functional.relu6(x + 3) / 6, "'add'"),
    "softplus in forward()": (lambda: nn.BatchNorm2d(8), lambda: softplus, "'clamp'"),
    "shift of the same form": (
        lambda: nn.BatchNorm2d(8), lambda: Own(lambda x: x + torch.full_like(x, 0.5)), "'act' (Own)"
    ),
    "shift of the same type": (lambda: same, lambda: Own(lambda x: x + x.new_full((1,), 0.5)), "'act' (Own)"),
    "shifted PReLU": (lambda: nn.BatchNorm2d(8), ShiftedPReLU, "'act' (ShiftedPReLU)"),
    "softmax": (lambda: nn.BatchNorm2d(8), lambda: nn.Softmax(1), "'act' (Softmax)"),
    "softmax as a function": (lambda: same, lambda: lambda x: functional.softmax(x, 1), "'softmax'"),
    "softmax as a method": (lambda: same, lambda: lambda x: x.softmax(-1), "'softmax'"),
}  # fmt: skip


def settled(case_norm: Callable, case_act: Callable) -> Net:
    network = seeded(lambda: Net(case_norm(), case_act()))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.modules.batchnorm._NormBase, nn.GroupNorm)) and module.weight is not None:
                module.bias.uniform_(0.1, 0.6, generator=generator)
                if getattr(module, "running_mean", None) is not None:
                    module.running_mean.normal_(0, 0.2, generator=generator)
                    module.running_var.uniform_(0.2, 1, generator=generator)
    return network.eval()


def zero_behind(network: Net, module: str) -> nn.Module:
    """Return a copy of the network whose masked channels a hook makes zero behind `module`."""
    reference = copy.deepcopy(network)
    keep = torch.from_numpy(KEEP).reshape(1, 8, 1, 1)
    reference.get_submodule(module).register_forward_hook(lambda _, given, made: made * keep.to(made.dtype))
    return reference


def error(network: nn.Module, reference: nn.Module, inputs: torch.Tensor) -> float:
    """Return the largest difference over the outputs' spread."""
    with torch.no_grad():
        made, wanted = network(inputs.clone()), reference(inputs.clone())
    return float((made - wanted).abs().max() / np.ptp(wanted.numpy(), axis=0).max())


@pytest.mark.parametrize("name", FOLLOWED)
def test_a_channel_is_zero_where_the_page_says(name: str) -> None:
    case, masks = FOLLOWED[name], Masks({"conv": KEEP}, "channel")
    network = settled(case.norm, case.act)
    reference, fresh = zero_behind(network, case.ends), images(SHAPE, seed=5)
    assert error(masked_network(copy.deepcopy(network), masks, images(SHAPE)), reference, fresh) < BOUND
    shrunk = shrink(network, masks, images(SHAPE))
    assert shrunk.parity[0].error < 1e-9
    assert error(shrunk.network, reference, fresh) < BOUND


class Gate(nn.Module):
    """A masked gate on channels that another layer reads too, so that all of it has to stay."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.stem, self.conv, self.act = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), act
        self.fc = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        return self.fc((x * self.act(self.conv(x))).square().mean((2, 3)) + x.mean((2, 3)))


@pytest.mark.parametrize(
    "act",
    [
        nn.Hardsigmoid,
        lambda: Own(lambda x: functional.relu6(x + 3) / 6),
        lambda: NormAct(8),
        lambda: hooked(nn.Sigmoid()),
        lambda: Own(torch.sigmoid),
        lambda: nn.Sequential(NormByHand(8), nn.ReLU()),
    ],
)
def test_a_gate_that_stays_is_zero_behind_its_activation(act: Callable[[], nn.Module]) -> None:
    network = seeded(lambda: Gate(act())).eval()
    reference, fresh = zero_behind(network, "act"), images(SHAPE, seed=5)
    assert error(zero_behind(network, "conv"), reference, fresh) > 0.01 or isinstance(network.act, nn.Sequential)
    shrunk = shrink(network, Masks({"conv": KEEP}, "channel"), images(SHAPE))
    assert error(shrunk.network, reference, fresh) < BOUND
    assert shrunk.network.conv.out_channels == 8


def test_a_batch_norm_whose_activation_is_in_place_leaves_what_it_reads_alone() -> None:
    class InPlace(nn.BatchNorm2d):
        inplace = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.relu(super().forward(x), inplace=self.inplace)

    class ReadTwice(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x)
            y = self.norm(x)
            return self.fc(torch.relu(self.read(y) + self.read(x)).mean((2, 3)))

    network = seeded(lambda: ReadTwice(InPlace(8), same)).eval()
    reference, fresh = zero_behind(network, "conv"), images(SHAPE, seed=5)
    assert error(masked_network(network, Masks({"conv": KEEP}, "channel"), images(SHAPE)), reference, fresh) < BOUND


def test_an_activation_that_serves_twice_is_not_silenced_for_one_of_them() -> None:
    class Twice(Gate):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.act(self.stem(x))
            return self.fc((x * self.act(self.conv(x))).square().mean((2, 3)) + x.mean((2, 3)))

    network = seeded(lambda: Twice(Own(lambda x: functional.relu6(x + 3) / 6))).eval()
    with pytest.raises(CoopexportError, match=STAYS):
        shrink(network, Masks({"conv": KEEP}, "channel"), images(SHAPE))


def test_the_cases_tell_the_places_apart() -> None:
    """Where every place gave the same, the cases above would show nothing."""
    apart = 0
    for case in FOLLOWED.values():
        network = settled(case.norm, case.act)
        places = [item for item in ("conv", "norm", "act") if isinstance(getattr(network, item), nn.Module)]
        reference = zero_behind(network, case.ends)
        apart += any(error(zero_behind(network, item), reference, images(SHAPE)) > 0.1 for item in places)
    assert apart > 0.8 * len(FOLLOWED)


@pytest.mark.parametrize("name", REFUSED)
def test_an_end_that_cannot_be_told_is_refused_by_names(name: str) -> None:
    norm, act, operation = REFUSED[name]
    network = settled(norm, act)
    for refused in (masked_network, shrink):
        with pytest.raises(CoopexportError) as caught:
            refused(network, Masks({"conv": KEEP}, "channel"), images(SHAPE))
        assert str(caught.value).startswith(f"the channel mask of 'conv' cannot be followed: {operation} behind it")
    everything = Masks({"conv": np.ones(8, bool), "read": np.arange(6) > 2}, "channel")
    assert error(masked_network(copy.deepcopy(network), everything, images(SHAPE)), network, images(SHAPE)) > 0.01
    by_weight = Masks({"conv": KEEP}, "weight")
    reference = copy.deepcopy(network)
    with torch.no_grad():
        reference.conv.weight[~torch.from_numpy(KEEP)] = 0
        reference.conv.bias[~torch.from_numpy(KEEP)] = 0
    assert error(shrink(network, by_weight, images(SHAPE)).network, reference, images(SHAPE, seed=5)) < BOUND
