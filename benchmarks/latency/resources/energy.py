"""What energy one run of each part takes here, as far as processors tell (jetson.runtime.power_rails)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.latency.run import LatencyRun, RunItem
from jetson.files.system_files import device_root
from jetson.runtime.energy import FIELD, energy_fields, measure_energy, power_record
from jetson.runtime.power_rails import find_power_source


def with_energy(
    run: LatencyRun,
    parts: Sequence[Callable[[], Any]],
    seconds: float,
    on_part: Callable[[int, int], None] | None = None,
) -> LatencyRun:
    """Return a run with the energy of each item that has samples, or why it is not known.

    `parts`: what runs each of the run's items, in their order, by itself for at least `seconds`. `on_part`: called with
    how many are done, and of how many.
    """
    measured = [number for number, item in enumerate(run.items) if item.samples_ms is not None]
    source, reason = find_power_source(device_root(), with_processor=True)
    if source is None:
        fields: dict[str, dict[str, Any]] = {str(number): {"unknown": {FIELD: reason}} for number in measured}
        power = None
    else:
        taken = measure_energy([(str(number), parts[number]) for number in measured], source, seconds, on_part)
        fields, power = energy_fields(taken), power_record(source, seconds, taken)
    items = tuple(_with(item, fields.get(str(number), {})) for number, item in enumerate(run.items))
    conditions = run.conditions if power is None else {**run.conditions, "power": power}
    return run.model_copy(update={"items": items, "conditions": conditions})


def _with(item: RunItem, fields: dict[str, Any]) -> RunItem:
    unknown = {**(item.unknown or {}), **fields.get("unknown", {})}
    return item.model_copy(update={**fields, "unknown": unknown or None})
