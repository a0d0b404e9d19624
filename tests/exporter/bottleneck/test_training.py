"""A training begins with what fits of another one, and leaves a frozen tail alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from exporter.bottleneck.design import BottleneckDesign
from exporter.bottleneck.insert import Place, find_place
from exporter.bottleneck.training import Lesson, Start, Task, train
from exporter.project.settings import BottleneckSection, TrainingSection
from exporter.training.training_set import training_set_of_arrays
from jetson.runtime.preprocessing import Preprocessing

TRAINING = TrainingSection(optimizer="adamw", learning_rate=0.01, batch_images=16, threads=1, device="cpu")


class Network(nn.Module):
    """A head, and a tail with a batch norm that has no parameters of its own, and a dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = nn.Conv2d(8, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6, affine=False)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.head(x))
        x = self.dropout(torch.relu(self.norm(self.conv(x))).mean((2, 3)))
        return self.classifier(x)


def lesson_of(folder: Path, tail: str = "fine-tuned") -> Lesson:
    torch.manual_seed(0)
    network = Network().eval()
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (32, 8, 8, 3)).astype(np.uint8)
    data = training_set_of_arrays("noise", images, np.arange(32) % 3, Preprocessing(scale=1 / 255))
    inputs = torch.from_numpy(data.inputs(np.arange(8)))
    with torch.no_grad():
        feature = torch.relu(network.head(inputs)).numpy()
    place: Place = find_place(network, inputs, "head", feature)
    settings = BottleneckSection(tail=tail)  # type: ignore[arg-type]
    return Lesson(network, inputs, place, data, settings, TRAINING, folder, folder)


def task(stride: int, channels: int, bits: int = 2) -> Task:
    return Task(BottleneckDesign(stride, channels, bits), 1e-4, 1.0, 0)


@pytest.mark.parametrize("after", [(1, 4), (2, 4), (4, 4), (1, 2), (2, 2), (1, 7), (2, 7)])
@pytest.mark.parametrize("before", [(1, 4), (2, 4), (4, 4)])
def test_any_design_can_begin_with_any_other(tmp_path: Path, before: tuple[int, int], after: tuple[int, int]) -> None:
    lesson = lesson_of(tmp_path)
    first = train(lesson, task(*before), "first", "first").made.graph_module.state_dict()
    made = train(lesson, task(*after, bits=3), "second", "second", Start(BottleneckDesign(*before, 2), first))
    assert made.result.epochs == 1.0
    assert all(bool(value.isfinite().all()) for value in made.made.graph_module.state_dict().values())


def test_of_fewer_channels_those_that_the_recovery_weighs_most_stay(tmp_path: Path) -> None:
    lesson = lesson_of(tmp_path)
    for stride, place in ((1, 1), (2, 0)):
        weights = train(lesson, task(stride, 4), f"{stride}", f"{stride}").made.graph_module.state_dict()
        reading = weights["bottleneck_recovery.0.weight"].transpose(0, place)
        reading[[0, 2]] *= 100
        tiny = Task(BottleneckDesign(stride, 2, 2), 0.0, 1e-9, 0)  # one step
        start = Start(BottleneckDesign(stride, 4, 2), weights)
        made = train(lesson, tiny, f"{stride} fewer", f"{stride} fewer", start).made.graph_module
        moved = (made.get_parameter("bottleneck.weight") - weights["bottleneck.weight"][[0, 2]]).abs().max()
        others = (made.get_parameter("bottleneck.weight") - weights["bottleneck.weight"][[1, 3]]).abs().max()
        assert moved < 0.02 < others


def test_a_frozen_tail_keeps_weights_and_statistics(tmp_path: Path) -> None:
    lesson = lesson_of(tmp_path, "frozen")
    parent = {name: value.clone() for name, value in lesson.parent.state_dict().items()}
    made = train(lesson, task(2, 2), "frozen", "frozen").made.graph_module.state_dict()
    for name, value in parent.items():
        assert torch.equal(made[name], value) == (not name.startswith("head")), name
    tuned = train(lesson_of(tmp_path), task(2, 2), "tuned", "tuned").made.graph_module.state_dict()
    assert not torch.equal(tuned["norm.running_mean"], parent["norm.running_mean"])
