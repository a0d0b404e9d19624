"""`coopexport links`: the presets with their sources, and a project's own links."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from measured_links import measured_link

from benchmarks.links.measurement import write_measurement
from benchmarks.links.presets import PRESETS
from coopexport.project import Project

PROJECT = """schema = "coopexport.project/1.0"
[model]
name = "mine"
factory = "net:build"
checkpoint = "net.safetensors"
input_shape = [3, 8, 8]
"""
LINKS = """
[links.bench]
measured = "nano.link.json"
loss = 0.02
[links.far]
preset = "LTE"
"""


def cells(output: str) -> dict[str, list[str]]:
    rows = ([cell.strip() for cell in line.split("│")] for line in output.splitlines() if "│" in line)
    return {row[0]: row[1:] for row in rows if row[0]}


def test_presets_are_listed_without_a_project(coopexport: Callable[..., Any], tmp_path: Path) -> None:
    shown = coopexport(tmp_path, "links")
    assert shown.code == 0, shown.errors
    listed = cells(shown.output)
    assert list(listed) == [preset.name for preset in PRESETS]
    assert listed["LTE"][1:] == ["7.3", "52.6"]
    assert listed["3G"][1:] == ["1.1", ""]
    assert "Opensignal, USA Mobile Network" in shown.output


def test_a_projects_own_come_first(coopexport: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "coopexport.toml").write_text(PROJECT + LINKS)
    write_measurement(tmp_path / "nano.link.json", measured_link())
    shown = coopexport(tmp_path, "links")
    assert shown.code == 0, shown.errors
    listed = cells(shown.output)
    assert list(listed)[:2] == ["bench", "far"]
    assert listed["bench"][1:] == ["2", "39.2", "2 %"]
    assert listed["far"][1:] == ["7.3", "52.6", ""]
    assert [link.name for link in Project(tmp_path / "coopexport.toml").links()] == ["bench", "far"]
    (tmp_path / "coopexport.toml").write_text(PROJECT)
    assert list(cells(coopexport(tmp_path, "links").output))[:3] == ["3G", "4G", "WiFi"]


def test_a_preset_that_does_not_exist_is_one_line(coopexport: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "coopexport.toml").write_text(PROJECT + '[links.x]\npreset = "Wi-Fi"\n')
    refused = coopexport(tmp_path, "links")
    assert (refused.code, refused.error_lines) == (
        2,
        ['coopexport: error: links.x: there is no preset "Wi-Fi"; nearest are WiFi'],
    )
