"""Each input of a project changed in turn: exactly those stages have to run again whose files are made from it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from conftest import run_coopexport
from safetensors.torch import load_file, save_file

from benchmarks.selection import partition_policy
from benchmarks.selection.project_selection import select_for_project
from calibration.codecs import search_file
from calibration.precision import prepare
from calibration.precision.conversion_job import PrecisionOptions
from calibration.ranges import calibration_file
from calibration.splitting import split_variant, whole_variant
from calibration.splitting.context import calibrated_from, open_context
from calibration.variants import open_pruning
from calibration.variants.registry import open_registry
from engines.building.project_items import items_of_project
from exporter.bundles.bundle import read_split, read_whole
from exporter.bundles.precision_file import read_precision
from exporter.bundles.records import read_record
from exporter.project.freshness import FORMAT, changed_inputs
from exporter.project.settings import Project, load_project
from exporter.shrinking import plan as shrink_plan
from exporter.variants import layer_graphs, plans, record
from exporter.variants.record import read_variant_record
from exporter.variants.staleness import measured_inputs, record_inputs
from jetson.errors import StaleError
from jetson.files.json_files import read_json

CODE = {
    "my_net.py": "from exporter.models.vgg import vgg16\nimport my_blocks\n\n\ndef build(**arguments):\n"
    "    return vgg16(**arguments)\n",
    "my_blocks.py": "",
    "my_metric.py": "import my_scores\n\n\ndef right(outputs, labels):\n    return outputs.argmax(axis=1) == labels\n",
    "my_scores.py": "",
    "my_loss.py": "from torch.nn.functional import cross_entropy\n",
}
# What is made of the network as it is, and then of what images.
CALIBRATED = {"calibrate", "search", "split", "whole", "precision"}
EVALUATED = {"split", "whole", "precision", "record"}
PRUNED = {"step 1", "step 2"}
NETWORK = {"layers", *CALIBRATED, *EVALUATED, *PRUNED}


def edited(file: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))

    return edit


def setting(section: str, key: str, value: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "coopexport.toml"
        head, found, rest = path.read_text().partition(f"\n[{section}]\n")
        own, end, others = rest.partition("\n[")
        changed, count = re.subn(rf"(?m)^(# )?{key} = [^#\n]*", f"{key} = {value} ", own)
        assert count == 1
        path.write_text(head + found + changed + end + others)

    return edit


def weights(file: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(folder / file)
        tensors["classifier.bias"] += 1
        save_file(tensors, folder / file)

    return edit


def masks(folder: Path) -> None:
    tensors = load_file(folder / "masks.safetensors")
    save_file(tensors, folder / "masks.safetensors", {"origin": "another"})


def labels(purpose: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        with np.load(folder / "data" / f"{purpose}.npz") as content:
            arrays = dict(content)
        np.savez(folder / "data" / f"{purpose}.npz", **{**arrays, "labels": arrays["labels"][::-1]})

    return edit


# What is changed, what the messages call it, and which stages have to run again.
CHANGES: Mapping[str, tuple[Callable[[Path], None], str, set[str]]] = {
    "checkpoint": (weights("network.safetensors"), "checkpoint", NETWORK),
    "pruned checkpoint": (weights("pruned.safetensors"), "checkpoint", {"shrink"}),
    "masks": (masks, "masks", {"shrink"}),
    "factory": (edited("my_net.py", "build", "build "), "network code", {"shrink", *NETWORK}),
    "what the factory imports": (edited("my_blocks.py", "", "x = 1\n"), "network code", {"shrink", *NETWORK}),
    "arguments": (edited("coopexport.toml", "classes = 10", "classes = 11"), "model settings", {"shrink", *NETWORK}),
    "preprocessing": (
        edited("coopexport.toml", "scale = ", "scale = 2"),
        "preprocessing",
        NETWORK - {"layers"},
    ),
    "training data": (labels("training"), "training data", PRUNED),
    "calibration data": (labels("calibration"), "calibration data", CALIBRATED),
    "calibration samples": (setting("data", "calibration_samples", 100), "calibration data", CALIBRATED),
    "evaluation data": (labels("evaluation"), "evaluation data", EVALUATED),
    "metric": (edited("my_metric.py", "right", "right "), "metric", {"search", *EVALUATED, *PRUNED}),
    "what the metric imports": (edited("my_scores.py", "", "x = 1\n"), "metric", {"search", *EVALUATED, *PRUNED}),
    "loss": (edited("my_loss.py", "from", "from "), "loss", PRUNED),
    "[training]": (setting("training", "learning_rate", 0.5), "training settings", PRUNED),
    "[prune]": (setting("prune", "removed_share", 0.5), "prune settings", PRUNED),
    "[prune], step 2": (setting("prune", "widths", 3), "step two settings", {"step 2"}),
    "[split] bits": (setting("split", "bits", 7), "split settings", {"split"}),
    "[split] percentile": (setting("split", "percentile", 90.0), "split settings", {"split", "calibrate"}),
    "[split] at": (setting("split", "at", '"pre-activation"'), "split settings", {"split", "search"}),
    "[split] which cuts": (setting("split", "maximum_loss_points", 50.0), "", set()),
    "[select] JPEG": (setting("select", "jpeg_quality", 50), "select settings", {"whole"}),
    "[select]": (setting("select", "device_slowdown", 9.0), "", set()),  # of the plan alone, which is below
    "[bench]": (setting("bench", "rounds", 9), "", set()),
    "[build]": (setting("build", "precision", '"fp16"'), "", set()),
    "nothing": (lambda folder: None, "", set()),
    "times of files": (lambda folder: [os.utime(file, (1, 1)) for file in folder.rglob("*")], "", set()),  # type: ignore
}
FORMATS = {
    "shrink": (shrink_plan, "SCHEMA"),
    "layers": (layer_graphs, "SCHEMA"),
    "calibrate": (calibration_file, "SCHEMA"),
    "split": (split_variant, "SPLIT_SCHEMA"),
    "whole": (whole_variant, "WHOLE_SCHEMA"),
    "precision": (prepare, "PRECISION_SCHEMA"),
    "record": (record, "SCHEMA"),
}


@pytest.fixture(scope="module")
def finished(split_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with code, metric and loss of its own, of which every stage has run but search and pruning."""
    folder = Path(shutil.copytree(split_project, tmp_path_factory.mktemp("fresh") / "project"))
    for name, text in CODE.items():
        (folder / name).write_text(text)
    edited("coopexport.toml", "exporter.models.vgg:vgg16", "my_net:build")(folder)
    edited("coopexport.toml", 'metric = "top1"', 'metric = "my_metric:right"')(folder)
    setting("training", "loss", '"my_loss:cross_entropy"')(folder)
    for arguments in (
        ["shrink"],
        ["split", "--layer", "conv4_1", "--layer", "pool3"],
        ["precision", "--variant", "original", "--layer", "conv4_1", "--precision", "fp16"],
        ["variants"],
        ["select"],  # by the latencies of the graphs, which are the same as before
    ):
        result = run_coopexport(folder, *arguments)
        assert result.code == 0, result.errors
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of it to write into, files with their times."""
    return Path(shutil.copytree(finished, tmp_path / "project"))


def made_now(project: Project) -> dict[str, Mapping[str, str]]:
    """Return what search and pruning, which take long, would record now."""
    context = context_of(project)
    step_one = open_pruning.pruning_inputs(project, project.settings.prune, project.settings.training)
    step_two = open_pruning.step_two_inputs(step_one, project.settings.prune)
    searched = search_file.search_inputs(calibrated_from(context), context.made_from["metric"], context.settings)
    return {"search": searched, "step 1": step_one, "step 2": step_two}  # type: ignore[dict-item]


def context_of(project: Project):  # type: ignore[no-untyped-def]
    folder = project.variant_folder("original")
    return open_context(project, project.settings.split, layer_graphs.read_layer_graph(folder, "original"))


def changed_by_stage(project: Project, before: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return, of every stage that has to run again, which inputs have changed. `before`: what has no file."""
    folder, context = project.variant_folder("original"), context_of(project)
    split, options = read_split(folder, "conv4_1"), PrecisionOptions("fp16")
    pruned = shrink_plan.read_shrink_plan(project.variant_folder("pruned"))
    ranges = read_record(calibration_file.CalibrationFile, folder / "calibration.json", calibration_file.SCHEMA)
    chosen = calibration_file.chosen_by(calibration_file.clip_settings(project.settings.split))
    (of_range,) = {ranges.settings[tensor.name] for tensor in split.tensors}
    recorded = {
        **before,
        "shrink": pruned.made_from,
        "layers": context.graph.made_from,
        "calibrate": {**ranges.made_from, "split settings": of_range},
        "split": split.made_from,
        "whole": read_whole(folder).made_from,
        "precision": read_precision(folder, "conv4_1", "fp16").made_from,
        "record": read_variant_record(folder).made_from,
    }
    measured = measured_inputs(project)
    now = {
        **made_now(project),
        "shrink": {**plans.shrink_inputs(project, "file", None), FORMAT: shrink_plan.SCHEMA},
        "layers": {**layer_graphs.graph_inputs(project, "original"), FORMAT: layer_graphs.SCHEMA},
        "calibrate": {**calibrated_from(context), "split settings": chosen, FORMAT: calibration_file.SCHEMA},
        "split": split_variant.split_inputs(context),
        "whole": whole_variant.written_inputs(context),
        # Its bundle is made again first, from what is there now.
        "precision": prepare.converted_inputs(
            split.model_copy(update={"made_from": {**split.made_from, **context.made_from}}), options
        ),
        "record": {
            **record_inputs(project, "original", context.graph.model_sha256, measured),
            FORMAT: record.SCHEMA,
        },
    }
    found = {stage: changed_inputs(recorded[stage], inputs) for stage, inputs in now.items()}
    return {stage: names for stage, names in found.items() if names}


@pytest.mark.parametrize("change", CHANGES)
def test_exactly_the_stages_that_a_change_concerns_have_to_run_again(folder: Path, change: str) -> None:
    edit, name, stages = CHANGES[change]
    before = made_now(load_project(folder / "coopexport.toml"))
    edit(folder)
    found = changed_by_stage(load_project(folder / "coopexport.toml"), before)
    assert set(found) == stages
    of_record = (name, "original network") if "layers" in stages else (name,)  # it is the original's, too
    assert all(names == (of_record if stage == "record" else (name,)) for stage, names in found.items())


@pytest.mark.parametrize("stage", FORMATS)
def test_another_format_concerns_its_own_stage_alone(folder: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    project = load_project(folder / "coopexport.toml")
    before = made_now(project)
    module, name = FORMATS[stage]
    monkeypatch.setattr(module, name, f"{getattr(module, name)}9")
    found = changed_by_stage(project, before)
    assert found == {stage: (FORMAT,)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("checkpoint", "variant original was split before checkpoint changed; run: coopexport split --all"),
        ("what the factory imports", "original was split before network code changed; run: coopexport split --all"),
        ("arguments", "original was split before model settings changed; run: coopexport split --all"),
        ("preprocessing", "original was split before preprocessing changed; run: coopexport split --all"),
        ("calibration data", "original was split before calibration data changed; run: coopexport split --all"),
        ("evaluation data", "original was split before evaluation data changed; run: coopexport split --all"),
        ("metric", "original was split before metric changed; run: coopexport split --all"),
        ("masks", "variant pruned was made before masks changed; run: coopexport shrink"),
        ("pruned checkpoint", "variant pruned was made before checkpoint changed; run: coopexport shrink"),
    ],
)
def test_what_is_built_and_selected_from_is_refused_by_name(folder: Path, change: str, said: str) -> None:
    CHANGES[change][0](folder)
    project = load_project(folder / "coopexport.toml")
    with pytest.raises(StaleError, match=said):
        items_of_project(project)
    with pytest.raises(StaleError, match=said):
        select_for_project(project, project.settings.select, "cpu")


@pytest.mark.parametrize("change", ["training data", "[split] bits", "[prune]", "loss", "times of files"])
def test_what_bundles_are_not_made_from_does_not_stop_a_build(folder: Path, change: str) -> None:
    CHANGES[change][0](folder)
    assert items_of_project(load_project(folder / "coopexport.toml")).items


def test_the_plan_says_what_it_is_made_from(folder: Path) -> None:
    project = load_project(folder / "coopexport.toml")
    stored = read_json(str(project.output / "plan.json"), partition_policy.SCHEMA)["made_from"]
    now = partition_policy.plan_inputs(select_for_project(project, project.settings.select, "cpu"))
    assert changed_inputs(stored, now) == ()
    setting("select", "device_slowdown", 9.0)(folder)
    project = load_project(folder / "coopexport.toml")
    now = partition_policy.plan_inputs(select_for_project(project, project.settings.select, "cpu"))
    assert changed_inputs(stored, now) == ("select settings",)


def test_files_of_an_earlier_version_are_made_again_or_refused(folder: Path) -> None:
    """They do not say what they were made from."""
    for name in ("conv4_1.split.json", "whole.json"):
        path = folder / "out" / "original" / name
        content = json.loads(path.read_text())
        made_from = content.pop("made_from")
        path.write_text(json.dumps({**content, "source_sha256": "a" * 64, "recipe_sha256": "b" * 64}))
        assert made_from
    project = load_project(folder / "coopexport.toml")
    said = "variant original was split by an earlier version, which did not note from what; run: coopexport split --all"
    with pytest.raises(StaleError, match=said):
        items_of_project(project)
    result = run_coopexport(folder, "split", "--layer", "conv4_1", "--layer", "pool3")
    assert result.code == 0, result.errors
    assert items_of_project(project).items
    assert json.loads((folder / "out/original/whole.json").read_text())["made_from"] == made_from


def test_a_project_that_is_finished_loads_no_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is there: no image is read, nothing runs, and nothing is written."""
    written = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*") if path.is_file()}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("data were loaded")

    for module in ("calibration.splitting.context", "calibration.variants.register"):
        monkeypatch.setattr(f"{module}.load_dataset", refuse)
    for arguments in (
        ["split", "--layer", "conv4_1"],
        ["precision", "--variant", "original", "--layer", "conv4_1", "--precision", "fp16"],
        ["calibrate", "--layer", "conv4_1"],
    ):
        result = run_coopexport(folder, *arguments)
        assert result.code == 0, result.errors
    project = load_project(folder / "coopexport.toml")
    assert open_registry(project).outdated == {}
    assert written == {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*") if path.is_file()}
