"""Summaries with the flags that samples do not show: an unsteady start, throttling, float16 that is none."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.latency.flags import Flag, FlagKind
from benchmarks.latency.run import LatencyRun, RunItem
from benchmarks.latency.statistics import Summary, summarise

_NETWORKS = ("head", "tail", "whole")


def summarise_item(run: LatencyRun, item: RunItem) -> Summary | None:
    """Return the summary of an item of `run` with all of its flags; None where it failed."""
    if item.samples_ms is None:
        return None
    return with_flags(summarise(item.samples_ms), item.unsteady, throttling(run), _not_in_half(run, item))


def with_flags(
    summary: Summary, unsteady: str | None = None, throttled: str | None = None, float16: str | None = None
) -> Summary:
    """Return `summary` with more flags, each with its words, None for none.

    They are for an unsteady start, for throttling, and for float16 that is not computed as such.
    """
    found: tuple[tuple[FlagKind, str | None], ...] = (
        ("unsteady", unsteady),
        ("throttled", throttled),
        ("float16", float16),
    )
    more = [Flag(kind, f"{kind}: {words}") for kind, words in found if words is not None]
    return replace(summary, flags=(*summary.flags, *more))


def throttling(run: LatencyRun) -> str | None:
    """Return which guards slowed the machine during `run` and how often, e.g. "oc3 27 times"; None for none or unknown.

    From `conditions["throttled_meanwhile"]`, events by guard; in runs before 1.1 `host` has it.
    """
    events = run.conditions.get("throttled_meanwhile", run.host.get("throttled_meanwhile", {}))
    return ", ".join(f"{guard} {count} times" for guard, count in sorted(events.items()) if count > 0) or None


def _not_in_half(run: LatencyRun, item: RunItem) -> str | None:
    """Return that a float16 network was computed in float32, where the run says so."""
    if item.precision != "fp16" or item.part not in _NETWORKS or run.host.get("float16") != "float32":
        return None
    return "computed in float32, as ONNX Runtime does on this processor"
