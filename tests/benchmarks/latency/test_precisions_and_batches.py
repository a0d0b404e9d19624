"""Networks in several precisions and batches, measured together: the rows that there are, and what stages compute."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import coopexport as coopexport_api
from benchmarks.latency.bench import run_benchmark
from benchmarks.latency.bench_project import BenchRequest, BenchResult, bench_project
from benchmarks.latency.measured_items import item_settings
from benchmarks.latency.stages import TimedStage, stages_of_layer, stages_of_whole
from benchmarks.latency.table import latest
from benchmarks.latency.tables.newest import newest_rows
from benchmarks.latency.tables.project_table import project_graphs
from engines.targets.lookup import find_target
from exporter.bundles.bundle import read_golden, read_split, read_whole
from exporter.bundles.precision_file import read_precision
from exporter.project.settings import BenchSection, Project, load_project
from jetson.device.half_arithmetic import computes_in_half
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_file
from jetson.runtime.sampling import UNTIMED_RUNS, fixed

CPU = find_target("cpu")
PRECISIONS, BATCHES = ("fp32", "fp16", "int8"), (1, 4)
OF_A_CUT = ("head", "encode", "decode", "tail")
NETWORKS = ("head", "tail", "whole")


@pytest.fixture(scope="module")
def project(converted_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = Path(shutil.copytree(converted_project, tmp_path_factory.mktemp("forms") / "project"))
    return load_project(folder / "coopexport.toml")


@pytest.fixture(scope="module")
def result(project: Project) -> BenchResult:
    request = BenchRequest(("pruned",), rounds=8, warm_up=2, precisions=PRECISIONS, batches=BATCHES)
    return bench_project(project, request)


@pytest.fixture
def converted(converted_project: Path, tmp_path: Path) -> Project:
    """A project to write into."""
    return load_project(Path(shutil.copytree(converted_project, tmp_path / "project")) / "coopexport.toml")


def expected_keys() -> Iterator[tuple[str, str, str, int]]:
    for batch in BATCHES:
        yield from (("pool3", part, "fp32", batch) for part in OF_A_CUT)
        for precision in PRECISIONS:
            yield from (("conv4_1", part, precision, batch) for part in OF_A_CUT)
            yield ("whole", "whole", precision, batch)
        yield ("whole", "preprocess", "fp32", batch)
        yield from 3 * [("whole", part, "fp32", batch) for part in ("encode", "decode")]  # raw, JPEG, WebP


def one_of_a_round(stage: TimedStage) -> Any:
    """Run a stage as often as a round does, which is with the same samples, and return what it gave."""
    given = [stage.run() for _ in range(UNTIMED_RUNS + 1)]
    return given[-1]


def test_every_form_has_its_rows_in_one_sitting(project: Project, result: BenchResult) -> None:
    items = result.run.items
    assert sorted((item.layer, item.part, item.precision, item.batch) for item in items) == sorted(expected_keys())
    assert {len(item.samples_ms or ()) for item in items} == {8}
    assert result.run.reference is not None
    assert len(result.run.reference.samples_ms or ()) == 8
    assert result.without_form == ("pruned pool3 in fp16", "pruned pool3 in int8")
    assert result.rows_added == len(items)
    assert not any(item.unknown for item in items)
    networks = {(item.part, item.precision, item.batch) for item in items if item.peak_memory_bytes is not None}
    assert networks == {(part, form, batch) for part in NETWORKS for form in PRECISIONS for batch in BATCHES}
    # What ran after each other is of one form: nothing stands between the two.
    order = [(item.layer, item.part, item.precision, item.batch) for item in items]
    for first, second in (("head", "encode"), ("decode", "tail")):
        for precision in PRECISIONS:
            where = order.index(("conv4_1", first, precision, 4))
            assert order[where + 1] == ("conv4_1", second, precision, 4)


def test_nothing_of_another_form_runs_between_head_and_encoder() -> None:
    ran: list[tuple[str, str, int]] = []
    forms = [("fp32", 1), ("int8", 1), ("int8", 4)]
    stages = [
        TimedStage(
            "net", "cut", part, None, "sha", partial(ran.append, (part, precision, batch)), None, precision, batch
        )
        for precision, batch in forms
        for part in ("head", "encode")
    ]
    run_benchmark(stages, CPU, 8, fixed(1))
    a_round = [(part, *form) for form in forms for _ in range(UNTIMED_RUNS + 1) for part in ("head", "encode")]
    assert ran == 9 * a_round


def test_rows_name_the_graphs_of_their_precision(project: Project, result: BenchResult) -> None:
    folder = project.variant_folder("pruned")
    for precision in ("fp16", "int8"):
        cut, whole = (read_precision(folder, layer, precision) for layer in ("conv4_1", "whole"))
        rows = {(row.layer, row.part): row for row in latest(result.table, precision, 4)}
        assert set(rows) == {*(("conv4_1", part) for part in OF_A_CUT), ("whole", "whole")}
        for part, role in zip(OF_A_CUT, ("head", "head", "tail", "tail"), strict=True):
            assert rows["conv4_1", part].source_sha256 == cut.roles[role].file.sha256
        assert rows["whole", "whole"].source_sha256 == whole.roles["whole"].file.sha256
    # In the table, too, all of them are rows of today's graphs, and one of another graph is not.
    graphs = project_graphs(project)
    assert {row.state for row in newest_rows(result.table, graphs=graphs) if row.row.variant == "pruned"} == {"current"}
    key = ("pruned", "conv4_1", "head", "", "int8")
    rows_then = newest_rows(result.table, graphs={**graphs, key: "another"})
    expired = [one.row for one in rows_then if one.state == "expired"]
    assert {(row.part, row.precision) for row in expired} == {("head", "int8")}
    assert len(expired) == len(BATCHES)


def test_float16_says_in_what_this_processor_computes_it(result: BenchResult) -> None:
    flagged = {
        (row.layer, row.part, precision)
        for precision in PRECISIONS
        for row in latest(result.table, precision)
        if row.run == result.run.run and any(flag.startswith("float16: computed in float32") for flag in row.flags)
    }
    networks = {("conv4_1", "head", "fp16"), ("conv4_1", "tail", "fp16"), ("whole", "whole", "fp16")}
    assert flagged == (set() if computes_in_half(platform.machine(), "/") else networks)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_batch_of_a_cut_computes_what_the_golden_data_of_its_precision_say(
    project: Project, result: BenchResult, precision: str
) -> None:
    folder = project.variant_folder("pruned")
    bundle = read_split(folder, "conv4_1")
    golden = read_golden(folder, bundle.golden)
    fraction, error = 1e-3, 1e-3
    if precision != "fp32":
        record = read_precision(folder, "conv4_1", precision)
        golden = read_golden(folder, record.golden)
        fraction, error = record.roles["head"].bounds.symbol_fraction, record.roles["tail"].bounds.output_error
    stages = {stage.part: stage for stage in stages_of_layer(folder, "conv4_1", CPU, precision, 4)}
    assert {(stage.precision, stage.batch) for stage in stages.values()} == {(precision, 4)}
    spread = float(np.ptp(golden["outputs"], axis=0).max())
    for start in range(0, len(golden["inputs"]), 4):
        symbols = golden["symbols_0"][start : start + 4]
        found = {part: one_of_a_round(stages[part]) for part in OF_A_CUT}
        assert found["head"][0].shape == symbols.shape
        assert (found["head"][0] != symbols).mean() <= max(fraction, 1 / symbols.size)
        assert np.array_equal(found["decode"][0], symbols)
        assert np.abs(found["tail"][0] - golden["outputs"][start : start + 4]).max() <= error * spread
        assert isinstance(found["encode"], bytes)


def test_a_batch_of_images_is_prepared_and_coded_image_by_image(project: Project, result: BenchResult) -> None:
    folder = project.variant_folder("pruned")
    golden = read_golden(folder, read_whole(folder).golden)
    stages = {(one.part, one.codec): one for one in stages_of_whole(folder, CPU, (), 4)}
    assert ("whole", None) not in stages
    for start in range(0, len(golden["images"]), 4):
        images, inputs = golden["images"][start : start + 4], golden["inputs"][start : start + 4]
        found = {key: one_of_a_round(stage) for key, stage in stages.items()}
        assert np.array_equal(found["preprocess", None], inputs)
        assert np.array_equal(np.stack(found["decode", "raw"]), images)
        for codec in ("raw", "jpeg", "webp"):
            assert [type(payload) for payload in found["encode", codec]] == [bytes] * 4
            assert np.stack(found["decode", codec]).shape == images.shape


def test_a_dla_is_left_to_what_it_can_compute() -> None:
    chosen = BuildSettings(dla_core=1, workspace_bytes=5)
    assert item_settings(chosen, "fp32", 4) == BuildSettings(batches=(4, 4, 4), workspace_bytes=5)
    assert item_settings(chosen, "int8", 2) == chosen._replace(precision="int8", batches=(2, 2, 2))


def test_a_graph_with_a_fixed_batch_is_refused_by_name(converted: Project) -> None:
    folder = converted.variant_folder("pruned")
    path = folder / "pool3.head.onnx"
    model = onnx.load(str(path), load_external_data=False)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, str(path))
    manifest = json.loads((folder / "pool3.split.json").read_text())
    manifest["head"]["sha256"] = sha256_of_file(str(path))
    (folder / "pool3.split.json").write_text(json.dumps(manifest))
    request = BenchRequest(("pruned",), ("pool3",), rounds=8, batches=(2,))
    with pytest.raises(CoopexportError, match=r"pool3\.head\.onnx: '\S+' is fixed to batch 1; asked for: 2"):
        bench_project(converted, request)
    assert latest(converted.output / "latency.sqlite", batch=2) == []


def test_where_nothing_was_converted_the_command_is_named(converted: Project) -> None:
    request = BenchRequest(("original",), rounds=8, precisions=("int8",))
    said = r"nothing to measure was converted to int8; convert it with: coopexport precision --all --precision int8"
    with pytest.raises(CoopexportError, match=said):
        bench_project(converted, request)


def test_a_form_of_an_older_bundle_is_refused(converted: Project) -> None:
    path = converted.variant_folder("pruned") / "whole.int8.json"
    record = json.loads(path.read_text())
    record["made_from"]["float32 graphs"] = "others"
    path.write_text(json.dumps(record))
    with pytest.raises(CoopexportError, match=r"before float32 graphs changed; run: coopexport precision .*--whole"):
        bench_project(converted, BenchRequest(("pruned",), rounds=8, precisions=("int8",)))


@pytest.mark.parametrize(("key", "value"), [("precisions", ["int4"]), ("precisions", []), ("batches", [0])])
def test_a_wrong_value_in_the_project_file_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        BenchSection(**{key: value})


def test_the_project_file_says_what_the_command_does_not(converted: Project, coopexport: Callable[..., Any]) -> None:
    assert BenchSection(precisions=("int8", "fp32", "int8"), batches=(8, 1, 8)).batches == (8, 1)
    file = converted.folder / "coopexport.toml"
    text = file.read_text()
    assert text.count('precisions = ["fp32"] ') == 1
    file.write_text(text.replace('precisions = ["fp32"] ', 'precisions = ["int8"] '))
    options = ("bench", "--variant", "pruned", "--rounds", "8", "--warm-up", "1")
    done = coopexport(converted.folder, *options)
    assert done.code == 0, done.errors
    assert done.error_lines == ["left out, not converted: pruned pool3 in int8 (coopexport precision does that)"]
    assert "added 12 rows" in done.output
    batch = coopexport(converted.folder, *options, "--layer", "pool3", "--precision", "fp32", "--batch", "2")
    assert (batch.code, batch.error_lines) == (0, [])
    assert "preprocess batch 2" in batch.output
    assert "times of a batch are those of all its images together" in batch.output
    rows = latest(converted.output / "latency.sqlite", batch=2)
    assert {(row.layer, row.precision) for row in rows} == {("pool3", "fp32"), ("whole", "fp32")}


def test_python_asks_for_the_same(converted: Project, tmp_path: Path) -> None:
    project = coopexport_api.Project(converted.folder / "coopexport.toml")
    wrong: Any = ["int4"]
    for key, ask in (
        ("precisions", lambda: project.bench(precisions=wrong)),
        ("batches", lambda: project.bench(batches=[0])),
        ("precisions", lambda: project.bench_on_device("nobody@nowhere", "orin-nano-cpu", precisions=wrong)),
        ("batches", lambda: project.write_bench_order(tmp_path / "order.zip", "orin-nano-cpu", batches=[0])),
    ):
        with pytest.raises(CoopexportError, match=f"^{key}"):
            ask()
    made = project.bench("pool3", variants="pruned", rounds=8, batches=[3]).run
    assert {(item.precision, item.batch) for item in made.items} == {("fp32", 3)}
