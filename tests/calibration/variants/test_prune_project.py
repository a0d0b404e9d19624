"""Pruning a project: what is returned is what is on disk and what the user's own network says, told as it is done."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import pytest
import torch
from chain_project import write_chain_project
from pruning_case import Chain, accuracy
from safetensors.torch import load_file

from calibration.variants.prune_project import Pruned, PruneRequest, PruneResult, prune_project
from calibration.variants.variant_maker import LeftOut
from exporter.project.overrides import SettingError
from exporter.project.settings import Project, PruneSection, TrainingSection, load_project
from exporter.pruning.session import STATE_FILE
from exporter.pruning.step_one import Round
from exporter.variants.record import VariantRecord, read_variant_record
from jetson.errors import CoopexportError

REQUEST = PruneRequest(("conv2",), controls=False, widths=1)


@dataclass(frozen=True)
class Pruning:
    """A project that was pruned, what came back, and what was told meanwhile. Do not write into its folder."""

    project: Project
    result: PruneResult
    told: tuple[Pruned, ...]
    steps: tuple[tuple[str, int, int], ...]


@pytest.fixture(scope="module")
def pruning(tmp_path_factory: pytest.TempPathFactory) -> Pruning:
    project = write_chain_project(tmp_path_factory.mktemp("chain"))
    told: list[Pruned] = []
    steps: list[tuple[str, int, int]] = []
    result = prune_project(project, REQUEST, lambda *step: steps.append(step), told.append)
    return Pruning(project, result, tuple(told), tuple(steps))


def macs_of(weights: dict[str, torch.Tensor]) -> int:
    """Return the multiplications of one image: a convolution's kernels are used at 8 x 8 places, the rest once."""
    kernels = [weight.shape for name, weight in weights.items() if name.endswith("weight") and weight.dim() > 1]
    return sum(prod(shape) * (64 if len(shape) == 4 else 1) for shape in kernels)


def test_records_and_sizes_are_those_of_the_files(pruning: Pruning) -> None:
    folder, result = pruning.project.folder, pruning.result
    assert [record.variant for record in result.variants] == ["step1", "conv2-1"]
    for record in result.variants:
        assert record == read_variant_record(pruning.project.variant_folder(record.variant))
    before, after = (load_file(folder / name) for name in ("network.safetensors", "out/step1/weights.safetensors"))
    assert (result.macs_before, result.macs_after) == (macs_of(before), macs_of(after))
    assert result.macs_after < result.macs_before
    network = Chain()
    network.load_state_dict(before)
    assert result.score_before == accuracy(network) > 0.9
    assert result.score_after == [one.score for one in result.rounds if one.stopped != "accuracy"][-1]
    assert result.left_out == ()


def test_everything_is_told_in_the_order_in_which_it_is_done(pruning: Pruning) -> None:
    rounds = [found for found in pruning.told if isinstance(found, Round)]
    before, *others = pruning.result.rounds  # the first is the network before any pruning: nothing was done for it
    assert (before.number, before.score) == (0, pruning.result.score_before)
    assert rounds == others
    assert len(rounds) > 1
    assert pruning.told == (*rounds, *pruning.result.variants)
    tasks = list(dict.fromkeys(task for task, _, _ in pruning.steps))
    assert tasks[0] == "step1-round-001"
    assert any("conv2" in task for task in tasks)
    for task in tasks:
        counted = [(done, total) for name, done, total in pruning.steps if name == task]
        assert [done for done, _ in counted] == list(range(1, counted[0][1] + 1)), task


def test_what_is_done_is_kept_and_a_candidate_that_cannot_be_pruned_is_left_out(
    pruning: Pruning, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pruning.project.folder, tmp_path / "chain"))
    file = folder / "coopexport.toml"
    file.write_text(file.read_text().replace('["conv1", "conv2", "pool"]', '["conv2", "fc"]'))
    project = load_project(file)
    told: list[Pruned] = []
    result = prune_project(
        project,
        PruneRequest(controls=False, widths=1),
        lambda task, done, total: pytest.fail(f"{task} was trained again"),
        told.append,
    )
    assert result.variants == pruning.result.variants
    assert result.left_out == (LeftOut("fc", "no channel that crosses after 'fc' can be removed"),)
    assert [type(found) for found in told][-2:] == [LeftOut, VariantRecord]
    with pytest.raises(CoopexportError, match="no channel that crosses after 'fc' can be removed"):
        prune_project(project, PruneRequest(("fc",), controls=False, widths=1))


def test_a_damaged_state_of_an_interrupted_training_is_told_of(
    pruning: Pruning, coopexport: Callable, tmp_path: Path
) -> None:
    chain = tmp_path / "chain"
    folder = Path(shutil.copytree(pruning.project.folder, chain, ignore=shutil.ignore_patterns("out")))
    project = load_project(folder / "coopexport.toml")
    state = folder / "out" / "pruning" / "two-step" / STATE_FILE
    state.parent.mkdir(parents=True)
    state.write_bytes(b"cut short")
    told: list[str] = []
    result = prune_project(project, PruneRequest(step=1, removed_share=0.4), on_warning=told.append)
    assert told == [f"{state} is damaged; training starts anew"]
    assert [record.variant for record in result.variants] == ["step1"]
    shutil.rmtree(folder / "out")
    state.parent.mkdir(parents=True)
    state.write_bytes(b"cut short")
    printed = coopexport(folder, "prune", "two-step", "--step", "1", "--removed-share", "0.4")
    assert printed.errors == f"warning: {told[0]}\n"


def test_every_setting_of_a_request_is_a_key_of_one_of_the_sections() -> None:
    settings = {name for name, value in vars(PruneRequest()).items() if value is None} - {"series"}
    assert settings and settings <= set(PruneSection.model_fields) | set(TrainingSection.model_fields)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (PruneRequest(step=3), "there is no step 3 of pruning"),  # type: ignore[arg-type]
        (PruneRequest(("conv9",)), 'there is no layer "conv9"'),
        (PruneRequest(series="../up"), "cannot begin the name of a folder"),
        (PruneRequest(rounds=4), "^rounds needs macs_reduction"),
        (
            PruneRequest(seed=3, controls=False),
            r"variants of another pruning \(step1, conv2-1; other training settings, step two settings\)",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(pruning: Pruning, request_: PruneRequest, said: str) -> None:
    with pytest.raises(CoopexportError, match=said):
        prune_project(pruning.project, request_)


def test_a_setting_of_training_names_its_key(pruning: Pruning) -> None:
    with pytest.raises(SettingError) as error:
        prune_project(pruning.project, PruneRequest(learning_rate=-1.0))
    assert error.value.key == "learning_rate"
