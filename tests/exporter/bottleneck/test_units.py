"""Reduction and recovery give the shapes that they promise, for any size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from exporter.bottleneck.design import BottleneckDesign
from exporter.bottleneck.units import recovery_unit, reduction_unit


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 70),
    height=st.integers(1, 13),
    width=st.integers(1, 13),
    stride=st.sampled_from([1, 2, 4]),
    left=st.integers(1, 6),
)
def test_a_map_comes_back_in_its_shape(channels: int, height: int, width: int, stride: int, left: int) -> None:
    feature = (channels, height, width)
    design = BottleneckDesign(min(stride, 4 if min(height, width) >= 4 else 1), left, 2)
    x = torch.rand(2, *feature)
    with torch.no_grad():
        crossing = reduction_unit(design, feature).eval()(x)
        assert crossing.shape == (2, *design.shape(feature))
        assert recovery_unit(design, feature, rectified=False).eval()(crossing).shape == x.shape


def test_a_vector_comes_back_in_its_shape() -> None:
    design = BottleneckDesign(1, 3, 4)
    crossing = reduction_unit(design, (20,))(torch.rand(2, 20))
    assert crossing.shape == (2, 3)
    assert recovery_unit(design, (20,), rectified=True)(crossing).shape == (2, 20)


@pytest.mark.parametrize("feature", [(8, 6, 6), (20,)])
def test_a_rectified_feature_stays_without_negative_numbers(feature: tuple[int, ...]) -> None:
    design = BottleneckDesign(1, 2, 4)
    unit = recovery_unit(design, feature, rectified=True)
    assert isinstance(unit[-1], nn.ReLU)
    assert not isinstance(recovery_unit(design, feature, rectified=False)[-1], nn.ReLU)


@pytest.mark.parametrize("stride", [2, 4])
def test_every_pixel_of_the_input_counts(stride: int) -> None:
    design = BottleneckDesign(stride, 2, 2)
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    reduction_unit(design, (3, 8, 8))(x).sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(dim=1) > 0).all()
