"""`coopexport build` for a Jetson: over a real ssh server, and by hand with the agent, an order and its result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_jetson.boards import NANO_4_6_1, ORIN_NANO_6_2
from fake_jetson.device import make_device
from fake_jetson.ssh_server import SERVER, ssh_server

from jetson.engines.identity import read_identity

PAIR = ("build", "--variant", "pruned", "--layer", "conv4_1")


def engines_of(project: Path, target: str) -> dict[str, Path]:
    folder = project / "out/pruned/engines" / target
    return {path.name: path for path in folder.glob("*.engine")}


@pytest.mark.system
@pytest.mark.skipif(not Path(SERVER).exists(), reason="left out: apt-get install openssh-server")
def test_engines_are_built_over_ssh(
    coopexport: Callable, finished_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_device(ORIN_NANO_6_2, tmp_path / "device", module=True)
    with ssh_server(device, tmp_path / "sshd") as server:
        monkeypatch.setenv("COOPEXPORT_SSH", server.client)
        there = ("--target", "orin-nano", "--device", server.name)
        result = coopexport(finished_project, *PAIR, *there, "--precision", "fp16", "--role", "head", "--role", "tail")
        assert result.code == 0, result.errors
        assert result.output.count("golden data agree") == 2
        found = engines_of(finished_project, "orin-nano@6.2")
        assert set(found) == {"conv4_1.head.fp16.engine", "conv4_1.tail.fp16.engine"}
        for path in found.values():
            identity = read_identity(str(path))
            assert (identity.backend_version, identity.compute_capabilities) == ("10.3.0.30", ("8.7",))
            assert (identity.precision, identity.builder) == ("fp16", "tensorrt module")
            assert identity.machine.l4t == "36.4.3"
            assert identity.parity
        again = coopexport(finished_project, *PAIR, *there, "--precision", "fp16", "--role", "head")
        assert again.output.count("reused") == 1
        other = coopexport(finished_project, *PAIR, "--target", "nano", "--device", server.name)
        assert other.code == 2
        (line,) = [line for line in other.error_lines if line.startswith("coopexport: error")]
        assert "is not nano@4.6.1" in line


def test_without_ssh_two_files_do(
    coopexport: Callable, finished_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Nano with JetPack 4.6.1: no uint8, no TensorRT module, Python 3.6 where this machine has one."""
    device = make_device(NANO_4_6_1, tmp_path / "device")
    build = (*PAIR, "--target", "nano", "--batch", "8")  # trtexec is started for every batch of the golden data
    written = coopexport(finished_project, *build, "--order", str(tmp_path / "order.zip"))
    assert written.code == 0, written.errors
    assert "python3 coop-agent.pyz build order.zip --output result.zip" in written.output.replace("\n", " ")
    assert coopexport(finished_project, "agent", "--output", str(tmp_path / "coop-agent.pyz")).code == 0
    for name in ("coop-agent.pyz", "order.zip"):
        (device.home / name).write_bytes((tmp_path / name).read_bytes())
    built = device.agent(device.home / "coop-agent.pyz", "build", "order.zip", "--output", "result.zip")
    assert built.returncode == 0, built.stderr
    assert engines_of(finished_project, "nano@4.6.1") == {}
    taken = coopexport(finished_project, *build, "--result", str(device.home / "result.zip"))
    assert taken.code == 0, taken.errors
    found = engines_of(finished_project, "nano@4.6.1")
    assert set(found) == {"conv4_1.head.batch8.engine", "conv4_1.tail.batch8.engine", "whole.batch8.engine"}
    head = read_identity(str(found["conv4_1.head.batch8.engine"]))
    assert (head.backend_version, head.outputs[0]["dtype"]) == ("8.2.1", "int32")
    assert head.parity
    # Of a network that was split again, the old result is refused.
    changed = coopexport(finished_project, "split", "--variant", "pruned", "--layer", "conv4_1", "--bits", "4")
    assert changed.code == 0, changed.errors
    late = coopexport(finished_project, *build, "--result", str(device.home / "result.zip"))
    assert late.code == 2
    assert "conv4_1" in late.error_lines[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "orin-nano"], "--device"),
        (["--target", "cpu", "--device", "me@nano"], "give the device a target of its own"),
        (["--target", "nano", "--target", "orin-nano", "--order", "o.zip"], "name one target"),
        (["--target", "nano", "--order", "o.zip", "--result", "r.zip"], "one of --device, --order and --result"),
        (["--target", "nano", "--order", "order"], "an order is a .zip file"),
        (["--target", "nano", "--order", "o.zip", "--no-store"], "--no-store is about building here"),
        (["--target", "nano", "--result", "nowhere.zip"], "nowhere.zip"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    coopexport: Callable, finished_project: Path, options: list[str], said: str
) -> None:
    result = coopexport(finished_project, *PAIR, *options)
    assert result.code == 2
    assert len(result.error_lines) == 1, result.errors
    assert said in result.errors
