"""What the command bench prints of a device: what it was like while it measured, and what to do with an order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from coopexport.output import MAX_TABLES, next_step, print_table, relative

if TYPE_CHECKING:
    from benchmarks.latency.devices.bench_device import WrittenBenchOrder
    from benchmarks.latency.run import LatencyRun, RunItem

# What parts need beside time: the column, and what of an item stands there.
_NEEDS: dict[str, Callable[[RunItem], float | None]] = {
    "load ms": lambda item: item.load_ms,
    "memory MB": lambda item: None if item.peak_memory_bytes is None else item.peak_memory_bytes / 1e6,
    "to GPU ms": lambda item: None if item.gpu_ms is None else item.gpu_ms.inputs,
    "compute ms": lambda item: None if item.gpu_ms is None else item.gpu_ms.compute,
    "from GPU ms": lambda item: None if item.gpu_ms is None else item.gpu_ms.outputs,
    "enqueue ms": lambda item: None if item.gpu_ms is None else item.gpu_ms.enqueue,
    "energy mJ": lambda item: item.energy_mj,
    "above idle mJ": lambda item: item.energy_above_idle_mj,
}


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


def print_needs(run: LatencyRun) -> None:
    """Print what parts need beside time, as far as it is known, and why the rest is not.

    Of more variants than have tables of their own only the range of each column.
    """
    known = {name: [read(item) for item in run.items] for name, read in _NEEDS.items()}
    columns = {name: values for name, values in known.items() if any(value is not None for value in values)}
    many = len({item.variant for item in run.items}) > MAX_TABLES
    if many:
        for name, values in columns.items():
            found = [value for value in values if value is not None]
            click.echo(f"{name}: {min(found):.4g} to {max(found):.4g} over {len(found)} parts")
    elif columns:
        rows = [
            (
                item.variant,
                item.layer,
                part_name(item),
                *(_number(values[number]) for values in columns.values()),
            )
            for number, item in enumerate(run.items)
            if any(values[number] is not None for values in columns.values())
        ]
        print_table("Beside time", ["variant", "cut", "part", *columns], rows, left=3)
    reasons: dict[str, int] = {}
    for item in run.items:
        for field, why in (item.unknown or {}).items():
            reasons[f"{field}: {why}"] = reasons.get(f"{field}: {why}", 0) + 1
    for reason, count in reasons.items():
        click.echo(f"not known of {count} part{'' if count == 1 else 's'}: {reason}")


def part_name(item: RunItem) -> str:
    """Return how a part is called where its variant and layer are named: part, codec, precision and batch."""
    return " ".join([item.part, *([] if item.codec is None else [item.codec]), *form_of(item)])


def form_of(item: RunItem) -> list[str]:
    """Return precision and batch of an item in words, where they are not float32 and one image."""
    precision = [] if item.precision == "fp32" else [item.precision]
    return precision if item.batch == 1 else [*precision, f"batch {item.batch}"]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


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
    power = conditions.get("power")
    if power is not None and "idle_mw" in power:
        yield f"{' + '.join(power['rails'])} {power['idle_mw'] / 1000:.2f} W at idle ({power['source']})"
    throttled = throttling(run)
    if throttled is not None:
        yield f"THROTTLED: {throttled}"


def _hottest(temperatures: Any) -> float | None:
    return max(temperatures.values()) if temperatures else None
