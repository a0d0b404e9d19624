"""Distillation against a loop by hand, and the schedules against PyTorch's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from toy_training import bits, toy_network, toy_set, toy_settings

from exporter.training.fit import fit
from exporter.training.losses import cross_entropy, distillation
from exporter.training.schedules import learning_rate, momentum
from jetson.errors import CoopexportError


def test_distillation_is_the_formula_summed_by_hand() -> None:
    generator = np.random.default_rng(0)
    student, teacher = generator.normal(size=(2, 5, 3))
    temperature = 2.5

    def softmax(row: np.ndarray) -> list[float]:
        exponentials = [math.exp(value / temperature) for value in row]
        return [value / sum(exponentials) for value in exponentials]

    distance = 0.0
    for student_row, teacher_row in zip(student, teacher, strict=True):
        for here, there in zip(softmax(student_row), softmax(teacher_row), strict=True):
            distance += there * math.log(there / here) / len(student)
    found = distillation(torch.from_numpy(student), torch.from_numpy(teacher), temperature)
    assert found.item() == pytest.approx(temperature**2 * distance, rel=1e-12)
    assert distillation(torch.from_numpy(student), torch.from_numpy(student), temperature).item() == 0


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_one_step_with_a_teacher_is_the_step_by_hand(weight: float) -> None:
    network, by_hand, teacher = toy_network(dropout=0), toy_network(dropout=0), toy_network(dropout=0.5, seed=1)
    teacher.train()  # its dropout must not act
    data = toy_set(16)
    settings = toy_settings(
        distillation_weight=weight, distillation_temperature=3.0, momentum=0.0, weight_decay=0.0, learning_rate=0.1
    )
    result = fit(network, data, settings, epochs=1, seed=2, teacher=teacher)
    everything = np.arange(16)
    inputs, labels = torch.from_numpy(data.inputs(everything)), torch.from_numpy(data.labels(everything))
    outputs, wanted = by_hand.train()(inputs), toy_network(dropout=0, seed=1)(inputs)
    loss = (1 - weight) * cross_entropy(outputs, labels) + weight * 9 * nn.functional.kl_div(
        (outputs / 3).log_softmax(1), (wanted / 3).softmax(1), reduction="batchmean"
    )
    loss.backward()
    assert result.losses[0] == pytest.approx(loss.item(), rel=1e-5)
    for trained, parameter in zip(network.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(trained, parameter - 0.1 * parameter.grad, rtol=1e-4, atol=1e-6)


def test_a_teacher_is_not_trained() -> None:
    teacher = toy_network(seed=1)
    before = bits(teacher)
    fit(toy_network(), toy_set(), toy_settings(distillation_weight=0.5), epochs=1, seed=2, teacher=teacher)
    assert bits(teacher) == before
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_teacher_of_other_classes_is_refused() -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(192, 7))
    with pytest.raises(CoopexportError, match=r"\(16, 4\) and its teacher \(16, 7\)"):
        fit(toy_network(), toy_set(), toy_settings(distillation_weight=0.5), epochs=1, seed=2, teacher=teacher)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 100])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_schedules_are_those_of_pytorch(schedule: str, steps: int) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4, momentum=0.9)
    theirs = {
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps),
        "one-cycle": lambda: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.4, total_steps=steps, pct_start=0.25),
    }[schedule]()
    for step in range(steps):
        group = optimizer.param_groups[0]
        assert learning_rate(schedule, 0.4, step, steps) == pytest.approx(group["lr"], rel=1e-9, abs=1e-15)
        assert momentum(schedule, 0.9, step, steps) == pytest.approx(group["momentum"], rel=1e-12)
        optimizer.step()
        if step + 1 < steps:
            theirs.step()


def test_a_cycle_of_four_steps_begins_at_its_peak() -> None:
    assert learning_rate("one-cycle", 0.4, 0, 4) == 0.4
