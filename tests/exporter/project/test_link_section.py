"""The sections [links.<name>]: contradictions and other units are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.project.settings import load_project
from jetson.errors import InputError

MODEL = """schema = "coopexport.project/1.0"
[model]
factory = "net:build"
checkpoint = "net.safetensors"
input_shape = [3, 8, 8]
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "links.x: how fast the link is: give one of preset, goodput_bps, trace, measured"),
        ('preset = "4G"\ngoodput_bps = 1e6', "links.x: preset and goodput_bps each say how fast the link is: keep one"),
        ('trace = "a"\nmeasured = "b"', "links.x: trace and measured each say how fast the link is: keep one"),
        ('measured = "b"\nround_trip_ms = 3', "links.x: measured and round_trip_ms each say what the round trip is"),
        ("goodput_mbps = 5.85", "links.x: goodput_mbps is not a known key; give goodput_bps in bits per second"),
        ("goodput = 5", "links.x: goodput is not a known key; give goodput_bps in bits per second"),
        ("goodput_bytes_per_s = 5", "links.x: goodput_bytes_per_s is not a known key; give goodput_bps in bits"),
        ("bandwidth = 5", "links.x: bandwidth is not a known key; give goodput_bps in bits per second"),
        ("Mbit = 5", "links.x: Mbit is not a known key; give goodput_bps in bits per second"),
        ("rtt_ms = 5", "links.x: rtt_ms is not a known key; give round_trip_ms in milliseconds"),
        ("round_trip_s = 5", "links.x: round_trip_s is not a known key; give round_trip_ms in milliseconds"),
        ("loss_percent = 5", "links.x: loss_percent is not a known key; give loss as a share of packets, 0 to 1"),
        ('presett = "4G"', "links.x.presett is not a known key; did you mean preset?"),
        ("goodput_bps = 5.85", "links.x.goodput_bps: 5.85 bit/s is under 1 kbit/s: give bits per second (5.85 Mbit/s"),
        ("goodput_bps = 999", "links.x.goodput_bps: 999 bit/s is under 1 kbit/s: give bits per second"),
        ("goodput_bps = 2e12", "links.x.goodput_bps: 2e+12 bit/s is over 1 Tbit/s: give bits per second"),
        ("goodput_bps = 0", "links.x.goodput_bps: 0 is not a positive number of bits per second"),
        ("goodput_bps = -1e6", "links.x.goodput_bps: -1e+06 is not a positive number of bits per second"),
        ("goodput_bps = nan", "links.x.goodput_bps: "),
        ("goodput_bps = inf", "links.x.goodput_bps: "),
        ("goodput_bps = 1e6\nround_trip_ms = -1", "links.x.round_trip_ms: "),
        ("goodput_bps = 1e6\nloss = 1.0", "links.x.loss: "),
        ("goodput_bps = 1e6\nloss = 5", "links.x.loss: "),
    ],
)
def test_what_no_link_is(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "coopexport.toml"
    path.write_text(f"{MODEL}[links.x]\n{text}\n")
    with pytest.raises(InputError) as refused:
        load_project(path)
    assert str(refused.value).startswith(f"{path}: {words}")


@pytest.mark.parametrize("goodput_bps", ["1e3", "1e12", "5_850_000"])
def test_the_fastest_and_the_slowest_are_taken(tmp_path: Path, goodput_bps: str) -> None:
    path = tmp_path / "coopexport.toml"
    path.write_text(f"{MODEL}[links.'my 4G']\ngoodput_bps = {goodput_bps}\n")
    assert load_project(path).settings.links["my 4G"].goodput_bps == float(goodput_bps)
