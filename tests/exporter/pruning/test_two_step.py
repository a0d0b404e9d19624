"""Both steps of pruning on a small trained network: where they stop, what they leave, how they go on after a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pruning_case import accuracy, data, pruning_session

from exporter.pruning.channel_groups import crossing_groups
from exporter.pruning.dense_network import state_of
from exporter.pruning.session import STATE_FILE, PruningSession
from exporter.pruning.step_one import Round, StepOne, prune_whole
from exporter.pruning.step_two import Narrowed, Series, prune_series, series_of, train_controls, widths_of
from jetson.errors import CoopexportError


def prune(session: PruningSession) -> tuple[StepOne, list[Round]]:
    rounds: list[Round] = []
    return prune_whole(session, rounds.append), rounds


def conv2(session: PruningSession) -> Series:
    return Series(("conv2", "pool"), crossing_groups(session.groups, ["conv2"]))


def test_step_one_stops_when_few_filters_are_left(tmp_path: Path) -> None:
    result, rounds = prune(pruning_session(tmp_path, removed_share=0.25, least_left=0.5))
    assert [one.filters for one in rounds] == [15, 10] and rounds[-1].stopped == "filters"
    assert result.trained.dense.removed.sum() == 10
    assert accuracy(result.trained.dense.network) > 0.9, "it has learned to do without them"


def test_step_one_stops_at_the_macs_that_are_wanted_and_prunes_no_more(tmp_path: Path) -> None:
    result, rounds = prune(pruning_session(tmp_path, removed_share=0.25, least_left=0.01, macs_reduction=2.0))
    sizes = result.trained.dense.sizes()
    before, after = (sum(getattr(size, name) for size in sizes) for name in ("macs_before", "macs_after"))
    assert 2.0 <= before / after < 2.5, "one filter more than needed at most"
    assert rounds[-1].stopped == "MACs" and after == rounds[-1].macs


def test_rounds_make_the_macs_fewer_by_the_same_factor(tmp_path: Path) -> None:
    _, rounds = prune(pruning_session(tmp_path, least_left=0.01, macs_reduction=4.0, rounds=2))
    assert len(rounds) == 2
    whole = 8 * 27 * 64 + 12 * 72 * 64 + 192 * 3
    assert 0.8 < whole / rounds[0].macs / 2 < 1.25 and whole / rounds[1].macs >= 4


def test_step_one_keeps_the_last_round_within_the_bound(tmp_path: Path) -> None:
    scores = iter([0.9, 0.89, 0.885, 0.5])
    session = pruning_session(
        tmp_path, evaluate=lambda network: next(scores), removed_share=0.2, maximum_loss_points=2.0
    )
    result, rounds = prune(session)
    assert [one.stopped for one in rounds] == ["", "", "accuracy"]
    assert result.trained.score == 0.885 and result.trained.dense.removed.sum() == 8


def test_a_first_round_that_costs_too_much_is_refused_with_both_numbers(tmp_path: Path) -> None:
    scores = iter([0.9, 0.5])
    session = pruning_session(tmp_path, evaluate=lambda network: next(scores), maximum_loss_points=2.0)
    with pytest.raises(CoopexportError, match=r"costs 40\.00 points .* the limit is 2"):
        prune(session)


def test_a_goal_that_cannot_be_reached_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CoopexportError, match=r"lower prune\.macs_reduction"):
        prune(pruning_session(tmp_path, removed_share=0.5, least_left=0.001, macs_reduction=1000.0))


def test_final_training_starts_from_what_was_kept(tmp_path: Path) -> None:
    result, rounds = prune(pruning_session(tmp_path, removed_share=0.25, least_left=0.75, final_epochs=1.0))
    assert [one.stopped for one in rounds] == ["filters", "fine-tuned"]
    assert result.trained.spent.epochs == 2 and result.trained.spent.images == 2 * 96


def test_batch_norm_statistics_are_those_of_the_pruned_network(tmp_path: Path) -> None:
    """Pruned and trained, its outputs in eval mode are nearly those with each batch's own statistics."""
    result, _ = prune(pruning_session(tmp_path, removed_share=0.3, least_left=0.75, epochs=4.0))
    network = result.trained.dense.network
    inputs = torch.from_numpy(data(64, seed=2).inputs(np.arange(64)))
    with torch.no_grad():
        evaluated = network.eval()(inputs)
        own = network.train()(inputs)
    assert (evaluated.argmax(1) == own.argmax(1)).float().mean() > 0.95


def test_step_two_narrows_only_what_crosses_down_to_one_channel(tmp_path: Path) -> None:
    session = pruning_session(tmp_path, removed_share=0.2, least_left=0.85, widths=15)
    first, _ = prune(session)
    made: list[Narrowed] = []
    series = conv2(session)
    before = state_of(first.trained.dense.network)
    prune_series(session, first.trained, series, made.append)
    channels = [one.channels for one in made]
    crossing = len(first.trained.dense.plan.layers["conv2"].kept_outputs)
    assert channels == sorted(channels, reverse=True) and channels[0] < crossing and channels[-1] == 1
    for one in made:
        kept = one.trained.dense.plan.layers["conv1"].kept_outputs
        assert kept == first.trained.dense.plan.layers["conv1"].kept_outputs
        assert len(one.trained.dense.plan.layers["conv2"].kept_outputs) == one.channels
    after = first.trained.dense.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "step 1 stays as it was"


def test_controls_have_the_training_of_the_widths_and_lose_nothing(tmp_path: Path) -> None:
    session = pruning_session(tmp_path, removed_share=0.2, least_left=0.85, widths=3)
    first, _ = prune(session)
    made: list[Narrowed] = []
    prune_series(session, first.trained, conv2(session), made.append)
    controls = {}
    train_controls(session, first.trained, len(made), lambda number, trained: controls.update({number: trained}))
    assert [controls[number].spent.images for number in sorted(controls)] == [one.trained.spent.images for one in made]
    assert all(np.array_equal(one.dense.removed, first.trained.dense.removed) for one in controls.values())
    assert not torch.equal(controls[1].dense.network.fc.weight, first.trained.dense.network.fc.weight)


class KilledError(Exception):
    """Stands for a kill: nothing after it runs."""


@pytest.mark.parametrize("steps", [3, 8, 14, 20])
def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bits(tmp_path: Path, steps: int) -> None:
    """Killed in the middle of an epoch, in any round: what is done is read, the rest is as it would have been."""
    settings = {"removed_share": 0.2, "least_left": 0.6, "epochs": 2.0}
    whole, whole_rounds = prune(pruning_session(tmp_path / "whole", **settings))
    session, left = pruning_session(tmp_path / "killed", **settings), [steps]

    def kill(task: str, done: int, total: int, /) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KilledError

    with pytest.raises(KilledError):
        prune(replace(session, on_progress=kill))
    trained: list[int] = []
    again, rounds = prune(replace(session, on_progress=lambda task, done, total: trained.append(done)))
    assert [replace(one, spent=None) for one in rounds] == [replace(one, spent=None) for one in whole_rounds]
    for name, tensor in whole.trained.dense.network.state_dict().items():
        assert torch.equal(tensor, again.trained.dense.network.state_dict()[name]), name
    assert len(trained) <= sum(12 for _ in whole_rounds) - steps + 6, "no more than an epoch is done again"
    assert not (tmp_path / "killed" / STATE_FILE).exists()
    prune(replace(session, on_progress=lambda name, *_: pytest.fail(f"{name} was trained again")))


def test_what_was_pruned_before_a_kill_is_not_scored_again(tmp_path: Path) -> None:
    """Scores are a pass over the training data, too."""
    session = pruning_session(tmp_path, removed_share=0.25, least_left=0.75)

    def kill(task: str, done: int, total: int, /) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        prune(replace(session, on_progress=kill))
    result, _ = prune(replace(session, loss=lambda outputs, labels: pytest.fail("scored again")))
    assert result.trained.dense.removed.sum() == 5
    assert [path.name for path in tmp_path.iterdir()] == ["step1-round-001.safetensors"]


def test_rounds_of_another_recipe_or_damaged_ones_are_done_again(tmp_path: Path) -> None:
    settings = {"removed_share": 0.25, "least_left": 0.5}
    session = pruning_session(tmp_path, **settings)
    first, _ = prune(session)
    started: list[str] = []

    def note(name: str, done: int, total: int, /) -> None:
        if done == 1:
            started.append(name)

    prune(replace(session, made_from={"criterion": "another"}, on_progress=note))
    assert started == ["step1-round-001", "step1-round-002"]
    path = tmp_path / "step1-round-002.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    started.clear()
    again, _ = prune(replace(session, made_from={"criterion": "another"}, on_progress=note))
    assert started == ["step1-round-002"]
    for name, tensor in first.trained.dense.network.state_dict().items():
        assert torch.equal(tensor, again.trained.dense.network.state_dict()[name]), name


def test_training_stops_early_on_validation_data_and_leaves_the_best_weights(tmp_path: Path) -> None:
    session = pruning_session(tmp_path, removed_share=0.25, least_left=0.75, epochs=20.0)
    session = replace(
        session, training=session.training.model_copy(update={"patience": 2}), validation=data(60, seed=1)
    )
    result, _ = prune(session)
    assert result.trained.spent.epochs < 10
    assert result.trained.score == accuracy(result.trained.dense.network) == 1.0


def test_widths_are_the_papers() -> None:
    spaced = {int(width) for width in np.rint(np.logspace(np.log10(118), 0, 16))} - {118}
    assert widths_of(118, 15) == tuple(sorted(spaced, reverse=True))
    assert widths_of(118, 15)[-1] == 1 and widths_of(1, 15) == ()
    assert widths_of(2, 15) == (1,) and widths_of(512, 3) == (64, 8, 1)


def test_candidates_with_the_same_channels_share_a_series(tmp_path: Path) -> None:
    groups = pruning_session(tmp_path).groups
    found = series_of([(name, crossing_groups(groups, [name])) for name in ("conv1", "conv2", "pool")])
    assert [one.layers for one in found] == [("conv1",), ("conv2", "pool")]
