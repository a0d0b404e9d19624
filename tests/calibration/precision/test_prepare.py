"""What a precision writes down equals what anyone can compute again from its files; and its refusals."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from tests_support import files_below

from calibration.precision.conversion_job import PrecisionOptions, PrecisionRefusedError, open_conversion_job
from calibration.precision.half_evaluator import rounding_graph
from calibration.precision.int8_ranges import RangeSettings
from calibration.precision.prepare import prepare_precision
from calibration.splitting.context import SplitContext, open_context
from exporter.bundles.bundle import read_golden, read_split, verify_file, verify_weights
from exporter.bundles.golden import golden_head_outputs, golden_outputs
from exporter.bundles.precision_file import PrecisionFile, read_precision
from exporter.data.datasets import load_dataset
from exporter.onnx_graphs.session import open_session, run
from exporter.onnx_graphs.weight_store import with_weights
from exporter.project.freshness import changed_inputs
from exporter.project.settings import load_project
from exporter.variants.layer_graphs import layer_graph
from jetson.errors import CoopexportError
from jetson.runtime import preprocessing

LAYERS = ("conv4_1", "whole")


@pytest.fixture(scope="module")
def folder(split_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(split_project, tmp_path_factory.mktemp("precision") / "project"))


@pytest.fixture(scope="module")
def context(folder: Path) -> SplitContext:
    project = load_project(folder / "coopexport.toml")
    return open_context(project, project.settings.split, layer_graph(project, "original"))


@pytest.fixture(scope="module")
def records(context: SplitContext) -> dict[tuple[str, str], PrecisionFile]:
    """Every layer in every precision, whatever it loses: the network is tiny."""
    return {
        (layer, name): prepare_precision(context, layer, PrecisionOptions(name, maximum_loss_points=5.0))[1]
        for layer in LAYERS
        for name in ("fp16", "int8")
    }


def graphs(context: SplitContext, record: PrecisionFile) -> dict[str, onnx.ModelProto]:
    folder = context.graph.folder
    found = {}
    for role in record.roles:
        path = verify_file(folder, record.roles[role].file)
        verify_weights(folder, path)
        found[role] = with_weights(onnx.load(str(path), load_external_data=False), folder)
    return found


def compute(model: onnx.ModelProto, record: PrecisionFile, inputs: np.ndarray) -> np.ndarray:
    runnable = rounding_graph(model) if record.precision == "fp16" else model
    return run(open_session(runnable, "disabled"), [inputs])[0]


@pytest.mark.parametrize("name", ["fp16", "int8"])
@pytest.mark.parametrize("layer", LAYERS)
def test_metric_and_golden_are_those_of_the_written_files(
    records, context: SplitContext, layer: str, name: str
) -> None:
    record = records[layer, name]
    assert record == read_precision(context.graph.folder, layer, name)
    made = graphs(context, record)
    evaluation = load_dataset(context.project, "evaluation")
    value = preprocessing.apply(context.project.preprocessing, evaluation.images)
    for model in made.values():
        value = compute(model, record, value)
    right = value.argmax(axis=1) == evaluation.labels
    assert record.metric.value == record.against_float32.value == pytest.approx(right.mean())
    assert record.metric.samples == len(right)
    assert record.metric.data_sha256 == record.against_float32.data_sha256 == record.made_from["evaluation data"]
    golden = read_golden(context.graph.folder, record.golden)
    assert {len(array) for array in golden.values()} == {16}
    head_outputs = golden["inputs"]
    if layer != "whole":
        head_outputs = compute(made["head"], record, golden["inputs"])
        assert np.array_equal(head_outputs, golden_head_outputs(golden)[0])
    assert np.array_equal(
        compute(made["tail" if layer != "whole" else "whole"], record, head_outputs), golden_outputs(golden)[0]
    )


@pytest.mark.parametrize("layer", LAYERS)
def test_float32_answers_are_kept_as_promised(records, layer: str) -> None:
    fp16, int8 = (records[layer, name] for name in ("fp16", "int8"))
    assert fp16.changed_answers == 0
    assert fp16.against_float32.only_reference_right == fp16.against_float32.only_this_right == 0
    assert int8.against_float32.loss_points <= 1.0
    assert fp16.rounding.output_error < 0.01
    assert fp16.rounding.output_error < int8.rounding.output_error


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_bounds_let_another_rounding_pass_and_another_network_not(records, context: SplitContext, name: str) -> None:
    """ONNX Runtime at full optimisation runs other kernels; float32 is as far off as a wrong precision may be."""
    record = records["conv4_1", name]
    made = graphs(context, record)
    golden = read_golden(context.graph.folder, record.golden)
    symbols, outputs = golden_head_outputs(golden)[0].astype(int), golden_outputs(golden)[0]
    spread = np.ptp(outputs, axis=0).max()

    def fits(head: onnx.ModelProto, tail: onnx.ModelProto) -> tuple[bool, bool]:
        bounds = {role: item.bounds for role, item in record.roles.items()}
        difference = np.abs(run(open_session(head, "all"), [golden["inputs"]])[0] - symbols)
        error = np.abs(run(open_session(tail, "all"), [golden_head_outputs(golden)[0]])[0] - outputs).max() / spread
        few = (difference > 0).mean() <= bounds["head"].symbol_fraction
        return bool(few and difference.max() <= bounds["head"].symbol_difference), error <= bounds["tail"].output_error

    assert fits(made["head"], made["tail"]) == (True, True)
    wrong = {role: onnx.ModelProto() for role in made}
    for role, model in made.items():
        wrong[role].CopyFrom(model)
        largest = max(wrong[role].graph.initializer, key=lambda item: len(item.raw_data))
        largest.raw_data = largest.raw_data[64:] + largest.raw_data[:64]  # weights moved by some places
    assert fits(wrong["head"], wrong["tail"]) == (False, False)


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_bounds_are_twice_what_the_precision_costs(records, name: str) -> None:
    whole, cut = records["whole", name], records["conv4_1", name]
    bounds = whole.roles["whole"].bounds
    assert bounds.output_error == pytest.approx(max(1e-3, 2 * whole.rounding.output_error))
    assert (bounds.symbol_fraction, bounds.symbol_difference) == (1e-3, 1)
    head, rounding = cut.roles["head"].bounds, cut.rounding
    assert head.symbol_fraction == pytest.approx(min(1, max(1e-3, 2 * rounding.symbol_fraction)))
    assert head.symbol_difference == (1 if rounding.symbol_difference <= 1 else 2 * rounding.symbol_difference)


def test_graphs_hold_what_their_names_say(records, context: SplitContext) -> None:
    for (_, name), record in records.items():
        for role, model in graphs(context, record).items():
            kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.raw_data) > 64}
            assert (TensorProto.FLOAT16 if name == "fp16" else TensorProto.INT8) in kinds
            ends = [
                (value.name, value.type.tensor_type.elem_type) for value in (*model.graph.input, *model.graph.output)
            ]
            expected = {"head": [("images", 1), ("symbols_0", 2)], "tail": [("symbols_0", 2), ("scores", 1)],
                        "whole": [("images", 1), ("scores", 1)]}  # fmt: skip
            assert ends == expected[role]


def test_encoding_stays_in_float32(records, context: SplitContext) -> None:
    head = graphs(context, records["conv4_1", "fp16"])["head"]
    encoder = next(node for node in head.graph.node if node.op_type == "FeatureEncode")
    maker = next(node for node in head.graph.node if node.output[0] == encoder.input[0])
    assert maker.op_type == "Cast"
    assert [attribute.i for attribute in maker.attribute] == [TensorProto.FLOAT]


def test_the_same_recipe_makes_nothing_anew_and_another_does(folder: Path, context: SplitContext, records) -> None:
    path = context.graph.folder / "conv4_1.int8.json"
    options = PrecisionOptions("int8", maximum_loss_points=5.0)
    before = path.stat().st_mtime_ns
    assert prepare_precision(context, "conv4_1", options)[0] == path
    assert path.stat().st_mtime_ns == before
    graph = context.graph.folder / "conv4_1.head.int8.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    assert prepare_precision(context, "conv4_1", options)[1] == records["conv4_1", "int8"]
    assert path.stat().st_mtime_ns != before
    other = PrecisionOptions("int8", 5.0, RangeSettings("minmax"), keep=("conv1_2",))
    changed = prepare_precision(context, "conv4_1", other)[1]
    assert changed_inputs(records["conv4_1", "int8"].made_from, changed.made_from) == ("precision settings",)
    assert changed.ranges == {"method": "minmax"}
    assert [(item.layer, item.reason) for item in changed.roles["head"].float32_layers] == [
        ("conv1_2", "chosen by name")
    ]
    prepare_precision(context, "conv4_1", options)


@pytest.mark.parametrize("labelled", [True, False])
def test_sensitive_layers_stay_in_float32_and_say_so(
    context: SplitContext, monkeypatch: pytest.MonkeyPatch, labelled: bool
) -> None:
    """A network whose int8 loses nothing would not show it: here one layer's range is ruined on purpose.

    Calibration data need no labels for it: float32's own answers are what must not change.
    """
    from calibration.precision import conversion, conversion_job

    if not labelled:
        unknown = dataclasses.replace(context.data.calibration, labels=np.zeros_like(context.data.calibration.labels))
        context = open_context(context.project, context.settings, context.graph)
        context.data.__dict__["calibration"] = unknown
    real = conversion.int8_ranges

    def ruined(histograms, settings):
        found = real(histograms, settings)
        first = next(iter(found))
        return {**found, first: found[first] * 400}

    monkeypatch.setattr(conversion, "int8_ranges", ruined)
    options = PrecisionOptions("int8", maximum_loss_points=1.0)
    opened = open_conversion_job(context, "whole", options)
    float32_layers = conversion_job.choose_float32_layers(opened)
    assert float32_layers[0].layer == "conv1_1"
    assert (
        "among the most sensitive: alone in int8, the outputs are off by"
        in opened.float32_layers(float32_layers)["whole"]["conv1_1"]
    )
    runnable = opened.evaluator.evaluate(opened.runnable(opened.graphs(opened.float32_layers(float32_layers))))
    assert runnable.loses_at_most(1.0)
    assert not opened.evaluator.evaluate(opened.runnable(opened.graphs(opened.float32_layers()))).loses_at_most(1.0)


def test_too_great_a_loss_is_refused_with_layer_and_number_and_nothing_is_written(
    context: SplitContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    from calibration.precision import conversion

    real = conversion.int8_ranges
    monkeypatch.setattr(
        conversion, "int8_ranges", lambda *given: {name: value * 300 for name, value in real(*given).items()}
    )
    before = files_below(context.graph.folder)
    for mixed, said in ((False, r"pool3 of original in int8 costs \d+\.\d\d points of top1 .*the limit is 0.5"),
                        (True, "pool3 of original: no layer can run in int8 within 0.5 points|costs")):  # fmt: skip
        with pytest.raises(PrecisionRefusedError, match=said):
            prepare_precision(context, "pool3", PrecisionOptions("int8", 0.5, mixed=mixed))
    assert files_below(context.graph.folder) == before


def test_stale_bundles_and_unknown_layers_are_refused(context: SplitContext) -> None:
    with pytest.raises(CoopexportError, match=r"there is no split bundle .*conv1_1"):
        prepare_precision(context, "conv1_1", PrecisionOptions("fp16"))
    with pytest.raises(CoopexportError, match='there is no layer "conv9"'):
        prepare_precision(context, "pool3", PrecisionOptions("fp16", keep=("conv9",)))
    path = context.graph.folder / "pool3.split.json"
    text = path.read_text()
    path.write_text(text.replace(read_split(context.graph.folder, "pool3").made_from["graph"], "0" * 64))
    try:
        with pytest.raises(CoopexportError, match="pool3 of original was split before graph changed"):
            prepare_precision(context, "pool3", PrecisionOptions("fp16"))
    finally:
        path.write_text(text)
