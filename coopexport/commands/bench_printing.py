"""What the command bench prints of a device: what it was like while it measured, and what to do with an order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from coopexport.output import next_step, relative

if TYPE_CHECKING:
    from benchmarks.latency.devices.bench_device import WrittenBenchOrder
    from benchmarks.latency.run import LatencyRun


_MOST_NAMED = 3


def print_conditions(run: LatencyRun) -> None:
    """Print power mode, clocks, temperatures and throttling of a run on a device, and what its samples are."""
    click.echo(f"{run.target}: {'; '.join([run.backend + ' ' + run.backend_version, *_conditions(run)])}")
    if timing := run.host.get("timing"):
        click.echo(f"a sample is: {timing}")
    if not run.interleaved:
        click.echo("note: not interleaved: ratios between rows hold less exactly than in one sitting")


def print_without_form(found: tuple[str, ...]) -> None:
    """Say in one line what was not converted, and so is not measured."""
    more = "" if len(found) <= _MOST_NAMED else f" and {len(found) - _MOST_NAMED} more"
    named = ", ".join(found[:_MOST_NAMED])
    click.echo(f"left out, not converted: {named}{more} (coopexport precision does that)", err=True)


def print_bench_order(written: WrittenBenchOrder) -> None:
    """Print where the order lies, and what to do with it."""
    path = written.path
    click.echo(f"{relative(path)}: {written.count} graphs to build and measure, {written.size_bytes:,} bytes")
    if written.without_reference:
        click.echo(f"note: without the reference network: {written.without_reference}")
    next_step(
        f"coopexport agent; copy coop-agent.pyz and {path.name} to the device; there: python3 coop-agent.pyz bench "
        f"{path.name} --output run.json; back here: coopexport bench --result run.json"
    )


def _conditions(run: LatencyRun) -> Iterator[str]:
    """Yield in words what the device told of itself."""
    from benchmarks.latency.summaries import throttling

    conditions = run.conditions
    mode, before = conditions.get("power_mode"), conditions.get("power_mode_before")
    if mode is not None:
        yield f"power mode {mode['name']}" + ("" if before is None else f" ({before['name']} is back)")
    held = (conditions.get("clocks_before") or {}).get("held")
    if held is not None:
        yield "clocks held" if held else "clocks not held: sudo jetson_clocks holds them"
    hottest = [_hottest(conditions.get(f"temperatures_{when}")) for when in ("before", "after")]
    if None not in hottest:
        yield f"{hottest[0]:.0f} to {hottest[1]:.0f} C"
    throttled = throttling(run)
    if throttled is not None:
        yield f"THROTTLED: {throttled}"


def _hottest(temperatures: Any) -> float | None:
    return max(temperatures.values()) if temperatures else None
