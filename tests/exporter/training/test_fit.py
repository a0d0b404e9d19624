"""The training loop: it learns, counts its steps, is the same for the same seed, stops early, and names errors."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy_training import PREPROCESSING, bits, toy_images, toy_network, toy_set, toy_settings

from exporter.training.fit import Epoch, fit
from exporter.training.training_set import part_of, training_set_of_arrays
from jetson.errors import CoopexportError


@pytest.fixture
def module_folder(tmp_path: Path) -> Iterator[Path]:
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_it_learns(optimizer: str) -> None:
    network, seen = toy_network(), []
    settings = toy_settings(optimizer=optimizer, learning_rate=0.02, shift_pixels=1)
    result = fit(network, toy_set(160), settings, epochs=12, seed=1, validation=toy_set(80, 1), on_epoch=seen.append)
    assert result.losses[-1] < 0.3 * result.losses[0]
    assert seen[-1].score > 0.95
    assert [epoch.number for epoch in seen] == list(range(1, 13))
    assert result.losses == tuple(epoch.loss for epoch in seen)
    assert (result.steps, result.images, result.epochs) == (120, 1920, 12)
    assert not network.training
    assert all(tensor.is_contiguous() for tensor in network.state_dict().values())


def test_the_score_is_the_share_of_right_images() -> None:
    network, seen, judged = toy_network(), [], toy_set(50, 3)
    fit(network, toy_set(), toy_settings(), epochs=2, seed=1, validation=judged, on_epoch=seen.append)
    everything = np.arange(50)
    right = network(torch.from_numpy(judged.inputs(everything))).argmax(1).numpy() == judged.labels(everything)
    assert seen[-1].score == pytest.approx(right.mean())


def test_the_same_seed_gives_the_same_bits_and_another_one_others() -> None:
    settings = toy_settings(shift_pixels=2, flip=True, schedule="cosine", threads=1)
    networks = [toy_network() for _ in range(3)]
    for network, seed in zip(networks, (5, 5, 6), strict=True):
        fit(network, toy_set(), settings, epochs=2, seed=seed)
    assert bits(networks[0]) == bits(networks[1])
    assert bits(networks[0])["0.weight"] != bits(networks[2])["0.weight"]


def test_random_states_and_threads_stay_as_they_were() -> None:
    torch.manual_seed(9)
    random.seed(9)
    np.random.seed(9)
    expected = (torch.rand(1).item(), random.random(), np.random.random())
    torch.manual_seed(9)
    random.seed(9)
    np.random.seed(9)
    threads = torch.get_num_threads()
    fit(toy_network(), toy_set(), toy_settings(threads=2), epochs=1, seed=4)
    assert (torch.rand(1).item(), random.random(), np.random.random()) == expected
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("count", "epochs", "steps", "images", "numbers"),
    [
        (70, 1, 4, 64, [1]),  # the incomplete fifth batch is left out
        (70, 0.25, 1, 16, [0.25]),
        (70, 0.01, 1, 16, [0.01]),
        (70, 2.5, 10, 160, [1, 2, 2.5]),
        (10, 2, 2, 20, [1, 2]),  # fewer images than a batch
    ],
)
def test_fractions_of_epochs(count: int, epochs: float, steps: int, images: int, numbers: list[float]) -> None:
    seen: list[Epoch] = []
    done: list[tuple[int, int]] = []
    result = fit(
        toy_network(),
        toy_set(count),
        toy_settings(),
        epochs=epochs,
        seed=0,
        on_epoch=seen.append,
        on_progress=lambda *step: done.append(step),
    )
    assert (result.steps, result.images) == (steps, images)
    assert [epoch.number for epoch in seen] == numbers
    assert {epoch.of for epoch in seen} == {epochs}
    assert sum(epoch.images for epoch in seen) == images
    assert done == [(step, steps) for step in range(1, steps + 1)]


def test_half_an_epoch_takes_the_steps_that_the_whole_one_begins_with() -> None:
    half, whole = toy_network(), toy_network()
    steps: list[dict[str, bytes]] = []
    fit(half, toy_set(64), toy_settings(), epochs=0.5, seed=2)
    fit(whole, toy_set(64), toy_settings(), epochs=1, seed=2, on_progress=lambda *_: steps.append(bits(whole)))
    assert np.array_equal(
        np.sort(np.frombuffer(steps[1]["0.weight"], np.float32)),  # in training they lie in another order
        np.sort(np.frombuffer(bits(half)["0.weight"], np.float32)),
    )


def test_parameters_stay_the_same_objects_and_frozen_ones_as_they_are() -> None:
    network = toy_network()
    network[0].requires_grad_(False)
    before, start = dict(network.named_parameters()), bits(network)
    fit(network, toy_set(), toy_settings(), epochs=1, seed=0)
    assert all(parameter is before[name] for name, parameter in network.named_parameters())
    assert bits(network)["0.weight"] == start["0.weight"]
    assert bits(network)["6.weight"] != start["6.weight"]
    assert all(parameter.grad is None for parameter in before.values())


def test_patience_stops_and_leaves_the_best_weights() -> None:
    network, scores, weights = toy_network(), [], []

    def keep(epoch: Epoch) -> None:
        scores.append(epoch.score)
        weights.append({name: tensor.clone() for name, tensor in network.state_dict().items()})

    settings = toy_settings(learning_rate=0.01, patience=3)
    result = fit(network, toy_set(), settings, epochs=60, seed=1, validation=toy_set(40, 2), on_epoch=keep)
    assert result.stopped_early
    best = int(np.argmax(scores))
    assert best > 1  # it became better, more than once
    assert len(scores) == best + 1 + 3 < 60
    assert all(torch.equal(tensor, weights[best][name]) for name, tensor in network.state_dict().items())


def test_networks_that_return_several_tensors_are_trained_by_the_first() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = toy_network()

        def forward(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"scores": self.inner(inputs), "inputs": inputs}

    several, one = Several(), toy_network()
    for network in (several, one):
        fit(network, toy_set(), toy_settings(), epochs=1, seed=0)
    assert bits(several.inner) == bits(one)


def test_a_loss_of_the_users(module_folder: Path) -> None:
    (module_folder / "cx_loss.py").write_text(
        "def squares(outputs, labels):\n    return ((outputs.mean(dim=1) - labels) ** 2).mean()\n"
    )
    seen: list[Epoch] = []
    settings, data = toy_settings(loss="cx_loss:squares"), toy_set()
    fit(toy_network(), data, settings, epochs=8, seed=0, validation=data, on_epoch=seen.append, folder=module_folder)
    assert seen[-1].loss < 0.5 * seen[0].loss
    assert all(epoch.score < 0 for epoch in seen)
    assert seen[-1].score > seen[0].score


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("return outputs", ["a tensor of shape (16, 4)", "one number"]),
        ("return 3.0", ["returned float"]),
        ("raise KeyError('x')", ["KeyError", "(16, 4)", "(16,)"]),
    ],
)
def test_losses_that_do_not_work(module_folder: Path, code: str, words: list[str]) -> None:
    (module_folder / "cx_wrong.py").write_text(f"def loss(outputs, labels):\n    {code}\n")
    with pytest.raises(CoopexportError) as caught:
        fit(toy_network(), toy_set(), toy_settings(loss="cx_wrong:loss"), epochs=1, seed=0, folder=module_folder)
    for word in ["cx_wrong:loss", *words]:
        assert word in str(caught.value)


def test_a_loss_that_is_no_number_names_epoch_step_and_rate() -> None:
    network = toy_network(dropout=0)
    with pytest.raises(CoopexportError) as caught:
        fit(network, toy_set(), toy_settings(learning_rate=1e30), epochs=3, seed=0)
    for word in ["nan", "epoch 1, step 2", "1e+30", "training.learning_rate"]:
        assert word in str(caught.value)
    assert not network.training


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([0, 1, 2, 3, 4] * 4), ["from 0 to 4", "4 classes"]),
        (np.array([-1, 0] * 10), ["from -1 to 0"]),
        (np.zeros((20, 2), np.int64), ["(16, 2)", "training.loss"]),
        (np.zeros(20, np.float64), ["float32", "class numbers"]),
        (np.array(["a"] * 20), ["<U1", "numbers"]),
    ],
)
def test_labels_that_do_not_fit(labels: np.ndarray, words: list[str]) -> None:
    data = training_set_of_arrays("mine.npz", toy_images(20)[0], labels, PREPROCESSING)
    with pytest.raises(CoopexportError) as caught:
        fit(toy_network(), data, toy_settings(), epochs=2, seed=0)
    for word in ["mine.npz", *words]:
        assert word in str(caught.value)


def test_inputs_that_do_not_fit() -> None:
    with pytest.raises(CoopexportError, match=r"inputs of shape \(16, 3, 8, 8\).*model.input_shape"):
        fit(nn.Sequential(nn.Conv2d(5, 4, 8), nn.Flatten()), toy_set(), toy_settings(), epochs=1, seed=0)


def test_too_little_memory_names_the_setting() -> None:
    class Large(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    with pytest.raises(CoopexportError, match=r"16 images at once \(CUDA out of memory.*training.batch_images"):
        fit(Large(192, 4), toy_set(), toy_settings(), epochs=1, seed=0)


def test_what_cannot_be_trained_is_one_line() -> None:
    frozen = toy_network().requires_grad_(False)
    cases = [
        ({"network": frozen}, "requires_grad"),
        ({"epochs": 0}, "0 epochs"),
        ({"epochs": float("inf")}, "inf epochs"),
        ({"settings": toy_settings(distillation_weight=0.5)}, "distillation_weight.*teacher"),
        ({"settings": toy_settings(patience=2)}, "patience"),
        ({"data": part_of(toy_set(), np.array([], np.int64))}, "no images"),
    ]
    for change, message in cases:
        arguments = {"network": toy_network(), "data": toy_set(), "settings": toy_settings(), "epochs": 1, **change}
        with pytest.raises(CoopexportError, match=message):
            fit(seed=0, **arguments)
