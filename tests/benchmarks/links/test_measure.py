"""Measuring a link through a real ssh server, and through a relay whose rate and delay are known."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_jetson.boards import ORIN_NANO_6_2
from fake_jetson.device import FakeDevice, make_device
from fake_jetson.ssh_server import SERVER, SshServer, ssh_server
from rate_relay import rate_relay

from benchmarks.links import measure
from benchmarks.links.measure import LinkProbeRequest, probe_link
from benchmarks.links.measurement import read_measurement
from benchmarks.links.wire import ssh_bytes
from engines.device_builds import link_streams
from engines.device_builds.link_streams import receive_bulk, send_bulk, time_messages
from jetson.errors import DeviceError, InputError

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not Path(SERVER).exists(), reason="left out: apt-get install openssh-server"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """An Orin Nano behind an ssh server."""
    folder = tmp_path_factory.mktemp("orin")
    with ssh_server(make_device(ORIN_NANO_6_2, folder / "device"), folder / "sshd") as running:
        yield running


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch, server: SshServer) -> None:
    """The client that knows the server, through a relay too, with the cipher whose packets are counted."""
    port = server.name.rpartition(":")[2]
    options = f"-o HostKeyAlias=[127.0.0.1]:{port} -o Ciphers=chacha20-poly1305@openssh.com"
    monkeypatch.setenv("COOPEXPORT_SSH", f"{server.client} {options}")


def through(server: SshServer, relay_port: int) -> str:
    return f"{server.name.rpartition(':')[0]}:{relay_port}"


def port_of(server: SshServer) -> int:
    return int(server.name.rpartition(":")[2])


def test_a_link_is_measured_and_written(server: SshServer, tmp_path: Path, coopexport: Callable[..., Any]) -> None:
    result = coopexport(tmp_path, "probe", "--link", server.name, "--seconds", "0.4", "--output", "nano.json")
    assert result.code == 0, result.errors
    measured = read_measurement(tmp_path / "nano.json")
    assert (measured.device, measured.messages.message_bytes) == (server.name, 64)
    assert 1 <= len(measured.messages.samples_ms) <= 100
    for direction in (measured.from_device, measured.to_device):
        assert len(direction.windows) >= 3
        assert all(seconds >= 0.01 for _, seconds in direction.windows)
        assert direction.goodput_bps > 1e6  # this machine's loopback
    for words in (
        "messages of 64 bytes, there and back: median",
        "152 bytes each way",
        "wrote nano.json",
        "[links.NAME]",
    ):
        assert words in result.output


def test_a_message_is_never_sooner_back_than_the_relay_lets_it(server: SshServer) -> None:
    with rate_relay(port_of(server), 8e6, 4e6, 0.004) as relay:
        samples_ms = time_messages(through(server, relay.port), 64, 20, 60.0)
    assert min(samples_ms) >= 8 + 8000 * ssh_bytes(64) * (1 / 8e6 + 1 / 4e6) - 0.01


def test_a_slow_start_there_is_not_taken_for_a_fast_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent before anything reads waits in buffers, and leaves them faster than the link goes."""
    marks: list[tuple[int, float]] = []

    def enough(total: int, seconds: float) -> bool:
        marks.append((total, seconds))
        return seconds > 0.2

    with ssh_server(make_device(ORIN_NANO_6_2, tmp_path / "device"), tmp_path / "sshd") as other:
        monkeypatch.setenv("COOPEXPORT_SSH", f"{other.client} -o HostKeyAlias=[127.0.0.1]:{port_of(other)}")
        session = tmp_path / "sshd/session.sh"
        session.write_text(session.read_text().replace("#!/bin/sh\n", "#!/bin/sh\nsleep 0.6\n"))
        with rate_relay(port_of(other), 16e6, 16e6) as relay:
            send_bulk(through(other, relay.port), enough, 0.05, 30.0)
    # However busy this machine is, it stops nothing for longer than a quarter of a second.
    assert marks[-1][0] <= 2e6 * (marks[-1][1] + 0.25) + 32_768


@pytest.mark.parametrize("message_bytes", [61, 1000])
def test_a_message_has_as_many_bytes_as_are_counted(server: SshServer, message_bytes: int) -> None:
    passed = []
    for count in (10, 110):
        with rate_relay(port_of(server), 1e9, 1e9) as relay:
            assert len(time_messages(through(server, relay.port), message_bytes, count, 60.0)) == count
        passed.append((relay.to_server, relay.to_client))
    (up, down), (more_up, more_down) = passed
    # A key exchange's numbers may be a byte longer in one connection than in another.
    assert (more_up - up) / 100 == pytest.approx(ssh_bytes(message_bytes), abs=0.5)
    assert (more_down - down) / 100 == pytest.approx(ssh_bytes(message_bytes), abs=0.5)


@pytest.mark.full
@pytest.mark.parametrize(
    ("from_bps", "to_bps", "one_way_s"),
    [(1.1e6, 5.85e6, 0.02), (18.88e6, 50e6, 0.005), (300e3, 1.1e6, 0.0)],
)
def test_it_measures_the_rate_and_the_delay_of_the_relay(
    server: SshServer, from_bps: float, to_bps: float, one_way_s: float
) -> None:
    with rate_relay(port_of(server), to_bps, from_bps, one_way_s) as relay:
        found = probe_link(LinkProbeRequest(through(server, relay.port)))
    assert found.from_device.goodput_bps == pytest.approx(from_bps, rel=0.05)
    assert found.to_device.goodput_bps == pytest.approx(to_bps, rel=0.05)
    # The relay counts ssh's bytes, not those of TCP/IP.
    expected_ms = 2000 * one_way_s + 8000 * ssh_bytes(64) * (1 / from_bps + 1 / to_bps)
    assert expected_ms <= found.messages.p50_ms <= 1.1 * expected_ms + 1.5


def test_a_machine_that_cannot_be_reached(server: SshServer, tmp_path: Path, coopexport: Callable[..., Any]) -> None:
    result = coopexport(tmp_path, "probe", "--link", "me@127.0.0.1:9")
    assert result.code == 2
    (line,) = result.error_lines
    assert line.startswith("coopexport: error: cannot reach me@127.0.0.1:9: ")
    assert line.endswith("ssh me@127.0.0.1:9")
    assert list(tmp_path.iterdir()) == []
    for bulk in (receive_bulk, send_bulk):
        with pytest.raises(DeviceError, match=r"^cannot reach me@127\.0\.0\.1:9: "):
            bulk("me@127.0.0.1:9", lambda total, seconds: False, 0.1, 1.0)


class BareDevice(FakeDevice):
    """A device with a shell and nothing else."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PATH": str(self.root / "bare")}


def test_a_machine_without_python3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = make_device(ORIN_NANO_6_2, tmp_path / "device")
    bare = BareDevice(**{field.name: getattr(device, field.name) for field in dataclasses.fields(device)})
    (bare.root / "bare").mkdir()
    (bare.root / "bare/sh").symlink_to(str(shutil.which("sh")))
    with ssh_server(bare, tmp_path / "sshd") as other:
        monkeypatch.setenv("COOPEXPORT_SSH", other.client)
        with pytest.raises(DeviceError, match=r"failed: there is no python3 there; install it$"):
            probe_link(LinkProbeRequest(other.name))
        for bulk in (receive_bulk, send_bulk):
            with pytest.raises(DeviceError, match=r"failed: there is no python3 there; install it$"):
                bulk(other.name, lambda total, seconds: False, 0.1, 1.0)


def test_a_login_script_that_talks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ssh_server(make_device(ORIN_NANO_6_2, tmp_path / "device"), tmp_path / "sshd") as other:
        monkeypatch.setenv("COOPEXPORT_SSH", other.client)
        session = tmp_path / "sshd/session.sh"
        session.write_text(session.read_text().replace("#!/bin/sh\n", "#!/bin/sh\necho Welcome to your Jetson\n"))
        with pytest.raises(DeviceError, match=r"prints ['\"]Welcome to your Jetson.*have its login script say nothing"):
            probe_link(LinkProbeRequest(other.name))


def test_a_connection_that_is_lost_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bulk, words in ((receive_bulk, "it sends"), (send_bulk, "it receives")):
        folder = tmp_path / words.split()[1]
        folder.mkdir()
        with ssh_server(make_device(ORIN_NANO_6_2, folder / "device"), folder / "sshd") as other:
            monkeypatch.setenv("COOPEXPORT_SSH", other.client)

            def lose(total: int, seconds: float, lost: SshServer = other) -> bool:
                lost.stop_all()
                return False

            with pytest.raises(
                DeviceError, match=f"was lost while measuring how fast {words} .*; run the same command"
            ):
                bulk(other.name, lose, 0.01, 30.0)


def test_a_link_too_slow_to_be_measured(server: SshServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_PATIENCE", 2.0)
    with rate_relay(port_of(server), 2e6, 400e3) as relay:
        with pytest.raises(
            DeviceError, match=r"^the link is too slow to be measured: [\d,]+ bytes arrived from .* in 0.8 s"
        ):
            probe_link(LinkProbeRequest(through(server, relay.port), seconds=0.4, messages=1))
        monkeypatch.setattr(link_streams, "_FIRST_S", 0.01)
        with pytest.raises(DeviceError, match=r"^.* sent nothing in 0 s$"):
            receive_bulk(through(server, relay.port), lambda total, seconds: False, 0.1, 1.0)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (LinkProbeRequest("me@x", seconds=0), "seconds is 0, not a time"),
        (LinkProbeRequest("me@x", seconds=math.nan), "seconds is nan, not a time"),
        (LinkProbeRequest("me@x", message_bytes=0), "message_bytes is 0, not from 1 to 32768"),
        (LinkProbeRequest("me@x", messages=0), "messages is 0, not at least 1"),
        (LinkProbeRequest("me@h:"), '"me@h:" is not a device; write it as user@host or user@host:port'),
    ],
)
def test_a_request_that_cannot_be_measured(request_: LinkProbeRequest, words: str) -> None:
    with pytest.raises(InputError) as refused:
        probe_link(request_)
    assert str(refused.value).startswith(words)
