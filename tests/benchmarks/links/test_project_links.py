"""A project's links: from presets, numbers, traces and measurements, or from [select] as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from measured_links import measured_link

from benchmarks.links.link import Link
from benchmarks.links.measurement import read_measurement, write_measurement
from benchmarks.links.presets import find_preset
from benchmarks.links.project_links import project_links, trace_distribution
from exporter.project.settings import Project, load_project
from jetson.errors import CoopexportError, DamagedFileError

MODEL = """schema = "coopexport.project/1.0"
[model]
factory = "net:build"
checkpoint = "net.safetensors"
input_shape = [3, 8, 8]
"""


def project_with(folder: Path, text: str) -> Project:
    (folder / "coopexport.toml").write_text(MODEL + text)
    return load_project(folder / "coopexport.toml")


def test_without_links_those_of_select_are_taken(tmp_path: Path) -> None:
    links = project_links(project_with(tmp_path, "[select.goodput_bps]\nmine = 2e6\nslow = 500\n"))
    assert links == tuple(
        Link(name, bps, source="[select] goodput_bps of coopexport.toml")
        for name, bps in (("mine", 2e6), ("slow", 500))
    )
    assert [link.name for link in project_links(project_with(tmp_path, ""))] == ["3G", "4G", "WiFi"]


def test_links_in_every_way(tmp_path: Path) -> None:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces/field.csv").write_text("time_s,goodput_bps\n0,1e6\n6,3e6\n10,4e6\n")
    write_measurement(tmp_path / "nano.link.json", measured_link())
    project = project_with(
        tmp_path,
        '[links.LTE]\npreset = "lte"\n[links.far]\npreset = "LTE"\nround_trip_ms = 90\nloss = 0.01\n'
        "[links.own]\ngoodput_bps = 5_850_000\n[links.field]\ntrace = 'traces/field.csv'\nround_trip_ms = 3\n"
        "[links.'the workshop']\nmeasured = 'nano.link.json'\n",
    )
    lte, far, own, field, workshop = project_links(project)
    preset = find_preset("LTE")
    assert (lte.goodput_bps, lte.round_trip_ms, lte.loss) == (preset.goodput_bps, 52.6, None)
    assert lte.source == f"preset LTE: {preset.source}"
    assert (far.name, far.goodput_bps, far.round_trip_ms, far.loss) == ("far", preset.goodput_bps, 90, 0.01)
    assert own == Link("own", 5.85e6, 0.0, None, "[links.own] of coopexport.toml")
    # 6 s at 1, 4 s at 3, as long at 4 Mbit/s: 43 %, 71 %, 100 %.
    assert (field.goodput_bps, field.round_trip_ms) == (3e6, 3)
    assert "median over 14 s" in field.source
    assert trace_distribution(project, "field").quantile(0.1) == 1e6
    # 152 bytes each way take 0.608 ms at 2 and 0.152 ms at 8 Mbit/s.
    assert workshop.goodput_bps == pytest.approx(2e6)
    assert workshop.round_trip_ms == pytest.approx(40 - 0.76)
    assert "round trip 40 ms as measured, of which 0.76 ms are the message's own bytes" in workshop.source
    assert not workshop.source.endswith("%")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('preset = "Wifi6"', 'links.x: there is no preset "Wifi6"; nearest are WiFi'),
        ('trace = "gone.csv"', "links.x: there is no trace "),
        ('trace = "slow.csv"', "links.x: slow.csv: its median is 5.85 bit/s is under 1 kbit/s: give bits per second"),
        ('measured = "gone.json"', "links.x: "),
    ],
)
def test_what_cannot_be_had_names_the_link(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "slow.csv").write_text("time_s,goodput_bps\n0,5.85\n")
    with pytest.raises(CoopexportError) as refused:
        project_links(project_with(tmp_path, f"[links.x]\n{text}\n"))
    assert str(refused.value).startswith(words)


def test_a_link_without_a_trace_has_no_distribution(tmp_path: Path) -> None:
    with pytest.raises(CoopexportError, match=r'^the link "y" has no trace; give it one: \[links."y"\] trace = '):
        trace_distribution(project_with(tmp_path, "[links.x]\ngoodput_bps = 1e6\n"), "y")


def test_a_measurement_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "nano.link.json"
    write_measurement(path, measured_link())
    assert read_measurement(path) == measured_link()
    assert json.loads(path.read_text())["schema"] == "coopexport.link/1.0"


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("from_device", "goodput_bps"), 3e6, "from_device.goodput_bps is 3e+06, but 2e+06 follows"),
        (("messages", "p50_ms"), 4.0, "messages.p50_ms is 4, but 40 follows from what was measured"),
        (("to_device", "windows"), [], "to_device.windows: "),
        (("to_device", "windows"), [[-5, 1.0]], "to_device.windows.0.0: "),
        (("to_device", "goodput_bps"), 0, "to_device.goodput_bps: "),
        (("messages", "samples_ms"), [0.0], "messages.samples_ms.0: "),
        (("schema",), "coopexport.link/2.0", "is of schema coopexport.link/2.0"),
    ],
)  # fmt: skip
def test_a_measurement_that_contradicts_itself_is_refused(
    tmp_path: Path, keys: tuple[str, ...], value: object, words: str
) -> None:
    path = tmp_path / "nano.link.json"
    write_measurement(path, measured_link())
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedFileError) as refused:
        read_measurement(path)
    assert words in str(refused.value)
