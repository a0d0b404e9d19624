"""A training that is killed goes on with the bits of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests_support import STUCK_S
from torch import nn
from toy_training import bits, toy_network, toy_set, toy_settings

from exporter.training import fit as fit_module
from exporter.training.fit import Epoch, fit


class StoppedError(Exception):
    """Ends a training from inside."""


def stop_after(epochs: int):
    def on_epoch(epoch: Epoch) -> None:
        if epoch.number >= epochs:
            raise StoppedError

    return on_epoch


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_every_epoch_can_be_the_last_before_a_kill(tmp_path: Path, optimizer: str, schedule: str) -> None:
    settings = toy_settings(optimizer=optimizer, schedule=schedule, shift_pixels=1, flip=True, patience=9)
    judged = toy_set(20, 1)

    def trained(state_file: Path | None, **options):
        network = toy_network()
        arguments = {"epochs": 3.5, "seed": 3, "validation": judged, "state_file": state_file, "recipe": "r"}
        result = fit(network, toy_set(), settings, **arguments, **options)
        return bits(network), result

    expected, whole = trained(None)
    for stopped in (1, 2, 3):
        file = tmp_path / f"{stopped}.state"
        with pytest.raises(StoppedError):
            trained(file, on_epoch=stop_after(stopped))
        seen: list[float] = []
        weights, result = trained(file, on_epoch=lambda epoch, seen=seen: seen.append(epoch.number))
        assert weights == expected
        assert (result.losses, result.steps, result.images) == (whole.losses, whole.steps, whole.images)
        assert seen == [1, 2, 3, 3.5][stopped:]
        again, _ = trained(file, on_epoch=stop_after(0))  # it is done: no epoch is trained any more
        assert again == expected


def test_mixed_precision_goes_on_with_its_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "_mixed", lambda *_: True)  # the CPU can do it, too, only slowly
    network, resumed, seen = toy_network(), toy_network(), []
    arguments = {"epochs": 6, "seed": 1, "validation": toy_set(40, 1)}
    fit(network, toy_set(), toy_settings(), on_epoch=seen.append, **arguments)
    assert seen[-1].score > 0.9
    with pytest.raises(StoppedError):
        fit(toy_network(), toy_set(), toy_settings(), state_file=tmp_path / "s", on_epoch=stop_after(3), **arguments)
    fit(resumed, toy_set(), toy_settings(), state_file=tmp_path / "s", **arguments)
    assert bits(resumed) == bits(network)


def test_early_stopping_is_remembered(tmp_path: Path) -> None:
    settings = toy_settings(learning_rate=0.3, patience=2)

    def trained(**options):
        network = toy_network()
        return network, fit(network, toy_set(), settings, epochs=60, seed=1, validation=toy_set(40, 2), **options)

    whole, result = trained()
    last = len(result.losses)
    for stopped in (last - 1, last):
        file = tmp_path / str(stopped)
        with pytest.raises(StoppedError):
            trained(state_file=file, on_epoch=stop_after(stopped))
        network, again = trained(state_file=file)
        assert again.stopped_early
        assert again.losses == result.losses
        assert bits(network) == bits(whole)


def test_another_recipe_starts_anew(tmp_path: Path) -> None:
    file, expected, network = tmp_path / "state", toy_network(), toy_network()
    fit(expected, toy_set(), toy_settings(), epochs=1, seed=0)
    fit(toy_network(), toy_set(), toy_settings(learning_rate=0.01), epochs=1, seed=0, state_file=file, recipe="a")
    fit(network, toy_set(), toy_settings(), epochs=1, seed=0, state_file=file, recipe="b")
    assert bits(network) == bits(expected)


def test_another_network_or_optimizer_starts_anew(tmp_path: Path) -> None:
    file = tmp_path / "state"
    fit(toy_network(), toy_set(), toy_settings(), epochs=1, seed=0, state_file=file)
    for settings, frozen in ((toy_settings(optimizer="adamw"), False), (toy_settings(), True)):
        network, expected = toy_network(), toy_network()
        for each in (network, expected):
            each[0].requires_grad_(not frozen)
        fit(network, toy_set(), settings, epochs=1, seed=0, state_file=file)
        fit(expected, toy_set(), settings, epochs=1, seed=0)
        assert bits(network) == bits(expected)
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    assert fit(other, toy_set(), toy_settings(), epochs=1, seed=0, state_file=file).steps == 4


@pytest.mark.parametrize("damage", ["empty", "short", "truncated", "flipped", "longer"])
def test_a_damaged_state_is_said_and_starts_anew(tmp_path: Path, damage: str) -> None:
    file, expected, network = tmp_path / "state", toy_network(), toy_network()
    fit(expected, toy_set(), toy_settings(), epochs=1, seed=0, state_file=file)
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(
        {
            "empty": b"",
            "short": content[:20],
            "truncated": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "longer": content + b"\0",
        }[damage]
    )
    told: list[str] = []
    fit(network, toy_set(), toy_settings(), epochs=1, seed=0, state_file=file, on_warning=told.append)
    assert bits(network) == bits(expected)
    assert told == [f"{file} is damaged; training starts anew"]


PROGRAM = """
import sys
from pathlib import Path
from toy_training import toy_network, toy_set, toy_settings
from exporter.training.fit import fit
import torch
torch.set_num_threads(1)
def stop_at_ten(done, total):  # in the middle of the third epoch
    if done == 10:
        print(done, flush=True)
        sys.stdin.read()
fit(toy_network(), toy_set(), toy_settings(schedule="cosine", shift_pixels=1), epochs=5, seed=7,
    state_file=Path(sys.argv[1]), on_progress=stop_at_ten)
"""


def test_a_process_that_is_killed_loses_less_than_an_epoch(tmp_path: Path) -> None:
    file = tmp_path / "state"
    folder = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(folder.parents[2])])}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "10\n"
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=STUCK_S)
    assert process.returncode == -signal.SIGKILL
    steps: list[int] = []
    network, expected = toy_network(), toy_network()
    settings = toy_settings(schedule="cosine", shift_pixels=1)
    fit(network, toy_set(), settings, epochs=5, seed=7, state_file=file, on_progress=lambda done, _: steps.append(done))
    fit(expected, toy_set(), settings, epochs=5, seed=7)
    assert steps == list(range(9, 21))
    assert bits(network) == bits(expected)


def test_seconds_of_before_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "state"
    with pytest.raises(StoppedError):
        fit(
            toy_network(),
            toy_set(),
            toy_settings(),
            epochs=2,
            seed=0,
            state_file=file,
            on_progress=lambda *_: time.sleep(0.05),
            on_epoch=stop_after(1),
        )
    assert fit(toy_network(), toy_set(), toy_settings(), epochs=2, seed=0, state_file=file).seconds > 4 * 0.05
