"""Published links: each with its source, found in whatever case, and refused by the nearest names."""

from __future__ import annotations

import math
import re

import pytest

from benchmarks.links.link import Link
from benchmarks.links.presets import PRESETS, find_preset
from jetson.errors import InputError


def test_the_papers_links_are_there() -> None:
    assert {name: find_preset(name).goodput_bps for name in ("3g", "4G", "wifi", "BBNet-slow", "BBNet-fast")} == {
        "3g": 1.1e6, "4G": 5.85e6, "wifi": 18.88e6, "BBNet-slow": 100e3, "BBNet-fast": 3.5e6,
    }  # fmt: skip


def test_every_preset_names_a_source_with_its_year_and_says_where_no_round_trip_is_known() -> None:
    assert len({preset.name.lower() for preset in PRESETS}) == len(PRESETS)
    for preset in PRESETS:
        assert re.search(r"\b20\d\d\b", preset.source), preset
        assert (preset.round_trip_ms == 0) == preset.source.endswith("no round trip given"), preset


def test_ethernet_is_what_its_frames_leave() -> None:
    """1500 bytes of IP in a frame of 1518, after 8 of preamble and before a gap of 12."""
    assert find_preset("Ethernet-1000").goodput_bps == pytest.approx(1e9 * (1500 - 52) / (1518 + 8 + 12))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Wi-Fi", "nearest are WiFi"),
        ("etherent-100", "nearest are Ethernet-100, Ethernet-1000"),
        ("quux", "there are LoRa, "),
    ],
)
def test_a_preset_that_does_not_exist(name: str, words: str) -> None:
    with pytest.raises(InputError, match=f'^there is no preset "{name}"; {words}'):
        find_preset(name)


@pytest.mark.parametrize("goodput_bps", [0.0, -1.0, math.nan, math.inf])
def test_a_goodput_that_is_none(goodput_bps: float) -> None:
    with pytest.raises(InputError, match=r"^the goodput of slow is .*, not a positive number of bits per second$"):
        Link("slow", goodput_bps)


@pytest.mark.parametrize(
    ("round_trip_ms", "loss"), [(-1.0, None), (math.nan, None), (0.0, 1.0), (0.0, -0.1), (0.0, math.nan)]
)
def test_a_round_trip_or_loss_that_is_none(round_trip_ms: float, loss: float | None) -> None:
    with pytest.raises(InputError, match=r"^the (round trip|loss) of slow is "):
        Link("slow", 1e6, round_trip_ms, loss)
