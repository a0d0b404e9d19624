"""Measuring: the right parts, on real inputs, every sample kept, and a failure as a row of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.latency.bench import run_benchmark, time_functions
from benchmarks.latency.host import allowed_cpus, describe_host
from benchmarks.latency.reference import reference_sha256, reference_stage
from benchmarks.latency.run import GpuMs, read_run, write_run
from benchmarks.latency.stages import TimedStage, stages_of_layer, stages_of_whole
from benchmarks.latency.table import current_latencies, import_run, latest
from engines.targets.lookup import find_target
from exporter.bundles.bundle import images_sha256, read_golden, read_split, read_whole
from jetson.cuda.gpu_times import GpuTimes
from jetson.errors import CoopexportError
from jetson.runtime.sampling import fixed

CPU = find_target("cpu")


@pytest.fixture(scope="module")
def folder(split_project: Path) -> Path:
    return split_project / "out" / "pruned"


def part(name: str, run: object = None) -> TimedStage:
    return TimedStage("pruned", "conv4_1", name, None, f"sha of {name}", run or (lambda: None))  # type: ignore[arg-type]


def test_parts_of_a_layer_compute_what_the_bundle_holds(folder: Path) -> None:
    bundle = read_split(folder, "conv4_1")
    golden = read_golden(folder, bundle.golden)
    parts = {part.part: part for part in stages_of_layer(folder, "conv4_1", CPU)}
    assert list(parts) == ["head", "encode", "decode", "tail"]
    assert {(part.variant, part.layer) for part in parts.values()} == {("pruned", "conv4_1")}
    assert {name: part.codec for name, part in parts.items()} == {
        "head": None,
        "encode": "rans-context",
        "decode": "rans-context",
        "tail": None,
    }
    head, tail = bundle.head.sha256, bundle.tail.sha256
    assert [part.source_sha256 for part in parts.values()] == [head, head, tail, tail]
    # Twice round: every golden sample takes its turn, twice untimed and once timed.
    for index in np.repeat([*range(16), *range(16)], 3):
        symbols = golden["symbols_0"][index : index + 1]
        assert np.abs(parts["head"].run()[0].astype(int) - symbols).max() <= 1
        assert np.array_equal(parts["decode"].run()[0], symbols)
        assert np.abs(parts["tail"].run()[0] - golden["outputs"][index]).max() < 1e-3
    assert {len(parts["encode"].run()) for _ in range(16)} != {len(parts["encode"].run())}


def test_parts_of_the_whole_network(folder: Path) -> None:
    whole = read_whole(folder)
    golden = read_golden(folder, whole.golden)
    parts = stages_of_whole(folder, CPU)
    assert [(part.part, part.codec) for part in parts] == [
        ("preprocess", None),
        ("whole", None),
        ("encode", "raw"),
        ("decode", "raw"),
        ("encode", "jpeg"),
        ("decode", "jpeg"),
        ("encode", "webp"),
        ("decode", "webp"),
    ]
    assert {part.layer for part in parts} == {"whole"}
    for made in parts:
        expected = whole.model.sha256 if made.part == "whole" else images_sha256(whole)
        assert made.source_sha256 == expected
    preprocess, run, _, decode_raw, encode_jpeg, decode_jpeg, encode_webp, decode_webp = (part.run for part in parts)
    for index in range(60):
        sample = index // 3 % 16  # twice untimed, once timed
        assert np.array_equal(preprocess()[0], golden["inputs"][sample])
        assert np.abs(run()[0] - golden["outputs"][sample]).max() < 1e-3
        assert np.array_equal(decode_raw(), golden["images"][sample])
        assert encode_jpeg()[:2] == b"\xff\xd8"
        assert encode_webp()[:4] == b"RIFF"
        assert decode_jpeg().shape == decode_webp().shape == golden["images"][sample].shape


def test_a_run_says_what_was_measured_where(folder: Path) -> None:
    parts = [*stages_of_layer(folder, "conv4_1", CPU), *stages_of_whole(folder, CPU)]
    told: list[tuple[int, int]] = []
    run = run_benchmark(parts, CPU, 9, fixed(2), lambda *one: told.append(one), reference_stage(CPU))
    assert told == [(done, 11) for done in range(1, 12)]
    assert len(run.items) == len(parts) == 12
    for made, tail_inputs in zip(parts, run.items, strict=True):
        assert (tail_inputs.variant, tail_inputs.layer, tail_inputs.part, tail_inputs.codec) == (
            made.variant,
            made.layer,
            made.part,
            made.codec,
        )
        assert tail_inputs.source_sha256 == made.source_sha256
        assert tail_inputs.samples_ms is not None
        assert len(tail_inputs.samples_ms) == 9
        assert min(tail_inputs.samples_ms) > 0
    assert (run.target, run.backend, run.threads, run.interleaved) == ("cpu", "onnxruntime", 1, True)
    assert (run.rounds, run.warm_up, run.in_chains) == (9, 2, True)
    assert (run.steady, run.affinity, run.conditions) == (None, allowed_cpus(), {})
    assert run.reference is not None
    assert (run.reference.variant, run.reference.layer, run.reference.part) == ("reference", "whole", "whole")
    assert run.reference.source_sha256 == reference_sha256()
    assert len(run.reference.samples_ms or ()) == 9
    assert run.started_at.endswith("+00:00")
    assert run.run.startswith(run.started_at[:4])
    again = run_benchmark([part("head")], CPU, 1, fixed(1))
    assert again.run != run.run
    assert again.reference is None


def test_every_part_runs_once_a_round_and_warm_ups_are_not_kept() -> None:
    calls: list[str] = []
    parts = [part("a", lambda: calls.append("a")), part("b", lambda: calls.append("b"))]
    run = run_benchmark(parts, CPU, 5, fixed(3))
    assert calls == ["a", "b"] * 24  # both of one chain: twice untimed, once timed
    assert [len(item.samples_ms or ()) for item in run.items] == [5, 5]


@pytest.mark.parametrize("breaks_at", [0, 3, 7])
def test_a_part_that_fails_becomes_a_row_with_its_reason(tmp_path: Path, breaks_at: int) -> None:
    calls = Counter()

    def breaks() -> None:
        calls["head"] += 1
        if calls["head"] > breaks_at:
            raise RuntimeError("out of\nmemory")

    run = run_benchmark([part("head", breaks), part("tail")], CPU, 6, fixed(2))
    head, tail = run.items
    assert (head.samples_ms, head.failure) == (None, "RuntimeError: out of memory")
    assert tail.failure is None
    assert calls["head"] == breaks_at + 1  # not tried again
    assert read_run(write_run(tmp_path, run)) == run
    import_run(tmp_path / "latency.sqlite", run)
    assert [row.part for row in latest(tmp_path / "latency.sqlite")] == ["tail"]
    assert list(current_latencies(tmp_path / "latency.sqlite").failures.values()) == ["RuntimeError: out of memory"]


def test_times_of_a_gpu_are_read_between_rounds_and_those_of_the_warm_up_are_not_kept() -> None:
    calls: list[str] = []

    def last_run() -> GpuTimes:
        calls.append("read")
        rounds = calls.count("read")
        return GpuTimes(0.25, 100.0 if rounds <= 3 else float(rounds), 0.5)

    head = replace(part("head", lambda: calls.append("run")), gpu_times=last_run)
    run = run_benchmark([head, part("tail")], CPU, 5, fixed(3))
    assert calls == ["run", "run", "run", "read"] * 8
    assert run.items[0].gpu_ms == GpuMs(inputs=0.25, compute=6.0, outputs=0.5)
    assert run.items[1].gpu_ms is None


def test_two_parts_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="share a name"):
        run_benchmark([part("head"), part("head")], CPU, 1, fixed(1))


def test_parts_need_their_engines(finished_project: Path) -> None:
    folder = finished_project / "out" / "pruned"
    (folder / "engines" / "cpu" / "conv4_1.tail.onnx").unlink()
    with pytest.raises(CoopexportError, match=r"conv4_1\.tail\.onnx is missing"):
        stages_of_layer(folder, "conv4_1", CPU)
    (folder / "engines" / "cpu" / "whole.onnx").write_bytes(b"something else")
    with pytest.raises(CoopexportError, match=r"whole\.onnx is truncated"):
        stages_of_whole(folder, CPU)


def test_functions_are_timed_against_each_other() -> None:
    calls: list[str] = []
    found = time_functions(
        {"one": lambda: calls.append("one"), "two": lambda: calls.append("two")},
        rounds=70,
        warm_up=12,
        clock=lambda: len(calls) / 1000,
    )
    assert calls == ["one", "two"] * (12 + 70)
    assert list(found) == ["one", "two"]
    for summary in found.values():
        assert summary.count == 70
        assert summary.p90_ms is not None
        assert summary.p50_ms <= summary.p90_ms
        assert summary.p99_ms is None


def test_a_function_that_fails_is_named() -> None:
    def fails() -> None:
        raise ValueError("no input")

    with pytest.raises(CoopexportError, match="'bad' cannot be measured: ValueError: no input"):
        time_functions({"good": lambda: None, "bad": fails}, rounds=3, warm_up=1)


def test_the_host_describes_itself() -> None:
    host = describe_host()
    assert set(host) == {"name", "processor", "cores", "load_average", "system", "machine", "python"}
    assert host["processor"]
    assert host["cores"] == len(allowed_cpus()) >= 1
