"""Links that have been published, each with its source. A measured goodput is better: `coopexport probe --link`."""

from __future__ import annotations

import difflib

from benchmarks.links.link import Link
from jetson.errors import InputError

_PAPERS = (
    "mean uplink, USA 2018 (OpenSignal, Speedtest), in Eshratifar et al., BottleNet, 2019; taken to be what Shi et al. "
    "used in Improving Device-Edge Cooperative Inference of Deep Learning via 2-Step Pruning, 2019; no round trip given"
)
_BBNET = "{} of the sweep in Zhou et al., BBNet, Sensors 21, 2021: a shaper's setting; no round trip given"
# TCP with timestamps in frames of 1500 bytes: 1448 of the 1538 bytes that a frame occupies (preamble 8, header 14,
# check sequence 4, gap 12).
_ETHERNET = (
    "computed from IEEE 802.3-2022, {} Mbit/s: 1448 of 1538 bytes of a full frame are TCP's; no round trip given"
)
PRESETS = (
    Link(
        "LoRa",
        5_470.0,
        source="bit rate of LoRa SF7, 125 kHz (DR5, EU863-870); LoRa Alliance, LoRaWAN 1.0.3 Regional Parameters, "
        "2018; headers and duty cycle are not taken off; no round trip given",
    ),
    Link("BBNet-slow", 100_000.0, source=_BBNET.format("lower end")),
    Link("3G", 1_100_000.0, source=_PAPERS),
    Link("BBNet-fast", 3_500_000.0, source=_BBNET.format("upper end")),
    Link("4G", 5_850_000.0, source=_PAPERS),
    Link(
        "LTE",
        7_300_000.0,
        52.6,
        source="T-Mobile USA, mean upload and latency, on 4G for 94 % of the time; Opensignal, USA Mobile Network "
        "Experience Report, July 2019",
    ),
    Link("WiFi", 18_880_000.0, source=_PAPERS),
    Link(
        "5G",
        21_080_000.0,
        source="median upload over 5G worldwide, third quarter of 2021; Ookla, Growing and Slowing: The State of 5G "
        "Worldwide in 2021, December 2021; no round trip given",
    ),
    Link("Ethernet-100", 100e6 * 1448 / 1538, source=_ETHERNET.format(100)),
    Link("Ethernet-1000", 1000e6 * 1448 / 1538, source=_ETHERNET.format(1000)),
)


def find_preset(name: str) -> Link:
    """Return the preset called `name`, in whatever case; raises InputError with the nearest names."""
    by_name = {preset.name.lower(): preset for preset in PRESETS}
    if name.lower() in by_name:
        return by_name[name.lower()]
    near = difflib.get_close_matches(name.lower(), by_name, n=3)
    known = ", ".join(by_name[key].name for key in near) or ", ".join(preset.name for preset in PRESETS)
    raise InputError(f'there is no preset "{name}"', fix=f"{'nearest are' if near else 'there are'} {known}")
