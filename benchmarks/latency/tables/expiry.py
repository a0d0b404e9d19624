"""Which rows still count: those whose run was taken as the target's newest one is, on the graph that there is now."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from benchmarks.latency.tables.records import TableRun


@dataclass(frozen=True)
class Provenance:
    """What a latency depends on beside the part itself; None where nobody recorded it.

    `source_sha256`: the graph that ran; None in a *current* provenance: not compared.
    """

    processor: str | None
    threads: int | None
    backend: str | None
    backend_version: str | None
    power_mode: str | None = None
    driver: str | None = None
    l4t: str | None = None
    source_sha256: str | None = None


# What has to be the same, beside the graph, and what it is called.
_WORDS = {
    "processor": "processor",
    "threads": "threads",
    "backend": "backend",
    "backend_version": "backend version",
    "power_mode": "power mode",
    "driver": "driver",
    "l4t": "L4T",
}


def provenance_of(run: TableRun, source_sha256: str | None = None) -> Provenance:
    """Return what rows of `run` depend on; `source_sha256`: the graph of one of them."""
    return Provenance(**{name: getattr(run, name) for name in _WORDS}, source_sha256=source_sha256)


def expiry_reason(then: Provenance, now: Provenance) -> str | None:
    """Return why a row of provenance `then` does not stand for one of `now`, by name; None where it does.

    What was recorded on one side only counts as changed: nothing says that it was the same.
    """
    changed = [
        f"{words} was {_shown(getattr(then, name))}, is {_shown(getattr(now, name))}"
        for name, words in _WORDS.items()
        if getattr(then, name) != getattr(now, name)
    ]
    if now.source_sha256 is not None and then.source_sha256 != now.source_sha256:
        changed.insert(0, "measured on another graph")
    return "; ".join(changed) or None


def setting_of(provenance: Provenance) -> int:
    """Return a number of 63 bits that provenances share if and only if nothing but their graphs differs.

    Up to collisions of SHA-256 cut to 63 bits; the same in every table, so that merged tables agree.
    """
    values = [getattr(provenance, name) for name in _WORDS]
    digest = hashlib.sha256(json.dumps(values).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _shown(value: object) -> str:
    return "not recorded" if value is None else str(value)
