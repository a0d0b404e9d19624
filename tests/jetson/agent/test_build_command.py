"""The agent on fake Jetsons: build requests built, checked and measured; every failure a row with its reason."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
from pathlib import Path

import pytest
from fake_jetson.boards import AGX_ORIN_7_2, NANO_4_6_1, ORIN_NANO_6_2, THOR_7_2, XAVIER_5_1, FakeBoard
from fake_jetson.device import Barrier, FakeDevice, make_device
from fake_jetson.running import running_with
from fake_jetson.small_request import SAMPLES, small_request
from fake_jetson.trtexec_program import ENQUEUE_MS
from tensorrt_doubles.engine_file import decode_engine
from tests_support import STUCK_S, files_below, wait_until

from benchmarks.latency.run import read_run
from engines.device_builds.agent_file import AgentRequest, write_agent
from engines.device_builds.requests import InstalledEngine, PendingEngine, install_result, write_request
from engines.targets.lookup import find_target
from jetson.agent.item_process import run_step
from jetson.agent.steps import STEPS
from jetson.engines.build_settings import BuildSettings
from jetson.errors import StaleError
from jetson.requests.archive import read_member
from jetson.requests.build_request import ResultItem, open_request, open_result, write_result

BATCH = BuildSettings(batches=(SAMPLES, SAMPLES, SAMPLES))


class Bench:
    """A fake device, the agent, and a build request for it."""

    def __init__(self, folder: Path, board: FakeBoard, bits: int = 8, settings: BuildSettings = BATCH,
                 roles: tuple[str, ...] = ("head", "tail", "whole"), module: bool = False) -> None:  # fmt: skip
        self.folder = folder
        self.device: FakeDevice = make_device(board, folder / "device", module=module)
        self.agent_file = folder / "coop-agent.pyz"
        write_agent(AgentRequest(self.agent_file))
        self.target = find_target(board.target)
        pending = small_request(folder / "out", self.target, bits, settings)
        self.pending: list[PendingEngine] = [one for one in pending if one.item.role in roles]
        self.request, self.result = folder / "an order.zip", folder / "a result.zip"
        write_request(self.request, self.target, self.pending)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.device.agent(self.agent_file, *arguments)

    def build(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.run("build", self.request, "--output", self.result, *more)

    def start(self) -> subprocess.Popen[str]:
        """Start a build and return at once."""
        return subprocess.Popen(
            ["python3", self.agent_file, "build", self.request, "--output", self.result], cwd=self.device.home,
            env=self.device.environment, stderr=subprocess.PIPE, text=True,
            # A shell has what it starts in the background ignore it, and so has this what is started by it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def installed(self) -> list[InstalledEngine]:
        return install_result(self.result, self.target, self.pending)


def test_an_order_is_built_checked_and_comes_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path, NANO_4_6_1, 4)
    ended = bench.build()
    assert ended.returncode == 0, ended.stderr
    assert "3 engines for nano@4.6.1 by trtexec 8.2.1" in ended.stderr
    installed = bench.installed()
    for one, pending in zip(installed, bench.pending, strict=True):
        assert one.identity is not None
        assert (one.failure, one.reused, one.notes) == (None, False, ())
        assert (one.identity.settings, one.identity.machine.board) == (BATCH, NANO_4_6_1.model)
        assert one.identity.flags["header_version"] == "8.2.1"  # before 8.6 the header does not say it
        assert one.identity.parity is not None
        assert [check["samples"] for check in one.identity.parity] == [SAMPLES]
        assert {check["run_on"] for check in one.identity.parity} == {
            f"{NANO_4_6_1.model}, {one.identity.machine.platform}, TensorRT 8.2.1"
        }
        model, _ = decode_engine(one.path.read_bytes(), "tensorrt", NANO_4_6_1.tensorrt)
        assert model == pending.files[pending.item.graph_sha256]
    # 8.2 has no uint8: four bytes of two symbols each in an int32.
    head = bench.pending[0].item
    assert [(end.dtype, end.shape) for end in head.outputs] == [("int32", (SAMPLES, 18))]
    assert head.forms[0].packing == "words"
    flags = installed[0].identity.flags  # type: ignore[union-attr]
    assert flags["trtexec"][:2] == ["--buildOnly", "--noTF32"]
    # Again: nothing is built, and the same comes back.
    bench.device.set_faults({"when": "build", "does": "fails", "words": ["must not be built"], "always": True})
    ended = bench.build()
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("on this device already") == 3
    assert [(one.identity, one.reused) for one in bench.installed()] == [(one.identity, True) for one in installed]
    assert not [name for name in files_below(tmp_path) if name.endswith((".part", ".lock")) or ".partial" in name]


def test_the_tensorrt_module_is_used_where_it_is(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ORIN_NANO_6_2, roles=("head", "tail"), module=True)
    ended = bench.build("--json")
    assert ended.returncode == 0, ended.stderr
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    assert events[0]["text"] == "2 engines for orin-nano@6.2 by tensorrt module 10.3.0.30"
    assert [event["event"] for event in events if event["event"] != "working"] == ["note", "built", "built", "done"]
    assert all(one.identity is not None and one.identity.builder == "tensorrt module" for one in bench.installed())
    checked = bench.run("check", bench.request, bench.result)
    assert checked.returncode == 0, checked.stderr
    assert "2 of 2 engines agree with their golden data" in checked.stderr
    measured = bench.run("bench", bench.request, bench.result, "--rounds", "12", "--output", tmp_path / "run.json")
    assert measured.returncode == 0, measured.stderr
    run = read_run(tmp_path / "run.json")
    assert [len(item.samples_ms or ()) for item in run.items] == [12] * 2
    assert 20 <= run.warm_up <= 100
    assert run.steady == (not any(item.unsteady for item in run.items))
    assert run.affinity == tuple(sorted(os.sched_getaffinity(0)))
    assert run.host["timing"].startswith("wall time of a call")
    # What the double does takes no time by the clock of its events.
    for item in run.items:
        assert item.gpu_ms is not None
        assert (item.gpu_ms.inputs, item.gpu_ms.compute, item.gpu_ms.outputs) == (0, 0, 0)
        assert (item.gpu_ms.enqueue or 0) > 0
    # The double's GPU works in the memory of its process, and has no driver that says what is free.
    assert all(item.peak_memory_bytes is None and "peak_memory_bytes" in (item.unknown or {}) for item in run.items)


def test_an_engine_is_measured_by_trtexec(tmp_path: Path) -> None:
    bench = Bench(tmp_path, NANO_4_6_1, roles=("tail",))
    assert bench.build().returncode == 0
    measured = bench.run("bench", bench.request, bench.result, "--rounds", "15", "--output", tmp_path / "run.json")
    assert measured.returncode == 0, measured.stderr
    run = read_run(tmp_path / "run.json")
    (row,) = run.items
    assert (row.variant, row.layer, row.part, row.batch, row.failure) == ("small", "conv1", "tail", SAMPLES, None)
    assert row.gpu_ms is not None
    assert (row.gpu_ms.inputs, row.gpu_ms.outputs) == (0, 0)
    assert row.gpu_ms.compute == pytest.approx(statistics.median(row.samples_ms or ()))
    assert row.gpu_ms.enqueue == pytest.approx(ENQUEUE_MS)
    # The warm-up, which 8.2 writes as well, is not among them: it would be thousands.
    assert row.samples_ms is not None
    assert len(row.samples_ms) == 15
    assert (run.backend, run.backend_version, run.target) == ("tensorrt", "8.2.1", "nano@4.6.1")
    assert run.host["probe"]["power_mode"] == {"name": "MAXN", "identifier": 0}
    assert run.host["timing"].startswith("trtexec's latency after 500 ms of warm-up")
    assert (run.warm_up, run.steady) == (0, None)  # in rounds, of which nobody counts those


def test_what_fails_is_a_row_with_its_reason_and_the_others_go_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ORIN_NANO_6_2)
    bench.device.set_faults(
        {"when": "build", "does": "fails", "words": ["[TRT] Error Code 10: no tactic for conv1"]},
        {"when": "build", "does": "killed", "whom": "parent"},
    )
    ended = bench.build()
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("coop-agent: error: 2 of 3 engines failed")
    head, tail, whole = bench.installed()
    assert head.failure == "trtexec failed: [TRT] Error Code 10: no tactic for conv1"
    assert tail.failure is not None
    assert tail.failure.startswith("its process was killed, as Linux does when memory runs out")
    assert whole.identity is not None
    assert files_below(tmp_path / "out") == {"engines/orin-nano@6.2/whole.batch6.engine",
                                             "engines/orin-nano@6.2/whole.batch6.engine.json"}  # fmt: skip
    # The faults are used up: what failed is built now, what was built is not.
    assert bench.build().returncode == 0
    assert [one.reused for one in bench.installed()] == [False, False, True]


def test_an_engine_that_computes_something_else_is_not_brought_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ORIN_NANO_6_2, roles=("tail",))
    other = small_request(tmp_path / "out", bench.target, 8, BATCH, seed=1)[1]
    item = bench.pending[0].item
    files = {**bench.pending[0].files, **other.files}
    wrong = item._replace(graph_sha256=other.item.graph_sha256, graph_bytes=other.item.graph_bytes)
    write_request(bench.request, bench.target, [PendingEngine(wrong, files, bench.pending[0].path)])
    ended = bench.build()
    assert ended.returncode == 2
    assert "small/conv1.tail.batch6 on this device: parity check 'build' failed: error" in ended.stderr
    assert open_result(str(bench.result)).items[0].engine_sha256 is None
    assert not list((bench.device.home / ".cache/coopexport/engines").rglob("*.json"))


def test_a_stored_engine_is_checked_again_with_other_golden_data(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ORIN_NANO_6_2, roles=("tail",))
    assert bench.build().returncode == 0
    pending = bench.pending[0]
    other = small_request(tmp_path / "out", bench.target, 8, BATCH, seed=1)[1]
    samples = {"samples_sha256": other.item.samples_sha256, "samples_bytes": other.item.samples_bytes}
    wrong = PendingEngine(pending.item._replace(**samples), {**pending.files, **other.files}, pending.path)
    write_request(bench.request, bench.target, [wrong])
    bench.device.set_faults({"when": "build", "does": "fails", "words": ["must not be built"], "always": True})
    ended = bench.build()
    assert ended.returncode == 2
    assert "small/conv1.tail.batch6 on this device: parity check 'build' failed: error" in ended.stderr


def test_an_engine_that_changed_between_two_steps_is_not_loaded(tmp_path: Path) -> None:
    target = find_target("orin-nano")
    write_request(tmp_path / "order.zip", target, small_request(tmp_path, target, 8, BATCH)[:1])
    (tmp_path / "engine").write_bytes(b"another")
    request = open_request(str(tmp_path / "order.zip"))
    maker = {"kind": "trtexec", "version": "10.3.0", "trtexec": "/nowhere/trtexec"}
    job = {"order": str(tmp_path / "order.zip"), "order_sha256": request.archive.sha256, "number": 0, "maker": maker,
           "settings": BATCH.to_json(), "engine": str(tmp_path / "engine"), "engine_sha256": "0" * 64}  # fmt: skip
    for step in ("checking", "timing"):
        with pytest.raises(StaleError, match="engine was changed meanwhile; run this again"):
            STEPS[step]({**job, "rounds": 1}, lambda _: None)
    with pytest.raises(StaleError, match=r"order\.zip was changed meanwhile"):
        STEPS["checking"]({**job, "order_sha256": "0" * 64}, lambda _: None)
    with pytest.raises(StaleError, match=r"order\.zip was changed meanwhile"):  # by its class from its process, too
        run_step({**job, "step": "checking", "order_sha256": "0" * 64}, lambda _: None)


def test_without_the_dla_where_it_fails(tmp_path: Path) -> None:
    settings = BuildSettings("fp16", (SAMPLES,) * 3, dla_core=1)
    bench = Bench(tmp_path, XAVIER_5_1, settings=settings, roles=("head", "tail"))
    bench.device.set_faults({"when": "dla", "does": "fails", "words": ["DLA validation failed"], "holds": "scores"})
    ended = bench.build()
    assert ended.returncode == 0, ended.stderr
    note = "built for the GPU, as DLA core 1 failed: trtexec failed: DLA validation failed"
    assert note in ended.stderr
    head, tail = bench.installed()
    assert head.identity is not None
    assert tail.identity is not None
    assert (head.identity.settings.dla_core, head.notes) == (1, ())
    assert {"--useDLACore=1", "--allowGPUFallback", "--fp16"} <= set(head.identity.flags["trtexec"])
    assert (tail.identity.settings.dla_core, tail.notes) == (None, (note,))
    # The next time it is known: the DLA is not tried again.
    bench.device.set_faults({"when": "build", "does": "fails", "words": ["must not be built"], "always": True})
    assert bench.build().returncode == 0
    assert [(one.reused, one.notes) for one in bench.installed()] == [(True, ()), (True, (note,))]


def test_too_little_memory_is_said_and_the_workspace_follows_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, NANO_4_6_1, roles=("head",))
    bench.device.set_free_memory(300)
    ended = bench.build()
    assert ended.returncode == 2
    assert "300 MiB of memory are free and about 433 MiB are needed" in ended.stderr
    bench.device.set_free_memory(1000)
    assert bench.build().returncode == 0
    flags = bench.installed()[0].identity.flags  # type: ignore[union-attr]
    assert "--workspace=299" in flags["trtexec"]
    assert flags["workspace_bytes"] == 299 << 20


def test_another_device_is_refused_before_any_work(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ORIN_NANO_6_2, roles=("head",))
    other = make_device(AGX_ORIN_7_2, tmp_path / "other")
    ended = other.agent(bench.agent_file, "build", bench.request, "--output", bench.result)
    assert ended.returncode == 2
    assert ended.stderr.startswith(
        "coop-agent: error: this device is not orin-nano@6.2: its board is NVIDIA Jetson AGX"
    )
    assert not bench.result.exists()


def test_a_damaged_order_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ORIN_NANO_6_2, roles=("head",))
    bench.request.write_bytes(bench.request.read_bytes()[:-200])
    ended = bench.build()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"coop-agent: error: {bench.request} is damaged: ")
    ended = bench.run("build", tmp_path / "nowhere.zip")
    assert "nowhere.zip is missing; check the path" in ended.stderr


def test_an_engine_of_another_machine_is_not_loaded_for_a_check(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ORIN_NANO_6_2, roles=("head",))
    assert bench.build().returncode == 0
    updated = make_device(AGX_ORIN_7_2, tmp_path / "other")
    ended = updated.agent(bench.agent_file, "check", bench.request, bench.result)
    assert ended.returncode == 2
    assert "TensorRT 10.16.2.10 here, engine built by 10.3.0.30; build it again on this device" in ended.stderr


def test_only_the_engine_that_was_ordered_is_loaded(tmp_path: Path) -> None:
    """Engine and identity of another item agree with each other, and with this device."""
    bench = Bench(tmp_path, ORIN_NANO_6_2, roles=("head", "tail"))
    assert bench.build().returncode == 0
    result = open_result(str(bench.result))
    head, tail = result.items
    named = [(item.engine_sha256, item.engine_bytes) for item in result.items]
    named += [(item.identity_sha256, item.identity_bytes) for item in result.items]
    files = [(str(sha256), read_member(result.archive, str(sha256), size_bytes)) for sha256, size_bytes in named]

    def check(*items: ResultItem) -> str:
        write_result(str(bench.result), open_request(str(bench.request)), result.probe, items, files)
        ended = bench.run("check", bench.request, bench.result)
        assert ended.returncode == 2
        return ended.stderr.splitlines()[-1]

    said = check(head._replace(name=tail.name), tail._replace(name=head.name))
    assert f"{head.name}: is another one: needed is role head, its identity says tail" in said
    assert check(head._replace(name="strange")).endswith("1 of 1 engines failed: strange: it is not in the order")
    # What was not built is not checked, and that is no success.
    said = check(ResultItem(head.name, failure="memory ran out"), tail)
    assert said.endswith(f"1 of 2 engines failed: {head.name}: it was not built: memory ran out")


def test_trtexec_says_its_version_where_no_package_does(tmp_path: Path) -> None:
    """A system without Debian's packages, such as one made with Yocto."""
    bench = Bench(tmp_path, THOR_7_2, roles=("head",))
    (bench.device.root / "usr/bin/dpkg-query").write_text("#!/bin/sh\nexit 1\n")
    ended = bench.build()
    assert ended.returncode == 0, ended.stderr
    assert "1 engines for thor@7.2 by trtexec 10.16.2" in ended.stderr
    identity = bench.installed()[0].identity
    assert identity is not None
    assert identity.backend_version == identity.machine.backends["tensorrt"] == "10.16.2"


def test_a_killed_agent_leaves_nothing_half_and_goes_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ORIN_NANO_6_2)
    barrier = Barrier(tmp_path)
    bench.device.set_faults({"when": "build", "holds": "classify", **barrier.fault})  # the second and the third hold it
    agent = bench.start()
    barrier.wait()
    assert running_with(str(bench.device.root)) != []
    agent.kill()
    agent.communicate()
    try:
        # No builder is left that holds the GPU's memory: not even one that would never end.
        wait_until(lambda: running_with(str(bench.device.root)) == [], "the end of all that the agent started")
    finally:
        barrier.open()
    assert not bench.result.exists()
    ended = bench.build()
    assert ended.returncode == 0, ended.stderr
    assert [one.reused for one in bench.installed()] == [True, False, False]
    assert not [name for name in files_below(tmp_path) if ".partial" in name]


def test_what_a_killed_run_with_the_same_process_id_left_is_removed(tmp_path: Path) -> None:
    """In a container the ids begin anew with each run."""
    bench = Bench(tmp_path, ORIN_NANO_6_2, roles=("head",))
    arguments = ["python3", str(bench.agent_file), "build", str(bench.request), "--output", str(bench.result)]
    script = (
        f"import os; folder = '{tmp_path}/.{bench.result.name}.%d.partial' % os.getpid(); os.mkdir(folder); "
        f"open(folder + '/left', 'w').close(); os.execvp('python3', {arguments!r})"
    )
    ended = bench.device.run("python3", "-c", script)
    assert ended.returncode == 0, ended.stderr
    assert not [name for name in files_below(tmp_path) if ".partial" in name]


def test_an_interrupted_agent_says_how_to_go_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ORIN_NANO_6_2, roles=("head",))
    barrier = Barrier(tmp_path)
    bench.device.set_faults({"when": "build", **barrier.fault})
    agent = bench.start()
    barrier.wait()
    agent.send_signal(signal.SIGINT)
    try:
        _, errors = agent.communicate(timeout=STUCK_S)
    finally:
        barrier.open()
    assert agent.returncode == 130
    assert errors.splitlines()[-1] == (
        "coop-agent: error: interrupted; what is finished is kept on this device, run the command again to go on"
    )
    assert not bench.result.exists()
