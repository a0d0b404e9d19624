"""The summary of an item of a run: of its samples, with the flags that only its run can raise."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.latency.flags import Flag
from benchmarks.latency.run import LatencyRun, RunItem
from benchmarks.latency.statistics import Summary, summarise


def summarise_item(run: LatencyRun, item: RunItem) -> Summary | None:
    """Return the summary of an item of `run` with all of its flags; None where it failed."""
    if item.samples_ms is None:
        return None
    summary = summarise(item.samples_ms)
    return replace(summary, flags=summary.flags + run_flags(run, item))


def run_flags(run: LatencyRun, item: RunItem) -> tuple[Flag, ...]:
    """Return the flags of an item that its samples do not show: an unsteady start, and throttling of the machine."""
    unsteady = [] if item.unsteady is None else [Flag("unsteady", f"unsteady: {item.unsteady}")]
    throttled = throttled_words(run)
    return (*unsteady, *([Flag("throttled", f"throttled: {throttled}")] if throttled else ()))


def throttled_words(run: LatencyRun) -> str:
    """Return which guards slowed the machine meanwhile and how often, e.g. "oc3 27 times"; empty for none or unknown.

    Found in `conditions["throttled_meanwhile"]`, of runs before 1.1 in `host`: events by guard.
    """
    events = run.conditions.get("throttled_meanwhile", run.host.get("throttled_meanwhile", {}))
    return ", ".join(f"{guard} {count} times" for guard, count in sorted(events.items()) if count > 0)
