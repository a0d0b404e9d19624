"""`probe` as a function: what a device says of itself over a real ssh server, and an answer that says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_jetson.boards import ORIN_NANO_6_2
from fake_jetson.device import make_device
from fake_jetson.ssh_server import SERVER, SshServer, ssh_server

import engines.device_builds.probe
from engines.device_builds.probe import ProbeRequest, probe_over_ssh
from jetson.errors import CoopexportError


@pytest.fixture
def orin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    """An Orin Nano behind an ssh server."""
    with ssh_server(make_device(ORIN_NANO_6_2, tmp_path / "device"), tmp_path / "sshd") as server:
        monkeypatch.setenv("COOPEXPORT_SSH", server.client)
        yield server


@pytest.mark.system
@pytest.mark.skipif(not Path(SERVER).exists(), reason="left out: apt-get install openssh-server")
def test_a_device_says_what_it_is_and_why_the_rest_is_not_known(orin: SshServer) -> None:
    found = probe_over_ssh(ProbeRequest(orin.name))
    assert found.device == orin.name
    assert (found.machine.board, found.machine.chip) == (ORIN_NANO_6_2.model, "tegra234")
    assert (found.machine.l4t, found.machine.compute_capability) == ("36.4.3", "8.7")
    assert found.machine.backends["tensorrt"] == "10.3.0.30"
    assert found.record["power_mode"] == {"name": "25W", "identifier": 1}
    assert found.record["machine"] == found.machine.to_json()
    assert found.record["memory"]["total_bytes"] > 1 << 30
    assert found.unknown == found.record["unknown"]
    known = ("power_mode", "clocks", "memory", "trtexec", "numpy", "onnxruntime", "tegrastats")
    assert {name for name in known if name not in found.record} == set(found.unknown) & set(known)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({}, "KeyError"),
        ({"machine": {"operating_system": "Linux", "architecture": "aarch64"}}, "'unknown'"),
        ({"machine": [], "unknown": {}}, "the machine is not an object"),
        ({"machine": {"operating_system": "Linux"}, "unknown": {}}, "lacks its architecture"),
        ({"machine": {"operating_system": "Linux", "architecture": "aarch64"}, "unknown": 5}, "TypeError"),
    ],
)
def test_an_answer_that_is_no_probe_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, record: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(engines.device_builds.probe, "probe_device", lambda name: record)
    with pytest.raises(CoopexportError, match=f"me@jetson does not say what machine it is .*{words}"):
        probe_over_ssh(ProbeRequest("me@jetson"))
