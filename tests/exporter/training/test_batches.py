"""Batches: complete, in order or shuffled, shifted with the border repeated, and mirrored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toy_training import toy_set

from exporter.training.batches import ahead, augmented, check_augmentable, iterate, steps_per_epoch
from exporter.training.placement import choose_device
from jetson.errors import CoopexportError


@dataclass(frozen=True)
class Numbers:
    """Samples that are their own numbers."""

    count: int
    shape: tuple[int, ...] = (2,)
    short_by: int = 0
    name: str = "numbers"
    layout: str = "NCHW"

    def __len__(self) -> int:
        return self.count

    def inputs(self, indices: np.ndarray) -> np.ndarray:
        kept = indices[: len(indices) - self.short_by].reshape(-1, *(1 for _ in self.shape))
        return np.broadcast_to(kept, (len(kept), *self.shape)).astype(np.float32)

    def labels(self, indices: np.ndarray) -> Any:
        return indices.astype(np.uint16)

    def sha256(self) -> str:
        return ""


@given(st.integers(1, 40), st.integers(1, 12))
def test_in_order_every_sample_comes_once(count: int, batch: int) -> None:
    batches = list(iterate(Numbers(count), batch, None))
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(count))
    for inputs, labels in batches:
        assert inputs.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert inputs[:, 0].tolist() == labels.tolist()


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_shuffled_only_whole_batches_come(count: int, batch: int, seed: int) -> None:
    batches = list(iterate(Numbers(count), batch, torch.Generator().manual_seed(seed)))
    assert len(batches) == steps_per_epoch(count, batch)
    drawn = torch.cat([labels for _, labels in batches]).tolist()
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(range(count))
    assert {len(labels) for _, labels in batches} == {min(batch, count)}
    assert all(inputs[:, 0].tolist() == labels.tolist() for inputs, labels in batches)


def test_epochs_differ_in_their_order() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat([labels for _, labels in iterate(Numbers(64), 8, generator)]) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort().values, second.sort().values)


def test_batches_made_ahead_are_the_same_and_so_are_errors() -> None:
    expected = list(iterate(Numbers(23), 5, None))
    found = list(ahead(iterate(Numbers(23), 5, None)))
    assert [labels.tolist() for _, labels in found] == [labels.tolist() for _, labels in expected]
    with pytest.raises(CoopexportError, match="gave 3 inputs"):
        list(ahead(iterate(Numbers(8, short_by=1), 4, None)))


def test_inputs_and_labels_that_do_not_belong_together() -> None:
    with pytest.raises(CoopexportError, match="numbers: asked for 4 samples, it gave 3 inputs and 4 labels"):
        next(iterate(Numbers(8, short_by=1), 4, None))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("shift", "flip"), [(0, True), (2, False), (3, True)])
def test_shifts_and_mirrors_are_those_of_numpy(layout: str, shift: int, flip: bool) -> None:
    pixels = np.random.default_rng(0).normal(size=(40, 6, 7, 3)).astype(np.float32)
    order = (0, 3, 1, 2) if layout == "NCHW" else (0, 1, 2, 3)
    inputs = torch.from_numpy(pixels.transpose(order).copy())
    found = augmented(inputs, layout, shift, flip, torch.Generator().manual_seed(1)).numpy()
    padded = np.pad(pixels, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    shifts, mirrors = set(), set()
    for index, image in enumerate(found if layout == "NHWC" else found.transpose(0, 2, 3, 1)):
        matches = [
            (top, left, mirrored)
            for top in range(2 * shift + 1)
            for left in range(2 * shift + 1)
            for mirrored in {False, flip}
            if np.array_equal(image[:, ::-1] if mirrored else image, padded[index, top : top + 6, left : left + 7])
        ]
        assert len(matches) == 1
        shifts.add(matches[0][:2])
        mirrors.add(matches[0][2])
    assert len(shifts) > (15 if shift else 0)
    assert mirrors == {False, flip}


def test_without_augmentation_nothing_is_drawn() -> None:
    generator, inputs = torch.Generator().manual_seed(3), torch.zeros(2, 3, 4, 4)
    before = generator.get_state()
    assert augmented(inputs, "NCHW", 0, False, generator) is inputs
    assert torch.equal(generator.get_state(), before)


def test_only_images_can_be_shifted() -> None:
    check_augmentable(Numbers(3), 0, False)
    check_augmentable(toy_set(), 2, True)
    with pytest.raises(CoopexportError, match=r"shape \(2,\).*training.shift_pixels"):
        check_augmentable(Numbers(3), 1, False)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(CoopexportError, match=r'training.device is "cuda".*training.device = "cpu"'):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
