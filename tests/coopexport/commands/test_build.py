"""`coopexport build` as it is typed: targets, precisions, batches and roles, and the store that engines come out of."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from engines.building.build_items import item_of_whole, items_of_layer
from engines.building.evidence import other_architecture
from engines.building.open_engine import open_engine
from engines.host.this_machine import this_machine
from engines.targets.lookup import find_target
from exporter.bundles.bundle import read_golden
from exporter.bundles.golden import golden_head_outputs, golden_outputs, golden_tail_inputs
from jetson.engines.identity import read_identity

rtx_installed = pytest.mark.skipif(
    util.find_spec("tensorrt_rtx") is None, reason="left out: TensorRT-RTX exists for Linux on x86-64 only"
)


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COOPEXPORT_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def engines_of(project: Path, target: str) -> list[str]:
    return sorted(path.name for path in (project / "out/pruned/engines" / target).glob("*") if path.suffix != ".json")


def test_precisions_and_batches_lie_beside_each_other(coopexport: Callable, finished_project: Path) -> None:
    build = ("build", "--target", "cpu", "--variant", "pruned", "--layer", "conv4_1")
    for options in (["--precision", "int8"], ["--precision", "fp16", "--role", "tail"], ["--batch", "1-4-16"]):
        result = coopexport(finished_project, *build, *options)
        assert result.code == 0, result.errors
        assert "golden data agree" in result.output
        assert ("Precision, evaluated on" in result.output) == ("--precision" in options)
    again = coopexport(finished_project, *build, "--precision", "int8")
    assert "Precision" not in again.output  # nothing was converted
    found = engines_of(finished_project, "cpu")
    assert [name for name in found if name.startswith("conv4_1")] == [
        "conv4_1.head.batch1-4-16.onnx",
        "conv4_1.head.int8.onnx",
        "conv4_1.head.onnx",
        "conv4_1.tail.batch1-4-16.onnx",
        "conv4_1.tail.fp16.onnx",
        "conv4_1.tail.int8.onnx",
        "conv4_1.tail.onnx",
    ]
    assert {"whole.int8.onnx", "whole.batch1-4-16.onnx", "whole.onnx"} <= set(found)
    folder = finished_project / "out/pruned"
    for name, precision in (("conv4_1.head.int8.onnx", "int8"), ("conv4_1.tail.fp16.onnx", "fp16")):
        identity = read_identity(str(folder / "engines/cpu" / name))
        assert identity.precision == identity.settings.precision == precision
        record = json.loads((folder / f"conv4_1.{precision}.json").read_text())
        assert identity.golden_sha256 == record["golden"]["sha256"]


def test_what_is_built_for_a_boards_processor_says_where_it_was_run(
    coopexport: Callable, finished_project: Path
) -> None:
    build = ("build", "--variant", "pruned", "--layer", "conv4_1", "--target", "orin-nano-cpu")
    version = onnxruntime.__version__
    elsewhere = other_architecture("aarch64", this_machine())
    exact = coopexport(finished_project, *build)
    assert exact.code == 0, exact.errors
    assert exact.output.count(f"golden data agree{'' if elsewhere is None else f' on {elsewhere}'} ") >= 3
    note = f"ONNX Runtime {version}; not run on the device (aarch64, ONNX Runtime 1.23.2)"
    assert (note in exact.output) == (elsewhere is not None)
    refused = coopexport(finished_project, *build, "--precision", "fp16", "--role", "tail")
    assert refused.code == 2
    assert "the processor of orin-nano computes float16 in half under ONNX Runtime, which moves more" in refused.errors
    half = coopexport(finished_project, *build[:-1], "nano-cpu", "--precision", "fp16", "--role", "tail")
    assert half.code == 0, half.errors
    table, _, notes = half.output.partition("note: ")
    assert "not run on the device" in table
    assert "golden data agree" not in table
    assert notes.startswith(
        "not run on the device: it holds float16, which ONNX Runtime computes as the processor does"
    )
    identity = read_identity(str(finished_project / "out/pruned/engines/nano-cpu@4.6.1/conv4_1.tail.fp16.onnx"))
    assert identity.parity is None
    assert f"note: {identity.parity_reason}\n" in half.output


def test_an_engine_in_int8_runs_with_the_golden_data_of_int8(coopexport: Callable, finished_project: Path) -> None:
    assert coopexport(finished_project, "build", "--target", "cpu", "--precision", "int8").code == 0
    folder, cpu = finished_project / "out/pruned", find_target("cpu")
    head, tail = items_of_layer(folder, "conv4_1", "int8")
    golden = read_golden(folder, head.golden)
    (symbols,) = open_engine(head, cpu)([golden["inputs"][:1]])
    assert np.abs(symbols.astype(int) - golden_head_outputs(golden)[0][:1].astype(int)).max() <= 1
    (scores,) = open_engine(tail, cpu)([golden_tail_inputs(golden)[0][:1]])
    assert np.allclose(scores, golden_outputs(golden)[0][:1], atol=1e-3 * np.ptp(golden_outputs(golden)[0]))
    exact = read_golden(folder, items_of_layer(folder, "conv4_1")[0].golden)
    assert not np.array_equal(golden_outputs(golden)[0], golden_outputs(exact)[0])
    assert item_of_whole(folder, "int8").precision == "int8"


def test_bench_keeps_the_engines_of_a_target_of_ones_own(coopexport: Callable, finished_project: Path) -> None:
    with (finished_project / "coopexport.toml").open("a") as file:
        file.write('\n[targets.mine]\nbase = "cpu"\noptimization_level = 2\n')
    built = coopexport(finished_project, "build", "--target", "mine", "--variant", "pruned", "--layer", "pool3")
    assert built.code == 0, built.errors
    assert "next: coopexport bench" in built.output
    lower = coopexport(finished_project, "build", "--target", "mine", "--variant", "pruned", "--batch", "2")
    assert "next:" not in lower.output  # nothing that bench measures
    folder = finished_project / "out/pruned/engines/mine"
    before = {path.name: path.read_bytes() for path in folder.glob("*")}
    bench = ("bench", "--target", "mine", "--variant", "pruned", "--layer", "pool3", "--rounds", "8", "--warm-up", "1")
    assert coopexport(finished_project, *bench).code == 0
    assert {path.name: path.read_bytes() for path in folder.glob("*")} == before


def test_an_engine_takes_every_batch_that_it_was_built_for(coopexport: Callable, finished_project: Path) -> None:
    assert coopexport(finished_project, "build", "--target", "cpu", "--batch", "1-4-16").code == 0
    folder, cpu = finished_project / "out/pruned", find_target("cpu")
    head, tail = items_of_layer(folder, "conv4_1")
    golden = read_golden(folder, head.golden)
    runner = open_engine(tail, cpu, (1, 4, 16))
    for batch in (1, 3, 16):
        assert runner([golden_tail_inputs(golden)[0][:batch]])[0].shape == (batch, 10)


def test_a_form_that_was_chosen_by_hand_stays(coopexport: Callable, finished_project: Path) -> None:
    chosen = coopexport(
        finished_project, "precision", "--layer", "conv4_1", "--precision", "int8", "--ranges", "minmax"
    )
    assert chosen.code == 0, chosen.errors
    manifest = finished_project / "out/pruned/conv4_1.int8.json"
    before = manifest.read_bytes()
    assert b"minmax" in before
    built = coopexport(finished_project, "build", "--layer", "conv4_1", "--precision", "int8", "--role", "head")
    assert built.code == 0, built.errors
    assert manifest.read_bytes() == before


def test_a_form_of_another_preprocessing_is_made_again(coopexport: Callable, finished_project: Path) -> None:
    build = ("build", "--variant", "pruned", "--precision", "int8", "--role", "whole")
    assert coopexport(finished_project, *build).code == 0
    folder = finished_project / "out/pruned"
    before = json.loads((folder / "whole.int8.json").read_text())
    text = (finished_project / "coopexport.toml").read_text()
    (finished_project / "coopexport.toml").write_text(text.replace("mean = [0.5, 0.5, 0.5]", "mean = [0.4, 0.4, 0.4]"))
    assert coopexport(finished_project, "split", "--layer", "conv4_1", "--variant", "pruned").code == 0
    result = coopexport(finished_project, *build)
    assert result.code == 0, result.errors
    after = json.loads((folder / "whole.int8.json").read_text())
    changed = {name for name, value in after["made_from"].items() if before["made_from"].get(name) != value}
    assert "preprocessing" in changed and "graph" not in changed
    assert after["roles"]["whole"]["file"]["sha256"] != before["roles"]["whole"]["file"]["sha256"]


@rtx_installed
def test_what_was_built_once_comes_out_of_the_store(
    coopexport: Callable, finished_project: Path, own_store: Path
) -> None:
    build = ("build", "--target", "rtx-ada", "--layer", "conv4_1", "--variant", "pruned")
    first = coopexport(finished_project, *build)
    assert first.code == 0, first.errors
    assert first.output.count(" built ") == 3
    assert "run on their GPU only" in first.output
    folder = finished_project / "out/pruned/engines/rtx-ada"
    before = {path.name: path.read_bytes() for path in folder.glob("*.engine")}
    for path in folder.iterdir():
        path.unlink()
    again = coopexport(finished_project, *build)
    assert again.output.count("from the store") == 3
    assert {path.name: path.read_bytes() for path in folder.glob("*.engine")} == before
    assert coopexport(finished_project, *build).output.count("reused") == 3
    listed = coopexport(finished_project, "engines", "list")
    assert listed.code == 0, listed.errors
    assert "conv4_1" in listed.output
    for path in folder.iterdir():
        path.unlink()
    assert coopexport(finished_project, *build, "--no-store").output.count(" built ") == 3


@rtx_installed
def test_all_precisions_for_a_graphics_card(coopexport: Callable, finished_project: Path, own_store: Path) -> None:
    sizes = {}
    for precision in ("fp32", "fp16", "int8"):
        result = coopexport(
            finished_project, "build", "--target", "rtx-blackwell", "--layer", "conv4_1", "--variant", "pruned",
            "--precision", precision, "--batch", "1-2-8",
        )  # fmt: skip
        assert result.code == 0, result.errors
    folder = finished_project / "out/pruned/engines/rtx-blackwell"
    for path in folder.glob("*.engine"):
        identity = read_identity(str(path))
        sizes[identity.role, identity.precision] = identity.engine_bytes
        assert identity.compute_capabilities == ("12.0",)
        assert identity.batches == (1, 2, 8)
        assert identity.inputs[0]["shape"][0] in (-1, 0, "batch")
    assert len(sizes) == 9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "nano@4.6.1", "--precision", "int8"], "int8 kernels"),
        (["--target", "rtx-orin"], "TensorRT-RTX has no kernels for a Jetson"),
        (["--target", "orin-nan"], "did you mean orin-nano"),
        (["--batch", "4-2-8"], "min-opt-max"),
        (["--batch", "0"], "min-opt-max"),
        (["--batch", "99999999999"], "do not fit into the memory"),
    ],
)
def test_impossible_wishes_are_refused_in_one_line(
    coopexport: Callable, finished_project: Path, options: list[str], said: str
) -> None:
    before = sorted(path for path in (finished_project / "out").rglob("*") if path.is_file())
    result = coopexport(finished_project, "build", "--variant", "pruned", "--layer", "conv4_1", *options)
    assert result.code == 2
    assert len(result.error_lines) == 1, result.errors
    assert said in result.errors
    assert sorted(path for path in (finished_project / "out").rglob("*") if path.is_file()) == before


@rtx_installed
def test_what_preflight_refuses_is_refused_before_anything_is_built(
    coopexport: Callable, finished_project: Path, own_store: Path
) -> None:
    """The classifier is in every tail and in the whole network, and not in the heads, which come first."""
    before = sorted(path for path in (finished_project / "out").rglob("*") if path.is_file())
    result = coopexport(finished_project, "build", "--variant", "pruned", "--target", "cpu", "--target", "rtx-turing")
    assert result.code == 2
    assert len(result.error_lines) == 1, result.errors
    assert "no float32 matrix products at SM 7.5" in result.errors
    assert "layer classifier" in result.errors
    assert "refused as well: pruned pool3.tail, pruned whole" in result.errors
    assert sorted(path for path in (finished_project / "out").rglob("*") if path.is_file()) == before
    assert not own_store.exists()
    heads = coopexport(finished_project, "build", "--variant", "pruned", "--target", "rtx-turing", "--role", "head")
    assert heads.code == 0, heads.errors
