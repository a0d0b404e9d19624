"""Rounding while training is that of the encoding at the cut; bits are counted as an independent sum says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from exporter.bottleneck.design import bounded_encoding
from exporter.bottleneck.quantiser import Quantiser
from exporter.encoding.specification import decode, encode


def values(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", range(1, 9))
def test_rounding_is_that_of_the_encoding_at_the_cut(bits: int) -> None:
    x = torch.cat([values((50, 3, 5, 4)), torch.linspace(0, 1, 60).reshape(1, 3, 5, 4)])
    quantiser, encoding = Quantiser(bits, 3).eval(), bounded_encoding(bits)
    symbols = encode(encoding, x.numpy())
    assert len(np.unique(symbols)) == 1 << bits
    assert np.array_equal(quantiser.symbols(x).numpy(), symbols)
    assert np.array_equal(quantiser(x).numpy(), decode(encoding, symbols))
    quantiser.train()
    assert np.allclose(quantiser(x).numpy(), decode(encoding, symbols), atol=1e-6)


def test_gradients_pass_as_if_nothing_were_rounded() -> None:
    x = values((2, 3, 4, 4)).requires_grad_()
    (3 * Quantiser(2, 3).train()(x)).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.full_like(x, 3.0))


def expected_bits(counts: np.ndarray, symbols: np.ndarray) -> float:
    """Return the bits of one sample (channels x height x width), symbol by symbol."""
    total = 0.0
    for channel, plane in enumerate(symbols):
        for (row, column), symbol in np.ndenumerate(plane):
            left = plane[row, column - 1] if column else 0
            up = plane[row - 1, column] if row else 0
            corner = plane[row - 1, column - 1] if row and column else 0
            context = sorted([left, up, left + up - corner])[1]
            table = counts[channel, context]
            total -= np.log2(table[symbol] / table.sum())
    return total


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_bits_are_those_of_each_channels_own_table_and_context(bits: int) -> None:
    quantiser = Quantiser(bits, 3).train()
    for seed in range(5):
        quantiser(values((8, 3, 6, 5), seed) ** 2)
    symbols = quantiser.symbols(values((4, 3, 6, 5), 9) ** 2)
    found = quantiser.estimated_bits(symbols)
    counts = quantiser.counts.double().numpy()
    wanted = [expected_bits(counts, one.astype(int)) for one in symbols.numpy()]
    assert np.allclose(found.numpy(), wanted, rtol=1e-4)


def test_a_sample_is_charged_what_its_symbols_take() -> None:
    quantiser = Quantiser(3, 2).train()
    quantiser(values((8, 2, 4, 4)))
    x = values((6, 2, 4, 4), 5)
    before = quantiser.counts.clone()
    quantiser(x)
    charged, after = quantiser.sample_bits, quantiser.counts.clone()
    quantiser.counts.copy_(before)
    assert charged is not None
    assert torch.allclose(charged, quantiser.estimated_bits(quantiser.symbols(x)).mean(), rtol=1e-5)
    assert not torch.equal(after, before)


def test_the_gradient_points_to_the_cheaper_symbol() -> None:
    quantiser = Quantiser(2, 1).train()
    quantiser.counts.copy_(torch.tensor([1.0, 2.0, 4.0, 8.0]).expand(1, 4, 4))
    x = torch.tensor([[[[0.1, 0.5], [0.6, 0.95]]]], requires_grad=True)
    quantiser(x)
    assert quantiser.sample_bits is not None
    quantiser.sample_bits.backward()
    assert x.grad is not None
    # Each symbol further up is half as dear: one bit less for a third of the range.
    assert torch.allclose(x.grad, torch.full_like(x, -3.0))


def test_vectors_have_no_neighbours() -> None:
    quantiser = Quantiser(2, 5).train()
    quantiser(values((30, 5)))
    symbols = quantiser.symbols(values((4, 5), 3))
    table = quantiser.counts[:, 0].double()
    cost = -torch.log2(table / table.sum(dim=1, keepdim=True))
    wanted = sum(cost[channel, symbols[:, channel].long()] for channel in range(5))
    assert torch.allclose(quantiser.estimated_bits(symbols).double(), wanted, rtol=1e-5)
