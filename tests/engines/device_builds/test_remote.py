"""Building on a device through a real OpenSSH server: look, copy, build, bring back; and what breaks on the way."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_jetson.boards import AGX_ORIN_7_2, NANO_4_6_1, ORIN_NANO_6_2, THOR_7_2, XAVIER_5_1, FakeBoard
from fake_jetson.device import Barrier, FakeDevice, make_device
from fake_jetson.small_request import SAMPLES, small_request
from fake_jetson.ssh_server import SERVER, SshServer, ssh_server
from tensorrt_doubles.engine_file import decode_engine
from tests_support import files_below

from engines.device_builds import ssh
from engines.device_builds.remote import build_on_device, probe_device
from engines.targets.lookup import find_target
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.store.blobs import BlobStore, write_blob

BATCH = BuildSettings(batches=(SAMPLES, SAMPLES, SAMPLES))
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not Path(SERVER).exists(), reason="left out: apt-get install openssh-server"),
]


@pytest.fixture(scope="module")
def orin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeDevice, SshServer]]:
    """An Orin Nano behind an ssh server."""
    folder = tmp_path_factory.mktemp("orin")
    device = make_device(ORIN_NANO_6_2, folder / "device")
    with ssh_server(device, folder / "sshd") as server:
        yield device, server


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch, orin: tuple[FakeDevice, SshServer]) -> None:
    monkeypatch.setenv("COOPEXPORT_SSH", orin[1].client)


def test_a_device_says_what_it_is(orin: tuple[FakeDevice, SshServer]) -> None:
    _, server = orin
    found = probe_device(server.name)
    assert found["machine"]["board"] == ORIN_NANO_6_2.model
    assert found["machine"]["backends"]["tensorrt"] == "10.3.0.30"
    assert found["power_mode"] == {"name": "25W", "identifier": 1}


def test_engines_are_built_there_and_brought_back(orin: tuple[FakeDevice, SshServer], tmp_path: Path) -> None:
    device, server = orin
    target = find_target("orin-nano")
    pending = small_request(tmp_path / "my out", target, 4, BATCH)[:2]
    events: list[dict[str, Any]] = []
    installed = build_on_device(server.name, target, pending, events.append)
    assert [one.failure for one in installed] == [None, None]
    assert all(one.identity is not None and one.identity.machine.board == ORIN_NANO_6_2.model for one in installed)
    assert files_below(tmp_path / "my out") == {
        f"engines/orin-nano@6.2/conv1.{role}.batch6.{end}"
        for role in ("head", "tail")
        for end in ("engine", "engine.json")
    }
    assert events[0]["text"].startswith("copying 4 of 4 files to ")
    assert [event["name"] for event in events if event["event"] == "built"] == [
        "small/conv1.head.batch6",
        "small/conv1.tail.batch6",
    ]
    # Nothing is left there but the agent, the build request with graphs and golden data, and the store.
    folder = device.home / ".cache/coopexport"
    left = {name.split("/")[0] for name in files_below(folder)}
    assert left == {"agent", "engines"}
    assert len(list((folder / "agent/blobs").iterdir())) == 4
    assert {path.suffix for path in (folder / "agent").iterdir()} == {"", ".pyz", ".json"}
    assert list((folder / "agent/results").iterdir()) == []

    # What nobody has used for long goes, and nothing that is not ours.
    blobs = folder / "agent/blobs"
    old = [blobs / ("0" * 64), blobs / ("1" * 64 + ".part"), folder / "agent/order-0123456789abcdef.json"]
    foreign = [blobs / "thesis.tex", folder / "agent/notes.json", blobs / ("2" * 64)]
    for path in (*old, *foreign):
        path.write_text("x")
        age_s = 86400 * (10 if path == foreign[-1] else 40)
        os.utime(path, (time.time() - age_s, time.time() - age_s))

    # One graph more: only its files are copied, only it is built; an engine that is gone here is fetched again.
    events.clear()
    installed[0].path.unlink()
    pending = small_request(tmp_path / "my out", target, 4, BATCH)
    again = build_on_device(server.name, target, pending, events.append)
    assert events[0]["text"].startswith("copying 2 of 6 files to ")
    assert [one.reused for one in again] == [True, True, False]
    assert [one.identity for one in again[:2]] == [one.identity for one in installed]
    assert again[0].path.is_file()
    assert [path.exists() for path in (*old, *foreign)] == [False] * 3 + [True] * 3


def test_the_commands_for_devices(
    orin: tuple[FakeDevice, SshServer], coopexport: Callable[..., Any], tmp_path: Path
) -> None:
    device, server = orin
    result = coopexport(tmp_path, "probe", server.name)
    assert result.code == 0, result.errors
    for said in (ORIN_NANO_6_2.model, "tegra234", "10.3.0.30", "36.4.3", "name 25W, identifier 1"):
        assert said in result.output
    result = coopexport(tmp_path, "agent", "--output", "my agent.pyz")
    assert result.code == 0, result.errors
    assert device.agent(tmp_path / "my agent.pyz", "--version").stdout.startswith("coop-agent ")
    result = coopexport(tmp_path, "probe", "me@h:")
    assert (result.code, result.error_lines) == (
        2, ['coopexport: error: "me@h:" is not a device; write it as user@host or user@host:port']
    )  # fmt: skip


def test_another_device_is_refused_before_anything_is_copied(
    orin: tuple[FakeDevice, SshServer], tmp_path: Path
) -> None:
    device, server = orin
    before = files_below(device.home)
    target = find_target("nano")
    pending = small_request(tmp_path, target, 8, BATCH)
    with pytest.raises(CoopexportError) as error:
        build_on_device(server.name, target, pending, lambda _: None)
    said = str(error.value)
    assert said.startswith(f"{server.name} is not nano@4.6.1: its chip is tegra234 ({ORIN_NANO_6_2.model}), expected ")
    assert "it runs JetPack 6.2 (L4T 36.4.3), expected 4.6.1 (L4T 32.7); it has TensorRT 10.3.0.30, expected" in said
    assert {name for name in files_below(device.home) - before if ".pyz" not in name} == set()


@pytest.mark.parametrize("wrong", ["missing", "ends Python by SIGILL"])
def test_a_device_without_a_numpy_that_works_says_the_agents_line(
    orin: tuple[FakeDevice, SshServer], tmp_path: Path, wrong: str
) -> None:
    device, server = orin
    program = device.root / "usr/bin/python3"
    before, there = program.read_text(), files_below(device.home)
    paths = tmp_path / "site"
    if wrong != "missing":
        (paths / "numpy").mkdir(parents=True)
        (paths / "numpy/__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{paths}" exec "{device.python}" -S "$@"\n')
    target = find_target("orin-nano")
    pending = small_request(tmp_path, target, 7, BATCH)
    try:
        with pytest.raises(CoopexportError) as error:
            build_on_device(server.name, target, pending, lambda _: None)
        agent = next((device.home / ".cache/coopexport/agent").glob("*.pyz"))
        said = device.agent(agent, "build", "order.zip")
        probed = probe_device(server.name)
    finally:
        program.write_text(before)
    (line,) = said.stderr.splitlines()
    assert said.returncode == 2
    assert str(error.value) == f"{server.name}: {line.removeprefix('coop-agent: error: ')}"
    assert str(error.value) == f"{server.name}: {probed['unknown']['numpy']}"
    assert ("has no NumPy" if wrong == "missing" else wrong) in line
    assert {name for name in files_below(device.home) - there if ".pyz" not in name} == set()


def test_a_failure_there_is_told_here(orin: tuple[FakeDevice, SshServer], tmp_path: Path) -> None:
    device, server = orin
    target = find_target("orin-nano")
    pending = small_request(tmp_path, target, 5, BATCH)[:2]
    device.set_faults({"when": "build", "does": "fails", "words": ["no tactic"], "holds": "symbols_0.low"})
    head, tail = build_on_device(server.name, target, pending, lambda _: None)
    device.set_faults()
    assert (head.failure, head.identity) == ("trtexec failed: no tactic", None)
    assert tail.identity is not None
    device.set_free_memory(100)
    (head,) = build_on_device(server.name, target, pending[:1], lambda _: None)
    device.set_free_memory(4000)
    assert head.failure is not None
    assert head.failure.startswith("100 MiB of memory are free")


def test_a_lost_connection_is_one_line_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_device(AGX_ORIN_7_2, tmp_path / "device")
    target = find_target("agx-orin@7.2")
    pending = small_request(tmp_path / "out", target, 8, BATCH)[:2]
    barrier = Barrier(tmp_path)
    device.set_faults({"when": "build", "holds": "classify", **barrier.fault})
    with ssh_server(device, tmp_path / "sshd") as server:
        monkeypatch.setenv("COOPEXPORT_SSH", server.client)

        def cut_off() -> None:
            barrier.wait()
            server.stop_all()

        watcher = threading.Thread(target=cut_off)
        watcher.start()
        try:
            with pytest.raises(CoopexportError) as error:
                build_on_device(server.name, target, pending, lambda _: None)
        finally:
            barrier.open()
        watcher.join()
        said = str(error.value)
    assert said.startswith(f"the connection to {server.name} was lost while building (")
    assert said.endswith("run the same command again: what is finished there is not built again")
    assert files_below(tmp_path / "out") == set()
    with ssh_server(device, tmp_path / "sshd-again") as server:
        monkeypatch.setenv("COOPEXPORT_SSH", server.client)
        events: list[dict[str, Any]] = []
        installed = build_on_device(server.name, target, pending, events.append)
    # The tail was finished there although nobody listened, or is waited for.
    assert [one.reused for one in installed] == [True, True]
    assert events[0]["text"].startswith("copying 0 of 4 files")
    assert [one.failure for one in installed] == [None, None]


def test_what_arrived_before_the_connection_was_lost_is_not_sent_again(
    orin: tuple[FakeDevice, SshServer], tmp_path: Path
) -> None:
    device, server = orin
    data = [bytes([number]) * 1000 for number in range(4)]
    names = [sha256_of_bytes(one) for one in data]
    folder = device.home / "a folder's name"
    folder.mkdir()
    (folder / f"{names[0]}.part").write_bytes(data[0])
    (folder / f"{names[1]}.part").write_bytes(data[1][:10])
    (folder / names[2]).write_bytes(data[2])
    with ssh.connect(server.name) as connection:
        assert ssh.missing(connection, str(folder), names) == [names[1], names[3]]
        here = BlobStore(str(tmp_path / "here"))
        assert [write_blob(here, content) for content in data] == names
        ssh.send_all(connection, str(folder), here, [names[1], names[3]])
        assert ssh.missing(connection, str(folder), names) == []
        back = BlobStore(str(tmp_path / "back"))
        ssh.fetch_all(connection, str(folder), names, back)
        assert [(tmp_path / "back" / name).read_bytes() for name in names] == data
        with pytest.raises(CoopexportError, match="fetching"):
            ssh.fetch_all(connection, str(folder), ["0" * 64], back)
        # What is damaged there is not kept here; the rest is.
        (folder / names[1]).write_bytes(data[1][:-1] + b"?")
        fresh = BlobStore(str(tmp_path / "fresh"))
        with pytest.raises(CoopexportError, match=r"^1 of 4 files from .* did not arrive as they were"):
            ssh.fetch_all(connection, str(folder), names, fresh)
        assert files_below(tmp_path / "fresh") == {*names} - {names[1]}


def test_results_of_lost_connections_go_in_the_end(orin: tuple[FakeDevice, SshServer], tmp_path: Path) -> None:
    device, server = orin
    results = device.home / ".cache/coopexport/agent/results"
    lost, new, foreign = results / ("0" * 16), results / ("1" * 16), results / "2024"
    for folder in (lost, new, foreign):
        folder.mkdir(parents=True)
        (folder / "result.json").write_text("x")
        if folder != new:
            os.utime(folder, (time.time() - 40 * 86400,) * 2)
    target = find_target("orin-nano")
    build_on_device(server.name, target, small_request(tmp_path, target, 4, BATCH)[:1], lambda _: None)
    assert [folder.exists() for folder in (lost, new, foreign)] == [False, True, True]
    shutil.rmtree(results)


def test_a_long_name_of_the_temporary_folder_is_no_hindrance(
    orin: tuple[FakeDevice, SshServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as macOS has it: the name of a connection's socket has at most 104 bytes, of which ssh needs some."""
    folder = Path("/tmp/folders/zz").joinpath("x" * 30, "T")
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with ssh.connect(orin[1].name) as connection:
        assert ssh.run(connection, "echo here") == b"here\n"
        assert ssh.run(connection, "echo again") == b"again\n"
    shutil.rmtree("/tmp/folders")


def test_what_does_not_arrive_whole_replaces_nothing(
    orin: tuple[FakeDevice, SshServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, server = orin
    path = device.home / "kept.json"
    path.write_bytes(b"as it was")
    losing = tmp_path / "losing_ssh"
    losing.write_text(f'#!/bin/sh\nhead -c 5 | {server.client} "$@"\n')
    losing.chmod(0o755)
    monkeypatch.setenv("COOPEXPORT_SSH", str(losing))
    with ssh.connect(server.name) as connection:
        with pytest.raises(CoopexportError, match=r"sending on .* failed: it did not arrive whole"):
            ssh.send(connection, str(path), b"as it should be")
        assert (path.read_bytes(), Path(f"{path}.part").exists()) == (b"as it was", False)
        ssh.send(connection, str(path), b"short")
    assert path.read_bytes() == b"short"
    path.unlink()


def test_a_device_without_onnx_runtime_is_refused_before_anything_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_device(ORIN_NANO_6_2, tmp_path / "device", onnxruntime=True)
    broken = tmp_path / "broken/onnxruntime"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libgomp.so.1 is missing')\n")
    python = device.root / "usr/bin/python3"
    python.write_text(python.read_text().replace("exec", f"PYTHONPATH={broken.parent} exec"))
    target = find_target("orin-nano-cpu")
    pending = small_request(tmp_path / "out", target)[:1]
    with ssh_server(device, tmp_path / "sshd") as server:
        monkeypatch.setenv("COOPEXPORT_SSH", server.client)
        with pytest.raises(CoopexportError, match=r"ONNX Runtime .* cannot be imported \(libgomp.so.1 is missing\)"):
            build_on_device(server.name, target, pending, lambda _: None)
    assert not (device.home / ".cache/coopexport/agent/blobs").exists()


def test_a_login_script_that_talks_is_named(
    orin: tuple[FakeDevice, SshServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, server = orin
    talking = tmp_path / "talking_ssh"
    talking.write_text(f'#!/bin/sh\nprintf "Welcome\\n"\nexec {server.client} "$@"\n')
    talking.chmod(0o755)
    monkeypatch.setenv("COOPEXPORT_SSH", str(talking))
    with pytest.raises(CoopexportError, match=r"prints 'Welcome' before the command's own output: have its login"):
        probe_device(server.name)
    talking.write_text("#!/bin/sh\nexit 0\n")
    with pytest.raises(CoopexportError, match=r"prints '' before"):
        probe_device(server.name)


def test_what_is_no_event_is_not_passed_on(
    orin: tuple[FakeDevice, SshServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, server = orin
    lines = ["", "1", "[]", '{"event": "working"}', '{"event": "note"}', '{"event": ["done"]}', "[" * 100_000]
    lines += ['{"event": "built", "number": 1, "count": 1, "reused": false, "seconds": "x", "bytes": 1}']

    def talk(connection: ssh.Connection, script: str, on_line: Callable[[str], None]) -> tuple[int, str]:
        for line in lines:
            on_line(line)
        return 2, "coop-agent: error: no"

    monkeypatch.setattr(ssh, "stream", talk)
    target = find_target("orin-nano")
    events: list[dict[str, Any]] = []
    with pytest.raises(CoopexportError, match=r": no \(exit code 2\)"):
        build_on_device(server.name, target, small_request(tmp_path, target, 4, BATCH)[:1], events.append)
    assert [event["event"] for event in events] == ["note", ["done"]]


def test_who_cannot_be_reached(orin: tuple[FakeDevice, SshServer], monkeypatch: pytest.MonkeyPatch) -> None:
    _, server = orin
    host, _, _ = server.name.partition(":")
    with pytest.raises(CoopexportError, match=rf"cannot reach {host}:1: .*onnection refused; make this work without"):
        probe_device(f"{host}:1")
    key = server.log.parent / "host_key"  # a key that the server does not know
    trusting = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    monkeypatch.setenv("COOPEXPORT_SSH", f"ssh -F /dev/null -i {key} -o IdentitiesOnly=yes {trusting}")
    with pytest.raises(CoopexportError, match=r"cannot reach .*: .*Permission denied \(publickey\)"):
        probe_device(server.name)


def test_a_full_disk_there_is_told(orin: tuple[FakeDevice, SshServer]) -> None:
    _, server = orin
    with ssh.connect(server.name) as connection, pytest.raises(CoopexportError, match=r"sending on .* failed"):
        ssh.send(connection, "/dev/full/x", b"data")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("nano", ("nano", None)),
        ("me@nano.local", ("me@nano.local", None)),
        ("me@10.0.0.2:2222", ("me@10.0.0.2", 2222)),
        ("me@[fe80::1%eth0]:22", ("me@fe80::1%eth0", 22)),
        ("[::1]", ("::1", None)),
    ],
)
def test_names_of_devices(name: str, parts: tuple[str, int | None]) -> None:
    assert ssh.parse_name(name) == parts


@pytest.mark.parametrize(
    "name", ["", "-oProxyCommand=id", "me@-oProxyCommand=id", "me@host:", "a b", "me@", "h:x", "@h"]
)
def test_what_is_no_device(name: str) -> None:
    with pytest.raises(CoopexportError, match="is not a device; write it as user@host"):
        ssh.parse_name(name)


@pytest.mark.parametrize(
    ("board", "bits", "settings", "dtype"),
    [
        (NANO_4_6_1, 4, BATCH, "int32"),
        (XAVIER_5_1, 8, BuildSettings(batches=(1, SAMPLES, 8)), "uint8"),
        (THOR_7_2, 3, BATCH, "uint8"),
    ],
    ids=lambda value: getattr(value, "target", None),
)
def test_every_kind_of_board_is_reached(
    board: FakeBoard, bits: int, settings: BuildSettings, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_device(board, tmp_path / "device")
    target = find_target(board.target)
    pending = small_request(tmp_path / "out", target, bits, settings)[:1]
    with ssh_server(device, tmp_path / "sshd") as server:
        monkeypatch.setenv("COOPEXPORT_SSH", server.client)
        (head,) = build_on_device(server.name, target, pending, lambda _: None)
    assert head.identity is not None
    assert head.identity.outputs[0]["dtype"] == dtype
    assert (head.identity.settings, head.identity.machine.l4t) == (settings, board.l4t)
    told = board.tensorrt if board.tensorrt >= (8, 6) else board.tensorrt[:3]  # before, the header does not say it
    assert head.identity.flags["header_version"] == ".".join(map(str, told))
    model, _ = decode_engine(head.path.read_bytes(), "tensorrt", board.tensorrt)
    assert model == pending[0].files[pending[0].item.graph_sha256]
