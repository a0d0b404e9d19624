"""Training on the CPU and L1 masks, on networks and images small enough for seconds."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.demo.training import BATCH_IMAGES, SHIFT_PIXELS, l1_masks, train
from exporter.masked_network import masked_network
from exporter.masks import Masks
from exporter.models.vgg import LAYER_NAMES, vgg16
from jetson.preprocessing import Preprocessing, apply

PREPROCESSING = Preprocessing(scale=1 / 255, mean=(0.5, 0.4, 0.3), deviation=(0.25, 0.5, 1.0))


class Recorder(nn.Module):
    """Keeps what it is given, and can be trained: three scores from the means of the channels."""

    def __init__(self, channels_axis: int = 1) -> None:
        super().__init__()
        self.batches: list[torch.Tensor] = []
        self.layer = nn.Linear(3, 3)
        self.axes = tuple(axis for axis in (1, 2, 3) if axis != channels_axis)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.batches.append(inputs.clone())
        scores: torch.Tensor = self.layer(inputs.float().mean(dim=self.axes))
        return scores


def small_network(dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(4),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(8, 4),
        )


def bars(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return noisy 16x16 images: a bar across or upright, bright on dark or dark on bright; four labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(4, size=count)
    images = generator.integers(90, 166, size=(count, 16, 16, 3))
    for image, label in zip(images, labels, strict=True):
        start = generator.integers(4, 9)
        bar = image[start : start + 3] if label % 2 else image[:, start : start + 3]
        bar += 80 if label // 2 else -80
    return images.astype(np.uint8), labels


def accuracy(network: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    with torch.inference_mode():
        scores = network(torch.from_numpy(apply(PREPROCESSING, images)))
    return float((scores.argmax(dim=1).numpy() == labels).mean())


def train_small(
    network: nn.Module, count: int = 256, epochs: int = 2, seed: int = 0, peak_learning_rate: float = 0.02
) -> list[tuple[int, float]]:
    """Train on bars and return what was reported after each epoch."""
    images, labels = bars(count, seed=1)
    reported: list[tuple[int, float]] = []
    train(
        network,
        images,
        labels,
        PREPROCESSING,
        epochs,
        peak_learning_rate,
        seed,
        lambda epoch, loss: reported.append((epoch, loss)),
    )
    return reported


def states(network: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in network.state_dict().values()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def record(images: NDArray[np.uint8], preprocessing: Preprocessing, epochs: int = 1) -> list[torch.Tensor]:
    """Return the batches that a network is trained on."""
    recorder = Recorder(channels_axis=1 if preprocessing.layout == "NCHW" else 3)
    labels = np.zeros(len(images), dtype=np.int64)
    train(recorder, images, labels, preprocessing, epochs, 0.01, 0, lambda epoch, loss: None)
    return recorder.batches


def test_training_learns_what_holds_for_new_images() -> None:
    network = small_network()
    held_out = bars(200, seed=2)
    assert accuracy(copy.deepcopy(network).eval(), *held_out) < 0.6
    reported = train_small(network, epochs=8)
    assert accuracy(network, *held_out) > 0.95
    assert [epoch for epoch, _ in reported] == list(range(8))
    assert reported[-1][1] < 0.5 * reported[0][1] < np.log(4)  # a mean per image: log 4 is guessing


def test_the_network_is_left_ready_for_deployment() -> None:
    network = small_network().eval()
    train_small(network)
    assert not any(module.training for module in network.modules())
    assert all(parameter.is_contiguous() for parameter in network.parameters())
    norm = network.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.num_batches_tracked is not None
    assert int(norm.num_batches_tracked) == 2 * 256 // BATCH_IMAGES


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_same_seed_gives_the_same_network(dropout: float) -> None:
    trained = []
    for global_seed, seed in ((1, 0), (2, 0), (1, 3)):
        network = small_network(dropout)
        torch.manual_seed(global_seed)
        train_small(network, seed=seed)
        trained.append(states(network))
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])


def test_the_global_random_state_stays_as_it_was() -> None:
    before = torch.random.get_rng_state()
    train_small(small_network(0.5), count=40, epochs=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_network_sees_what_deployment_sees() -> None:
    image = np.empty((16, 16, 3), dtype=np.uint8)
    image[:] = (10, 100, 250)  # of one colour, so that shifting changes nothing
    for changes in ({}, {"colour_order": "BGR"}, {"resize": (8, 12)}, {"layout": "NHWC"}):
        preprocessing = PREPROCESSING._replace(**changes)
        expected = apply(preprocessing, image[None])
        for batch in record(np.stack([image] * 5), preprocessing):
            assert batch.dtype == torch.float32
            assert np.array_equal(batch.numpy(), np.repeat(expected, 5, axis=0))


def test_networks_that_normalise_by_themselves_get_bytes() -> None:
    images, _ = bars(5, seed=0)
    (batch,) = record(images, Preprocessing(input_dtype="uint8"))
    assert batch.dtype == torch.uint8


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_images_are_shifted_a_little_and_in_both_directions(layout: str) -> None:
    images = np.zeros((320, 16, 16, 3), dtype=np.uint8)
    images[:, 7, 9] = 255
    batches = torch.cat(record(images, Preprocessing(layout=layout)))
    one_channel = batches[:, 0] if layout == "NCHW" else batches[..., 0]
    positions = np.argwhere(one_channel.numpy())
    assert len(positions) == 320
    rows, columns = positions[:, 1] - 7, positions[:, 2] - 9
    allowed = list(range(-SHIFT_PIXELS, SHIFT_PIXELS + 1))
    assert np.unique(rows).tolist() == allowed
    assert np.unique(columns).tolist() == allowed
    assert len(np.unique(positions[:, 1:], axis=0)) == len(allowed) ** 2


def test_shifted_images_repeat_their_border() -> None:
    images = np.zeros((320, 8, 8, 3), dtype=np.uint8)
    images[:, :, 0] = 255
    images[:, :, 1:] = 100
    batches = torch.cat(record(images, Preprocessing()))
    assert (batches[..., -1] == 100).all()
    assert set(batches[..., 0].flatten().tolist()) == {100.0, 255.0}


def test_every_epoch_shows_each_image_once_in_another_order() -> None:
    count = 4 * BATCH_IMAGES
    images = np.zeros((count, 4, 4, 3), dtype=np.uint8)
    images[...] = np.arange(count)[:, None, None, None]
    batches = record(images, Preprocessing(), epochs=2)
    assert [len(batch) for batch in batches] == [BATCH_IMAGES] * 8
    first, second = (torch.cat(batches[start : start + 4])[:, 0, 0, 0].tolist() for start in (0, 4))
    assert sorted(first) == sorted(second) == list(range(count))
    assert first != second


@pytest.mark.parametrize(("count", "steps"), [(5, 1), (BATCH_IMAGES + 7, 1), (2 * BATCH_IMAGES, 2)])
def test_incomplete_batches_are_left_out_unless_there_is_no_other(count: int, steps: int) -> None:
    images, _ = bars(count, seed=0)
    batches = record(images, PREPROCESSING)
    assert [len(batch) for batch in batches] == [min(count, BATCH_IMAGES)] * steps


def test_l1_masks_keep_the_filters_with_the_largest_norms() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1))
    first, second = network[0], network[2]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    first.weight.data[:, 0, 0, 0] = torch.tensor([0.1, -0.9, 0.3, 0.2])
    second.weight.data[:, :, 0, 0] = torch.tensor([[1.0, -1, 1, -1], [2.5, 0, 0, 0], [0, 0, 0, -3]])
    masks = l1_masks(network, {"0": 0.5, "2": 0.6}.__getitem__)
    assert list(masks) == ["0", "2"]
    assert masks["0"].tolist() == [False, True, True, False]
    assert masks["2"].tolist() == [True, False, True]
    assert all(mask.dtype == np.bool_ for mask in masks.values())


def test_of_equal_norms_the_first_stay_and_one_stays_always() -> None:
    network = nn.Sequential(nn.Conv2d(1, 64, 1))  # so many that an unstable sort would mix them
    convolution = network[0]
    assert isinstance(convolution, nn.Conv2d)
    convolution.weight.data[:] = 1
    assert np.flatnonzero(l1_masks(network, lambda name: 0.5)["0"]).tolist() == list(range(32))
    assert np.flatnonzero(l1_masks(network, lambda name: 0.001)["0"]).tolist() == [0]
    assert l1_masks(network, lambda name: 1.0)["0"].all()


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, float("nan")])
def test_shares_outside_their_range_are_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        l1_masks(nn.Sequential(nn.Conv2d(1, 4, 1)), lambda name: fraction)


def test_masks_have_the_layer_names_and_widths_of_vgg() -> None:
    widths = (4, 6, 8, 8, 10, 10, 10, 12, 12, 12, 12, 12, 12)
    masks = l1_masks(vgg16(widths), lambda name: 0.5)
    assert list(masks) == [f"features.{name}" for name in LAYER_NAMES]
    assert [len(mask) for mask in masks.values()] == list(widths)
    assert [int(mask.sum()) for mask in masks.values()] == [width // 2 for width in widths]


def test_fine_tuning_the_masked_network_recovers_accuracy_in_the_network_itself() -> None:
    network = small_network()
    held_out = bars(200, seed=2)
    train_small(network, epochs=6)
    masks = Masks(l1_masks(network, lambda name: 0.5), "channel", "test")
    masked = masked_network(network, masks, torch.from_numpy(apply(PREPROCESSING, held_out[0][:4])))
    before = accuracy(masked.eval(), *held_out)
    train_small(masked, epochs=6, seed=1)
    after = accuracy(masked, *held_out)
    assert after > 0.9
    assert after > before
    rebuilt = masked_network(network.eval(), masks, torch.from_numpy(apply(PREPROCESSING, held_out[0][:4])))
    assert accuracy(rebuilt.eval(), *held_out) == after
