"""Converting a project: records are those on disk, refusals are collected, and sensitivity writes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests_support import files_below

from calibration.precision.convert_project import (
    ConvertRequest,
    NetworkSensitivity,
    convert_project,
    measure_sensitivity,
)
from calibration.splitting.context import open_context
from calibration.splitting.whole_variant import write_whole
from exporter.bundles.precision_file import read_precision
from exporter.data.datasets import load_dataset
from exporter.onnx_graphs.session import open_session, run
from exporter.project.settings import Project, load_project
from exporter.variants.layer_graphs import layer_graph
from jetson.errors import CoopexportError
from jetson.runtime import preprocessing

METRIC = """from pathlib import Path
import numpy as np
def near(outputs, labels):
    name = "evaluation" if len(outputs) == 200 else "calibration"
    reference = np.load(Path(__file__).with_name(name + ".npy"))[: len(outputs)]
    return float((np.abs(outputs - reference).max(axis=1) < 0.005 * reference.std()).mean())
"""


@pytest.fixture(scope="module")
def project(split_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was split at conv4_1 and pool3, as original and pruned, to write into."""
    folder = Path(shutil.copytree(split_project, tmp_path_factory.mktemp("convert") / "project"))
    return load_project(folder / "coopexport.toml")


def test_records_are_those_on_disk_and_what_costs_too_much_is_named(project: Project, tmp_path: Path) -> None:
    """By a metric of the user's own: the share of images whose outputs are within 0.5 % of float32's."""
    folder = Path(shutil.copytree(project.folder, tmp_path / "project"))
    whole = open_session(folder / "out" / "original" / "model.onnx", "disabled")
    for name in ("calibration", "evaluation"):
        inputs = preprocessing.apply(project.preprocessing, load_dataset(project, name).images)
        np.save(folder / f"{name}.npy", run(whole, [inputs])[0])
    (folder / "share_of_near.py").write_text(METRIC)
    file = folder / "coopexport.toml"
    file.write_text(file.read_text().replace('metric = "top1"', 'metric = "share_of_near:near"'))
    events: list[object] = []
    steps: list[tuple[str, int, int]] = []
    own = load_project(file)
    write_whole(open_context(own, own.settings.split, layer_graph(own, "original")))
    result = convert_project(
        own,
        ConvertRequest(("original",), whole=True, mixed=False),
        lambda *step: steps.append(step),
        events.append,
    )
    assert events == [0]
    assert steps == [("converting original", 1, 2), ("converting original", 2, 2)]
    (record,), (reason,) = result.records, result.refused
    assert record == read_precision(folder / "out" / "original", "whole", "fp16")
    assert record.against_float32.name == "share_of_near:near"
    assert record.against_float32.reference == 1
    assert result.paths == (folder / "out" / "original" / "whole.fp16.json",)
    assert reason.startswith("whole of original in int8 costs ")
    assert "of share_of_near:near against float32" in reason
    assert not (folder / "out" / "original" / "whole.int8.json").exists()


def test_all_means_every_cut_in_the_networks_order_and_the_network_itself(project: Project) -> None:
    request = ConvertRequest(("pruned",), all_layers=True, precisions=("fp16",), maximum_loss_points=5)
    result = convert_project(project, request)
    assert [record.layer for record in result.records] == ["pool3", "conv4_1", "whole"]
    assert {record.variant for record in result.records} == {"pruned"}


def test_a_variant_that_was_not_split_there_is_left_out(project: Project, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(project.folder, tmp_path / "project"))
    (folder / "out" / "original" / "pool3.split.json").unlink()
    told: list[int] = []
    request = ConvertRequest(layers=("pool3",), precisions=("fp16",), maximum_loss_points=5)
    result = convert_project(load_project(folder / "coopexport.toml"), request, on_left_out=told.append)
    assert told == [result.left_out] == [1]
    assert [record.variant for record in result.records] == ["pruned"]


def test_sensitivity_is_of_every_layer_and_writes_nothing(project: Project) -> None:
    before = files_below(project.folder)
    told: list[NetworkSensitivity] = []
    steps: list[tuple[str, int, int]] = []
    request = ConvertRequest(("original",), ("conv4_1",), precisions=("int8",))
    result = measure_sensitivity(project, request, 40, lambda *step: steps.append(step), told.append)
    (found,) = result.networks
    assert told == [found]
    assert (found.variant, found.layer, found.precision, found.samples) == ("original", "conv4_1", "int8", 40)
    assert len(found.layers) == 14  # 13 convolutions and the classifier
    errors = [item.output_error for item in found.layers if item.output_error is not None]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0
    assert steps[-1] == ("int8 of original, conv4_1", 14, 14)
    assert files_below(project.folder) == before


@pytest.mark.parametrize("verb", [convert_project, measure_sensitivity])
@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (ConvertRequest(), "say what to convert"),
        (ConvertRequest(layers=("conv9",)), 'there is no layer "conv9"'),
        (ConvertRequest(layers=("conv1_1",)), "there is no split bundle"),
        (ConvertRequest(whole=True, precisions=("int4",)), 'precision "int4" is unknown; use one of fp16, int8'),  # type: ignore[arg-type]
        (ConvertRequest(whole=True, maximum_loss_points=-1), "maximum_loss_points is -1; give 0 or more"),
        (ConvertRequest(whole=True, maximum_loss_points=float("nan")), "maximum_loss_points is nan; give 0 or more"),
        (ConvertRequest(whole=True, fallback="int8"), 'fallback "int8" is unknown; use fp32 or fp16'),  # type: ignore[arg-type]
        (ConvertRequest(("original",), ("conv4_1",), float32_layers=("conv9",)), 'there is no layer "conv9"'),
    ],
)
def test_what_cannot_be_converted_is_refused(
    project: Project, verb: Callable[..., object], request_: ConvertRequest, said: str
) -> None:
    before = files_below(project.folder)
    with pytest.raises(CoopexportError, match=said):
        verb(project, request_)
    assert files_below(project.folder) == before


def test_one_image_tells_no_layers_apart(project: Project) -> None:
    with pytest.raises(CoopexportError, match="give 2 or more"):
        measure_sensitivity(project, ConvertRequest(whole=True), 1)
