"""The sections `[links.<name>]` of the project file: one way to say how fast a link is, in its units."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

LEAST_BPS, MOST_BPS = 1e3, 1e12
# What carries a message (benchmarks.links.wire counts its bytes); "none": the payload alone.
Protocol = Literal["none", "framed", "http", "grpc", "grpc-stream"]
# What says how fast the link is: exactly one of them.
_SPEEDS = ("preset", "goodput_bps", "trace", "measured")
# Keys that people write for ours, and what to write.
_OTHER_WORDS = (
    (r"(goodput|bandwidth|(bit_?)?rate|speed|throughput|up|[kmg]?(bps|bit)).*", "goodput_bps in bits per second"),
    (r"(rtt|round_?trip|latency|delay|ping).*", "round_trip_ms in milliseconds"),
    (r"(packet_)?loss.*", "loss as a share of packets, 0 to 1"),
)  # fmt: skip


class LinkSection(BaseModel):
    """`[links.<name>]`: `preset`, `goodput_bps`, `trace` (a CSV file) or `measured` (a file of `probe --link`).

    `round_trip_ms`: of a small message, in the place of a preset's; `loss`: share of packets, shown only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    preset: str | None = None
    goodput_bps: float | None = None
    round_trip_ms: float | None = Field(default=None, ge=0)
    loss: float | None = Field(default=None, ge=0, lt=1)
    trace: str | None = None
    measured: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_our_words(cls, content: Any) -> Any:
        if isinstance(content, dict):
            for key in content:
                if key in cls.model_fields:
                    continue
                for pattern, ours in _OTHER_WORDS:
                    if re.fullmatch(pattern, str(key).lower()):
                        raise ValueError(f"{key} is not a known key; give {ours}")
        return content

    @field_validator("goodput_bps")
    @classmethod
    def _of_a_link(cls, value: float | None) -> float | None:
        if value is not None and not LEAST_BPS <= value <= MOST_BPS:
            raise ValueError(unlikely(value))
        return value

    @model_validator(mode="after")
    def _one_speed(self) -> LinkSection:
        given = [key for key in _SPEEDS if getattr(self, key) is not None]
        if not given:
            raise ValueError(f"how fast the link is: give one of {', '.join(_SPEEDS)}")
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} each say how fast the link is: keep one")
        if self.measured is not None and self.round_trip_ms is not None:
            raise ValueError("measured and round_trip_ms each say what the round trip is: keep one")
        return self


def unlikely(goodput_bps: float) -> str:
    """Return what to say of a goodput that no link has, or hardly one: most likely another unit was meant."""
    if goodput_bps <= 0:
        return f"{goodput_bps:g} is not a positive number of bits per second"
    bound = "under 1 kbit/s" if goodput_bps < LEAST_BPS else "over 1 Tbit/s"
    return f"{goodput_bps:g} bit/s is {bound}: give bits per second (5.85 Mbit/s is 5_850_000; a byte is 8 bits)"
