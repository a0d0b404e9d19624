"""Registering a variant: its record says what its exported graph holds, costs and gets right."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pruning_variants import lineage, write_pruned

from calibration.metrics.confidence import wilson_interval
from calibration.variants.register import Evaluation, Lineage, open_evaluation, register_variant
from exporter.project.settings import Project, load_project
from exporter.shrinking.plan import read_shrink_plan
from exporter.variants.layer_graphs import layer_graph, variants
from exporter.variants.plans import load_variant
from exporter.variants.record import VARIANT_FILE, read_variant_record
from jetson.errors import CoopexportError

WIDTHS = {"conv4_1": 9, "conv4_2": 8}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, fresh_project: Path) -> tuple[Project, Evaluation]:
    """A project with a variant that is not registered, and what it is measured with."""
    folder = Path(shutil.copytree(fresh_project, tmp_path_factory.mktemp("register") / "project"))
    project = load_project(folder / "coopexport.toml")
    write_pruned(project, "conv4_1-9", WIDTHS)
    return project, open_evaluation(project)


def predictions(project: Project, variant: str, evaluation: Evaluation) -> np.ndarray:
    """Return which images the PyTorch network has right."""
    with torch.no_grad():
        outputs = load_variant(project, variant)(torch.from_numpy(evaluation.inputs)).numpy()
    return np.asarray(outputs.argmax(1) == evaluation.dataset.labels)


def test_a_record_says_what_the_exported_graph_is(made: tuple[Project, Evaluation]) -> None:
    project, evaluation = made
    assert variants(project) == ["original"]
    origin = lineage("step2", 640, "conv4_1", 9)
    record = register_variant(project, "conv4_1-9", origin, evaluation)
    folder = project.variant_folder("conv4_1-9")
    assert read_variant_record(folder) == record
    assert variants(project) == ["original", "conv4_1-9"]
    assert (record.parent, record.step, record.cuts) == ("step1", "step2", ("conv4_1",))
    assert record.training["images_since_step1"] == 640
    graph, plan = layer_graph(project, "conv4_1-9"), read_shrink_plan(folder)
    assert (record.made_from["graph"], record.masks_sha256) == (graph.model_sha256, plan.effective_masks_sha256)
    assert [check["check"] for check in record.parity] == ["shrink", "shrink-float32", "export"]
    assert (record.widths["features.conv4_1"], record.widths["features.conv4_2"]) == (9, 8)
    assert record.macs == sum(layer.macs for layer in graph.layers)


def test_the_metric_is_that_of_the_network_on_every_image(made: tuple[Project, Evaluation]) -> None:
    project, evaluation = made
    record = register_variant(project, "conv4_1-9", lineage("step2", 0, "conv4_1", 9), evaluation)
    right, reference = (predictions(project, name, evaluation) for name in ("conv4_1-9", "original"))
    found = record.right_images()
    assert found is not None
    assert np.array_equal(found, right)
    measured = record.metric
    assert (measured.value, measured.reference) == (pytest.approx(right.mean()), pytest.approx(reference.mean()))
    assert (measured.only_reference_right, measured.only_this_right) == (
        int((reference & ~right).sum()), int((right & ~reference).sum()),
    )  # fmt: skip
    assert (measured.data, measured.data_sha256) == ("data/evaluation.npz", evaluation.measured["evaluation data"])
    assert record.interval == wilson_interval(int(right.sum()), len(right))


def test_the_original_has_no_plan_and_loses_nothing(made: tuple[Project, Evaluation]) -> None:
    project, evaluation = made
    record = register_variant(project, "original", Lineage(None, None, "original", {}, None, {}), evaluation)
    assert record.masks_sha256 is None
    assert record.metric.loss_points == 0
    assert [check["check"] for check in record.parity] == ["export"]
    assert variants(project)[0] == "original"


@pytest.mark.parametrize(("function", "interval"), [("mean", False), ("share", True)])
def test_metrics_of_ones_own(made: tuple[Project, Evaluation], function: str, interval: bool, tmp_path: Path) -> None:
    project = load_project(Path(shutil.copytree(made[0].folder, tmp_path / "project")) / "coopexport.toml")
    (project.folder / f"own_{function}.py").write_text(
        "import numpy as np\n"
        "def mean(outputs, labels):\n    return float(outputs.mean())\n"
        "def share(outputs, labels):\n    return 1 / (1 + np.abs(outputs).max(1))\n"
    )
    file = project.folder / "coopexport.toml"
    text = file.read_text()
    assert 'metric = "top1"' in text
    file.write_text(text.replace('metric = "top1"', f'metric = "own_{function}:{function}"'))
    project = load_project(file)
    record = register_variant(project, "conv4_1-9", lineage("step2", 0, "conv4_1", 9), open_evaluation(project))
    assert record.right is None
    assert (record.interval is not None) == interval
    if record.interval is not None:
        assert record.interval[0] < record.metric.value < record.interval[1]


def test_nothing_is_registered_when_the_files_are_not_whole(made: tuple[Project, Evaluation], tmp_path: Path) -> None:
    project = load_project(Path(shutil.copytree(made[0].folder, tmp_path / "project")) / "coopexport.toml")
    folder = project.variant_folder("conv4_1-9")
    for name in (VARIANT_FILE, "model.onnx"):
        (folder / name).unlink(missing_ok=True)
    (folder / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(CoopexportError, match=r"weights\.safetensors is not the file"):
        register_variant(project, "conv4_1-9", lineage("step2", 0, "conv4_1", 9), made[1])
    assert not (folder / VARIANT_FILE).exists()
    with pytest.raises(CoopexportError, match='there is no variant "conv4_1-8"'):
        register_variant(project, "conv4_1-8", lineage("step2"), made[1])
