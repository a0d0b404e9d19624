"""What is said to be a constant is one: checked by running the module on that constant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import images, seeded
from torch import nn
from torch.nn import functional

from exporter.channel_flow import carry_constants, run_network, trace_chain
from jetson.errors import CoopexportError

SHAPE = (4, 6, 6)


def drawn_norm(affine: bool) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(4, affine=affine)
    norm.running_mean.copy_(torch.randn(4))
    norm.running_var.copy_(torch.rand(4) + 0.1)
    if affine:
        norm.weight.data, norm.bias.data = torch.randn(4), torch.randn(4)
    return norm


class Call(nn.Module):
    """A function as a module, so that it is traced as the function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


STEPS = [
    lambda: drawn_norm(True),
    lambda: drawn_norm(False),
    *[lambda kind=kind: kind() for kind in (nn.ReLU, nn.Sigmoid, nn.Softplus, nn.Hardswish, nn.Mish, nn.SELU, nn.GELU)],
    lambda: nn.PReLU(4),
    lambda: nn.Hardtanh(0.5, 2.0),
    lambda: nn.MaxPool2d(3, 2, padding=1),
    lambda: nn.AvgPool2d(2),
    lambda: nn.AvgPool2d(3, 1, padding=1),
    lambda: nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
    lambda: nn.AvgPool2d(2, divisor_override=3),
    lambda: nn.AvgPool2d(4, 3, ceil_mode=True),
    lambda: nn.AdaptiveAvgPool2d(4),
    lambda: nn.AdaptiveMaxPool2d(1),
    nn.Flatten,
    nn.Dropout,
    lambda: Call(lambda x: functional.avg_pool2d(x, 3, 1, 1)),
    lambda: Call(lambda x: functional.avg_pool2d(x, 2, padding=0, divisor_override=5)),
    lambda: Call(lambda x: functional.avg_pool2d(x, 2, None, 0, False, True, 5)),
    lambda: Call(lambda x: functional.leaky_relu(input=x, negative_slope=0.3)),
    lambda: Call(lambda x: functional.elu(x, 0.5)),
    lambda: Call(lambda x: x.sigmoid()),
    lambda: Call(lambda x: x.view(x.size(0), -1)),
    lambda: Call(lambda x: x.reshape(x.shape[0], 8, -1)),
]


@pytest.mark.parametrize("make", STEPS)
@settings(max_examples=10)
@given(constants=st.lists(st.sampled_from([0.0, -2.5, 0.25, 3.0]), min_size=4, max_size=4))
def test_known_constants_are_what_the_module_makes_of_them(make, constants: list[float]) -> None:
    module = seeded(make, seed=3).eval()
    chain = trace_chain(nn.Sequential(module) if not isinstance(module, Call) else module, images(SHAPE, count=2))
    known = np.array([True, True, True, False])
    values, still_known = carry_constants(chain, chain.steps[0], np.array(constants), known)
    inputs = torch.tensor(constants, dtype=torch.float64).reshape(1, 4, 1, 1).expand(2, *SHAPE).clone()
    inputs[:, 3] = torch.randn(2, 6, 6)
    with torch.no_grad():
        outputs = module.double()(inputs)
    by_channel = outputs.transpose(0, 1).reshape(outputs.shape[1], -1).numpy()
    assert len(values) == len(still_known) == len(by_channel)
    assert not still_known[-1]
    for value, is_known, found in zip(values, still_known, by_channel, strict=True):
        if is_known:
            assert np.abs(found - value).max() <= 1e-12
        assert not (is_known and value == 0) or not found.any()  # an exact zero, not a small number
    if not any(constants[:3]) and isinstance(module, (nn.ReLU, nn.AvgPool2d, nn.MaxPool2d, nn.Flatten)):
        assert still_known[: 3 * len(values) // 4].all()  # zeros survive


def test_a_layer_reaches_to_its_activation_through_dropout_and_over_a_pool() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 4, 1), nn.Dropout(), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 1), nn.MaxPool2d(1), nn.Identity(), nn.ReLU(), nn.Dropout(),
        nn.Conv2d(4, 4, 1), nn.AvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(36), nn.Linear(36, 2),
    ).eval()  # fmt: skip
    chain = trace_chain(network, images(SHAPE, count=2))
    starts = chain.layer_starts()
    ends = {name: chain.steps[chain.layer_end(index)].name for name, index in starts.items()}
    assert ends == {"0": "3", "6": "9", "11": "11", "15": "15"}


class Fails(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise KeyError("my own check")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.Conv2d(3, 4, 3), ["(4, 6, 6)", "model.input_shape"]),
        (Fails(), ["my own check", "(4, 6, 6)"]),
        (nn.MaxPool2d(2, return_indices=True), ["tuple", "one output tensor"]),
    ],
)
def test_a_network_that_does_not_run_is_refused_with_the_shape(network: nn.Module, words: list[str]) -> None:
    with pytest.raises(CoopexportError) as caught:
        run_network(network, images(SHAPE))
    for word in words:
        assert word in str(caught.value)


def test_inner_tuples_are_refused_by_name() -> None:
    network = nn.Sequential(nn.MaxPool2d(2, return_indices=True), Call(lambda pair: pair[0]))
    with pytest.raises(CoopexportError, match="'0'"):
        trace_chain(network, images(SHAPE))
