"""Training on a GPU: `pytest -m gpu`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy_training import toy_network, toy_set, toy_settings

from exporter.training.fit import fit
from exporter.training.placement import choose_device

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_it_learns_and_comes_back_to_the_cpu(optimizer: str, mixed: bool) -> None:
    assert choose_device("auto").type == "cuda"
    network, seen = toy_network(), []
    parameters = dict(network.named_parameters())
    settings = toy_settings(
        device="cuda",
        optimizer=optimizer,
        learning_rate=0.02,
        mixed_precision=mixed,
        shift_pixels=1,
        flip=False,
        distillation_weight=0.2,
    )
    teacher = toy_network(seed=1)
    random_state = torch.cuda.get_rng_state()
    judged = toy_set(80, 1)
    fit(network, toy_set(160), settings, epochs=15, seed=1, teacher=teacher, validation=judged, on_epoch=seen.append)
    assert seen[-1].score > 0.95
    assert all(parameter is parameters[name] for name, parameter in network.named_parameters())
    tensors = [*network.state_dict().values(), *teacher.state_dict().values()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    assert torch.equal(torch.cuda.get_rng_state(), random_state)
    everything = np.arange(80)
    right = network(torch.from_numpy(judged.inputs(everything))).argmax(1).numpy() == judged.labels(everything)
    assert right.mean() == pytest.approx(seen[-1].score, abs=0.03)


def test_it_goes_on_after_a_kill(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(_: object) -> None:
        raise StoppedError

    state, numbers = tmp_path / "state", []
    settings = toy_settings(device="cuda", learning_rate=0.02)
    with pytest.raises(StoppedError):
        fit(toy_network(), toy_set(), settings, epochs=10, seed=1, state_file=state, on_epoch=stop)
    result = fit(
        toy_network(),
        toy_set(),
        settings,
        epochs=10,
        seed=1,
        state_file=state,
        on_epoch=lambda epoch: numbers.append(epoch.number),
    )
    assert numbers == list(range(2, 11))
    assert result.losses[-1] < 0.5 * result.losses[0]
