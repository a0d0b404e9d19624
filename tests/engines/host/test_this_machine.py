"""What this machine says of itself: a desktop by its driver, a Jetson by its files, and no guesses."""

from __future__ import annotations

import platform
from pathlib import Path

import onnxruntime
import pytest

import engines.host.this_machine
from engines.host.this_machine import GPU, query_gpus, this_machine
from jetson.device.board import Board


def answer(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Put an nvidia-smi on the path that prints `lines`, and nothing else there."""
    tool = folder / "nvidia-smi"
    tool.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_without_a_driver_the_gpu_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    here = this_machine()
    assert here.platform == f"{platform.system()} {platform.machine()}"
    assert (here.gpu, here.compute_capability, here.driver) == (None, None, None)
    assert here.backends["onnxruntime"] == onnxruntime.__version__


def test_the_driver_names_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(tmp_path, monkeypatch, "NVIDIA GeForce RTX 4090, 580.65.06, 8.9")
    assert query_gpus() == ([GPU("NVIDIA GeForce RTX 4090", "580.65.06", "8.9")], "")
    here = this_machine()
    assert (here.gpu, here.compute_capability, here.driver) == ("NVIDIA GeForce RTX 4090", "8.9", "580.65.06")


@pytest.mark.parametrize(("second", "capability"), [("RTX 4080, 580.65.06, 8.9", "8.9"), ("T4, 580.65.06, 7.5", None)])
def test_of_unequal_gpus_none_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str, capability: str | None
) -> None:
    answer(tmp_path, monkeypatch, "RTX 4090, 580.65.06, 8.9", second)
    assert this_machine().compute_capability == capability


def test_an_answer_in_another_form_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(tmp_path, monkeypatch, "Field compute_cap is not a valid field to query.")
    gpus, reason = query_gpus()
    assert gpus == []
    assert "answers in another way" in reason


def test_a_jetson_is_known_by_its_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board("NVIDIA Jetson AGX Thor Developer Kit", "tegra264", "38.4.0", "7.1")
    monkeypatch.setattr(engines.host.this_machine, "read_board", lambda root: board)
    answer(tmp_path, monkeypatch, "NVIDIA Thor, 580.00, 11.0")
    here = this_machine()
    assert (here.board, here.chip, here.l4t, here.gpu) == (board.model, "tegra264", "38.4.0", None)
    assert here.compute_capability == "11.0"


def test_another_board_is_no_jetson(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.host.this_machine, "read_board", lambda root: Board("Raspberry Pi 5", None, None, None))
    assert this_machine().board is None
