"""`coopexport targets`: what can be built for, a project's own included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engines.targets.lookup import load_targets

PROJECT = """schema = "coopexport.project/1.0"
[model]
factory = "net:build"
checkpoint = "net.safetensors"
input_shape = [3, 8, 8]
"""


def names(output: str) -> list[str]:
    return [line.split("│")[0].strip() for line in output.splitlines() if "│" in line]


def test_all_targets_are_listed_by_kind(coopexport: Callable, tmp_path: Path) -> None:
    everything = coopexport(tmp_path, "targets")
    assert everything.code == 0
    assert names(everything.output) == list(load_targets())
    jetsons = coopexport(tmp_path, "targets", "--kind", "jetson").output
    assert names(jetsons) == [name for name, target in load_targets().items() if target.kind == "jetson"]
    assert coopexport(tmp_path, "targets", "--kind", "phone").code == 2


def test_one_target_is_shown_in_full(coopexport: Callable, tmp_path: Path) -> None:
    shown = coopexport(tmp_path, "targets", "nano").output
    for words in (
        "nano@4.6.1: Jetson Nano, JetPack 4.6.1, TensorRT 8.2.1",
        "TensorRT 8.2.1", "nano (tegra210)", "4.6.1 (Jetson Linux 32.7)", "0 MAXN, 1 5W", "4 GiB",
        "int32: this TensorRT has no uint8",
    ):  # fmt: skip
        assert words in shown
    assert "gains by int8  no" in shown
    assert "nvpmodel -p --verbose" in coopexport(tmp_path, "targets", "thor").output
    refused = coopexport(tmp_path, "targets", "rtx-orin")
    assert refused.code == 2
    assert len(refused.error_lines) == 1
    assert "no kernels for a Jetson's GPU" in refused.errors


def test_a_projects_own_come_first(coopexport: Callable, tmp_path: Path) -> None:
    own = '[targets.truck]\nbase = "agx-orin"\nprecision = "int8"\ndla_core = 1\n[targets.cpu]\nsimplify = true\n'
    (tmp_path / "coopexport.toml").write_text(PROJECT + own)
    inner = tmp_path / "inner"
    inner.mkdir()
    listed = names(coopexport(inner, "targets").output)
    assert listed[:2] == ["truck", "cpu"]
    assert sorted(listed[1:]) == sorted(load_targets())
    shown = coopexport(tmp_path, "targets", "truck").output
    assert "dla_core" in shown
    assert "int8" in shown
    assert coopexport(tmp_path, "targets", "cpu").output.splitlines()[-1].split() == ["simplify", "yes"]
    (tmp_path / "coopexport.toml").write_text(PROJECT + '[targets.truck]\nbase = "agx-orion"\n')
    refused = coopexport(tmp_path, "targets")
    assert refused.code == 2
    assert "agx-orin" in refused.errors
