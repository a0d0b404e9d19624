"""Flags: why the latencies of an item are not to be trusted as they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FlagKind = Literal["drift", "bimodal", "outliers", "few samples", "unsteady", "throttled"]


@dataclass(frozen=True)
class Flag:
    """One reason for doubt. `kind`: one of a few words; `text`: the same with its number, for people."""

    kind: FlagKind
    text: str
