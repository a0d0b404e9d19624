"""Building on a device: a build request by hand and its result, what the device could not build, and what is
refused.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_jetson.boards import NANO_4_6_1
from fake_jetson.device import make_device
from tests_support import files_below

from calibration.building.choose_items import BuildProjectRequest
from calibration.building.device_builds import build_over_ssh, install_build_result, write_build_request
from engines.device_builds.agent_file import AgentRequest, write_agent
from exporter.project.settings import Project, load_project
from jetson.engines.identity import read_identity
from jetson.errors import CoopexportError

PAIR = BuildProjectRequest(("pruned",), ("conv4_1",), ("nano",), ("head", "tail"))


@pytest.fixture
def project(split_project: Path, tmp_path: Path) -> Project:
    """A project that was split at conv4_1 and pool3, without engines, to write into."""
    folder = Path(shutil.copytree(split_project, tmp_path / "project", ignore=shutil.ignore_patterns("engines")))
    return load_project(folder / "coopexport.toml")


def test_what_a_device_builds_of_an_order_is_installed_and_what_it_cannot_build_is_failed(
    project: Project, tmp_path: Path
) -> None:
    steps: list[tuple[str, int, int]] = []
    written = write_build_request(project, PAIR, tmp_path / "order.zip", lambda *step: steps.append(step))
    assert (written.path, written.count, written.left_out) == (tmp_path / "order.zip", 2, 0)
    assert written.size_bytes == written.path.stat().st_size > 0
    assert zipfile.is_zipfile(written.path)
    assert steps == [("preparing for nano@4.6.1", 1, 2), ("preparing for nano@4.6.1", 2, 2)]
    device = make_device(NANO_4_6_1, tmp_path / "device")
    device.set_faults({"when": "build", "does": "fails", "words": ["no such tactic"]})  # the first one
    write_agent(AgentRequest(tmp_path / "coop-agent.pyz"))
    device.agent(tmp_path / "coop-agent.pyz", "build", written.path, "--output", tmp_path / "result.zip")
    found = install_build_result(project, PAIR, tmp_path / "result.zip")
    assert (found.target.name, found.converted, found.left_out) == ("nano@4.6.1", (), 0)
    head, tail = found.engines
    assert found.failed == (head,)
    assert "no such tactic" in (head.failure or "")
    folder = project.variant_folder("pruned") / "engines" / "nano@4.6.1"
    assert (head.path, tail.path) == (folder / "conv4_1.head.engine", folder / "conv4_1.tail.engine")
    assert tail.identity == read_identity(str(tail.path))
    assert not head.path.exists()


def _ssh(project: Project, request: BuildProjectRequest, path: Path) -> object:
    return build_over_ssh(project, request, "me@nano")


@pytest.mark.parametrize("verb", [write_build_request, install_build_result, _ssh])
@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (BuildProjectRequest(targets=("rtx-ada",)), "not built on a device but here, by tensorrt-rtx"),
        (BuildProjectRequest(targets=("cuda",)), "not built on a device but here, by onnxruntime"),
        (
            BuildProjectRequest(),
            'target "cpu" is the processor of this machine as well: give the device a target',
        ),
        (BuildProjectRequest(targets=("orin-nano-cpu",), precision="fp16"), "computes float16 in half under ONNX Runt"),
        (BuildProjectRequest(targets=("nano", "orin-nano")), r"name one target.*nano@4.6.1, orin-nano@6.2"),
        (BuildProjectRequest(targets=("nano",), use_store=False), "a device keeps its own store"),
        (BuildProjectRequest(targets=("nano",), precision="int8"), "int8 kernels"),
    ],
)
def test_what_no_device_builds_is_refused(
    split_project: Path, tmp_path: Path, verb: Callable[..., object], request_: BuildProjectRequest, said: str
) -> None:
    with pytest.raises(CoopexportError, match=said):
        verb(load_project(split_project / "coopexport.toml"), request_, tmp_path / "order.zip")
    assert files_below(tmp_path) == set()


def test_an_order_is_a_zip_file_and_no_result(project: Project, tmp_path: Path) -> None:
    with pytest.raises(CoopexportError, match=r"an order is a \.zip file; call it order\.zip"):
        write_build_request(project, PAIR, tmp_path / "order")
    write_build_request(project, PAIR, tmp_path / "order.zip")
    with pytest.raises(CoopexportError, match=r"order\.zip"):
        install_build_result(project, PAIR, tmp_path / "order.zip")
    assert not (project.variant_folder("pruned") / "engines").exists()
