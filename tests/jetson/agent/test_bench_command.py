"""The agent measures on fake Jetsons: an order becomes a run, and what goes wrong a row with its reason."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_jetson.boards import NANO_4_6_1, ORIN_NANO_6_2, FakeBoard
from fake_jetson.device import Barrier, FakeDevice, make_device
from fake_jetson.small_request import SAMPLES, small_request
from small_graphs import FEATURE_SHAPE
from tests_support import files_below, wait_until

from benchmarks.latency.run import LatencyRun, read_run
from benchmarks.latency.summaries import summarise_item, throttling
from engines.device_builds.agent_file import AgentRequest, write_agent
from engines.device_builds.requests import OrderedMeasurement, PendingEngine, write_request
from engines.targets.lookup import find_target
from jetson.engines.build_settings import BuildSettings
from jetson.files.atomic_files import sha256_of_bytes
from jetson.requests.build_request import ResultItem, open_request, open_result, read_engine, write_result
from jetson.requests.measurement import CodedImages, CodedTensor, CutCoding, ImageInput, Measurement, encode_images
from jetson.runtime.preprocessing import Preprocessing, to_json

BATCH = BuildSettings(batches=(SAMPLES, SAMPLES, SAMPLES))
# ONNX Runtime that ends its process once a tail has run as often as no check runs it.
DYING_TAIL = """
import importlib, os, signal, sys
sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
del sys.modules["onnxruntime"]
real = importlib.import_module("onnxruntime")
class Dying(real.InferenceSession):
    calls = 0
    def run(self, *arguments, **more):
        self.calls += [item.name for item in self.get_inputs()] == ["symbols_0"]
        if self.calls > 12:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().run(*arguments, **more)
real.InferenceSession = Dying
"""


def whole_measurement(power_mode: str) -> OrderedMeasurement:
    """Return what to measure of an order that has the whole network and the reference network alone."""
    return OrderedMeasurement(Measurement(12, 10, power_mode, "reference/whole", energy=False), {})


def small_measurement(power_mode: str | None = None) -> OrderedMeasurement:
    """Return what to measure of a small request: its codec, images, and a network in the reference's place."""
    images = encode_images(np.random.default_rng(0).integers(0, 256, (3, 6, 6, 3), np.uint8))
    sha256 = sha256_of_bytes(images)
    tensor = CodedTensor("feature", FEATURE_SHAPE, "affine", 8, "none", "zlib-huffman")
    pair = "small/conv1.head", "small/conv1.tail"
    cut = CutCoding("small", "conv1", "zlib-huffman", *pair, "a" * 64, "b" * 64, "a b", (tensor,))
    image = ImageInput("small", "c" * 64, to_json(Preprocessing(scale=1 / 255)), sha256, len(images))
    measurement = Measurement(12, 10, power_mode, "reference/whole", (cut,), (image,), energy=False)
    return OrderedMeasurement(measurement, {sha256: images})


def with_jpeg(measured: OrderedMeasurement) -> OrderedMeasurement:
    """Return the same with the images sent as JPEG as well."""
    (image,) = measured.measurement.images
    pixels = np.zeros((1, 6, 6, 3), np.uint8)  # nobody gets so far as to compare them
    decoded = encode_images(pixels)
    sha256 = sha256_of_bytes(decoded)
    jpeg = CodedImages("jpeg", 70, (600,), sha256, len(decoded))
    measurement = measured.measurement._replace(images=(image._replace(coded=(jpeg,)),))
    return OrderedMeasurement(measurement, {**measured.files, sha256: decoded})


Built = tuple[dict[str, Any], tuple[ResultItem, ...], list[tuple[str, bytes]]]


def _pending(folder: Path, target: str, settings: BuildSettings | None) -> list[PendingEngine]:
    """Return head, tail, whole and reference; with settings, for trtexec, which is slow, the last two alone."""
    pending = small_request(folder / "out", find_target(target), 8, settings)
    whole = pending[-1]
    named = whole.item._replace(name="reference/whole", variant="reference")
    parts = pending if settings is None else [whole]
    return [*parts, PendingEngine(named, whole.files, whole.path)]


def _built(folder: Path, target: str, settings: BuildSettings | None) -> Built:
    """Build the engines of an order once; see `Device.with_result`."""
    bench = Device(folder, ORIN_NANO_6_2, target, None, settings)
    ended = bench.device.agent(bench.agent_file, "build", bench.order, "--output", folder / "result.zip")
    assert ended.returncode == 0, ended.stderr
    result = open_result(str(folder / "result.zip"))
    files = {str(item.engine_sha256): read_engine(result, item)[0] for item in result.items}
    files.update({str(item.identity_sha256): read_engine(result, item)[1] for item in result.items})
    return result.probe, result.items, sorted(files.items())


@pytest.fixture(scope="module")
def by_onnxruntime(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return _built(tmp_path_factory.mktemp("onnxruntime"), "orin-nano-cpu", None)


@pytest.fixture(scope="module")
def by_trtexec(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return _built(tmp_path_factory.mktemp("trtexec"), "orin-nano", BATCH)


class Device:
    """A fake device, the agent, and an order to measure on it."""

    def __init__(self, folder: Path, board: FakeBoard, target: str, measured: OrderedMeasurement | None,
                 settings: BuildSettings | None = None) -> None:  # fmt: skip
        self.device: FakeDevice = make_device(board, folder / "device", onnxruntime=True)
        self.agent_file, self.order = folder / "coop-agent.pyz", folder / "order.zip"
        self.output = folder / "run.json"
        write_agent(AgentRequest(self.agent_file))
        write_request(self.order, find_target(target), _pending(folder, target, settings), measured)

    def with_result(self, built: Built) -> Path:
        """Write the result of this order, with engines that were built for another one with the same items."""
        probe, items, files = built
        write_result(str(self.order.parent / "result.zip"), open_request(str(self.order)), probe, items, files)
        return self.order.parent / "result.zip"

    def bench(self, *more: str | Path) -> subprocess.CompletedProcess[str]:
        return self.device.agent(self.agent_file, "bench", self.order, *more, "--output", self.output)

    def run(self) -> LatencyRun:
        return read_run(self.output)

    @property
    def power_mode(self) -> str:
        return (self.device.root / "power_mode").read_text().splitlines()[-2].removeprefix("NV Power Mode: ")

    def modes_set(self) -> list[str]:
        path = self.device.root / "power_mode.set"
        return path.read_text().split() if path.exists() else []


def names(run: LatencyRun) -> list[tuple[str, str, str | None]]:
    return [(item.layer, item.part, item.codec) for item in run.items]


def test_an_order_is_built_and_measured_in_the_devices_own_onnx_runtime(tmp_path: Path) -> None:
    bench = Device(tmp_path, ORIN_NANO_6_2, "orin-nano-cpu", small_measurement("maxn_super"))
    ended = bench.bench("--json")
    assert ended.returncode == 0, ended.stderr
    run = bench.run()
    assert names(run) == [
        ("conv1", "head", None),
        ("conv1", "encode", "zlib-huffman"),
        ("conv1", "decode", "zlib-huffman"),
        ("conv1", "tail", None),
        ("whole", "preprocess", None),
        ("whole", "whole", None),
        ("whole", "encode", "raw"),
        ("whole", "decode", "raw"),
    ]
    assert {len(item.samples_ms or ()) for item in run.items} == {12}
    assert [item.source_sha256 for item in run.items[1:3]] == ["a" * 64, "b" * 64]
    assert run.reference is not None
    assert len(run.reference.samples_ms or ()) == 12
    assert (run.backend, run.target, run.interleaved, run.in_chains) == ("onnxruntime", "orin-nano-cpu@6.2", True, True)
    assert run.backend_version == run.host["probe"]["onnxruntime"]
    assert run.host["processor"] == ORIN_NANO_6_2.model
    assert 10 <= run.warm_up <= 50
    assert [item.load_ms is not None for item in run.items] == [True, False, False, True, False, True, False, False]
    needed = [item.peak_memory_bytes for item in run.items]
    assert [bytes_ is not None for bytes_ in needed] == [True, False, False, True, False, True, False, False]
    assert all(0 <= bytes_ < 64 << 20 for bytes_ in needed if bytes_ is not None)
    assert not any(item.unknown for item in run.items)
    # The mode that was asked for, and the one before, which is back.
    assert run.conditions["power_mode"] == {"name": "MAXN_SUPER", "identifier": 2}
    assert run.conditions["power_mode_before"] == {"name": "25W", "identifier": 1}
    assert (bench.power_mode, bench.modes_set()) == ("25W", ["2", "1"])
    assert run.conditions["throttled_meanwhile"] == {"oc1": 0, "oc3": 0}
    assert run.conditions["temperatures_after"] == {"cpu-thermal": 48.562}
    assert json.loads(ended.stdout.splitlines()[-1])["succeeded"] == 8
    assert not [name for name in files_below(tmp_path) if ".partial" in name]


def test_a_stage_that_ends_its_process_is_a_row_and_the_others_are_measured(
    tmp_path: Path, by_onnxruntime: Built
) -> None:
    bench = Device(tmp_path, ORIN_NANO_6_2, "orin-nano-cpu", with_jpeg(small_measurement()))
    dying = bench.device.home / "dying"
    dying.mkdir()
    (dying / "onnxruntime.py").write_text(DYING_TAIL)
    broken = bench.device.home / "broken"
    broken.mkdir()
    (broken / "PIL.py").write_text("raise ImportError('libjpeg.so.8: cannot open shared object file')")
    ended = bench.device.run("env", f"PYTHONPATH={dying}:{broken}", "python3", bench.agent_file, "bench", bench.order,
                             bench.with_result(by_onnxruntime), "--output", bench.output)  # fmt: skip
    assert ended.returncode == 2
    last = ended.stderr.splitlines()[-1]
    assert "3 of 10 rows failed; the others are in" in last
    assert last.count("; small whole encode jpeg and 1 more: Pillow cannot be imported") == last.count("Pillow") == 1
    run = bench.run()
    failed = {(item.part, item.codec): item.failure for item in run.items if item.samples_ms is None}
    assert list(failed) == [("tail", None), ("encode", "jpeg"), ("decode", "jpeg")]
    assert "signal 11 ended its process" in str(failed["tail", None])
    said = "Pillow cannot be imported (libjpeg.so.8: cannot open shared object file); install it anew: "
    assert str(failed["encode", "jpeg"]).startswith(said)
    assert {len(item.samples_ms or ()) for item in run.items} == {0, 12}
    assert "pictures" not in run.host


def test_engines_that_do_not_fit_into_the_memory_together_are_measured_in_several_sittings(
    tmp_path: Path, by_onnxruntime: Built
) -> None:
    bench = Device(tmp_path, ORIN_NANO_6_2, "orin-nano-cpu", small_measurement())
    bench.device.set_free_memory(63)
    assert bench.bench(bench.with_result(by_onnxruntime)).returncode == 0
    run = bench.run()
    assert all(item.samples_ms is not None for item in run.items)
    assert not run.interleaved
    assert "in 4 sittings, as not all engines fit into the memory at once" in run.host["timing"]


def test_trtexec_measures_one_engine_after_the_other_and_a_throttled_run_is_marked(
    tmp_path: Path, by_trtexec: Built
) -> None:
    bench = Device(tmp_path, ORIN_NANO_6_2, "orin-nano", whole_measurement("MAXN_SUPER"), BATCH)
    bench.device.set_faults(
        {"when": "run", "does": "throttles", "times": 4}, {"when": "run", "does": "fails", "words": ["no memory left"]}
    )
    ended = bench.bench(bench.with_result(by_trtexec), "--rounds", "15")
    assert ended.returncode == 2
    run = bench.run()
    assert not run.interleaved
    assert run.reference is not None  # the first that was run
    assert len(run.reference.samples_ms or ()) == 15
    assert run.reference.peak_memory_bytes is None
    assert "trtexec runs it in a process of its own" in (run.reference.unknown or {})["peak_memory_bytes"]
    assert [(item.part, item.failure) for item in run.items] == [("whole", "trtexec failed: no memory left")]
    assert "one run at a time, without CUDA graphs and spinning: inputs to the GPU, compute" in run.host["timing"]
    assert run.conditions["throttled_meanwhile"] == {"oc1": 0, "oc3": 4}
    assert throttling(run) == "oc3 4 times"
    summary = summarise_item(run, run.reference)
    assert summary is not None
    assert "throttled: oc3 4 times" in [flag.text for flag in summary.flags]
    # Put back after failures as well.
    assert (bench.power_mode, bench.modes_set()) == ("25W", ["2", "1"])


def test_the_power_mode_is_put_back_when_the_agent_is_killed(tmp_path: Path, by_trtexec: Built) -> None:
    bench = Device(tmp_path, ORIN_NANO_6_2, "orin-nano", whole_measurement("MAXN_SUPER"), BATCH)
    result = bench.with_result(by_trtexec)
    barrier = Barrier(tmp_path)
    bench.device.set_faults({"when": "run", **barrier.fault})
    agent = subprocess.Popen(
        ["python3", bench.agent_file, "bench", bench.order, result, "--output", bench.output],
        cwd=bench.device.home, env=bench.device.environment, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        barrier.wait()
        assert bench.power_mode == "MAXN_SUPER"
        agent.kill()
        agent.wait()
        wait_until(lambda: bench.power_mode == "25W", "the power mode that was before")
    finally:
        barrier.open()
    assert not bench.output.exists()
    assert bench.modes_set() == ["2", "1"]
    ended = bench.bench(result)  # and it starts anew
    assert ended.returncode == 0, ended.stderr
    assert not [name for name in files_below(tmp_path) if ".partial" in name]


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("15W", 'power mode "15W" takes a restart of the board; set it by hand: sudo nvpmodel -m 0; then run this'),
        ("50W", 'this board has no power mode "50W"; it has 15W, 25W, MAXN_SUPER'),
    ],
)
def test_a_power_mode_that_cannot_be_had_is_refused_and_the_old_one_stays(
    tmp_path: Path, by_onnxruntime: Built, mode: str, said: str
) -> None:
    bench = Device(tmp_path, ORIN_NANO_6_2, "orin-nano-cpu", small_measurement(mode))
    ended = bench.bench(bench.with_result(by_onnxruntime))
    assert ended.returncode == 2
    assert said in ended.stderr.splitlines()[-1]
    assert bench.power_mode == "25W"
    assert not bench.output.exists()


def test_a_mode_that_is_there_already_needs_no_right_to_change_it(tmp_path: Path, by_onnxruntime: Built) -> None:
    measured = small_measurement("25W")
    alone = measured.measurement._replace(reference=None, reference_failure="no kernel for Conv")
    bench = Device(tmp_path, ORIN_NANO_6_2, "orin-nano-cpu", OrderedMeasurement(alone, measured.files))
    (bench.device.root / "power_mode.locked").touch()
    ended = bench.bench(bench.with_result(by_onnxruntime))
    assert ended.returncode == 0, ended.stderr
    assert bench.modes_set() == []
    assert "power_mode_before" not in bench.run().conditions
    # A reference network that the builder does not take is in the run with the reason.
    reference = bench.run().reference
    assert reference is not None
    assert (reference.variant, reference.failure) == ("reference", "no kernel for Conv")


def test_a_board_that_shows_its_power_measures_the_energy_of_each_part(tmp_path: Path, by_onnxruntime: Built) -> None:
    measured = small_measurement()
    asking = measured.measurement._replace(rounds=40, energy=None, energy_seconds=0.15)
    bench = Device(tmp_path, ORIN_NANO_6_2, "orin-nano-cpu", OrderedMeasurement(asking, measured.files))
    sensor = {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": "1000"}
    for name, text in sensor.items():
        bench.device._write(f"/sys/class/hwmon/hwmon7/{name}", f"{text}\n")
    ended = bench.bench(bench.with_result(by_onnxruntime))
    assert ended.returncode == 0, ended.stderr
    run = bench.run()
    assert run.conditions["power"] == {
        "source": "ina3221", "rails": ["VDD_IN"], "interval_ms": 20.0, "seconds": 0.15,
        "idle_mw": pytest.approx(5000.0),
    }  # fmt: skip
    for item in run.items:
        assert item.energy_mj is not None
        assert item.samples_ms is not None
        # 5 W for as long as a run takes: alone it is at most as slow as between others, bar a busy machine.
        assert 0 < item.energy_mj < 5 * 10 * max(item.samples_ms)
        assert set(item.unknown or {}) == {"energy_above_idle_mj"}  # the rail shows no more than at idle
    assert run.reference is not None
    assert run.reference.energy_mj is None


def test_an_order_that_is_only_to_be_built_is_measured_as_well(tmp_path: Path, by_onnxruntime: Built) -> None:
    bench = Device(tmp_path, ORIN_NANO_6_2, "orin-nano-cpu", None)
    ended = bench.bench(bench.with_result(by_onnxruntime), "--rounds", "8")
    assert ended.returncode == 0, ended.stderr
    run = bench.run()
    assert names(run) == [("conv1", "head", None), ("conv1", "tail", None), *[("whole", "whole", None)] * 2]
    assert run.reference is None


def test_an_order_for_another_machine_or_another_builder_is_refused(tmp_path: Path) -> None:
    bench = Device(tmp_path, NANO_4_6_1, "orin-nano-cpu", small_measurement())
    ended = bench.bench()
    assert ended.returncode == 2
    assert "this device is not orin-nano-cpu@6.2: its chip is tegra210" in ended.stderr
    ended = make_device(ORIN_NANO_6_2, tmp_path / "other", onnxruntime=True).agent(
        bench.agent_file, "bench", bench.order, "--with", "trtexec"
    )
    assert ended.returncode == 2
    assert "--with trtexec is about TensorRT, and this order is for ONNX Runtime; leave it out" in ended.stderr
