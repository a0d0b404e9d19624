"""The energy of stages, after their rounds: which are measured, where power is read, and what a run records of it."""

from typing import Any, Callable, Dict, List, Optional

from jetson.agent.measuring.stages import REFERENCE, Run, Stage
from jetson.files.system_files import device_root
from jetson.runtime.energy import FIELD, energy_fields, measure_energy, power_record
from jetson.runtime.power_rails import find_power_source

Found = Dict[str, Dict[str, Any]]


def add_energy(
    stages: List[Stage], runs: Dict[int, Run], found: Found, wanted: Optional[bool], seconds: float,
    on_stage: Callable[[int, int], None],
) -> Optional[Dict[str, Any]]:  # fmt: skip
    """Put the energy of each stage in `found` that has samples there, or why it is unknown; return how it was read.

    `wanted`: None measures where the board shows its power, and says nothing where it does not. `seconds`: how long
    each stage runs by itself. The reference network is left out: nothing compares its energy.
    """
    if wanted is False:
        return None
    numbers = [
        number for number in runs if "samples_ms" in found.get(str(number), {}) and stages[number].chain != (REFERENCE,)
    ]
    source, reason = find_power_source(device_root(), with_processor=wanted is True)
    if source is None:
        if wanted:
            for number in numbers:
                found[str(number)]["unknown"] = {FIELD: reason}
        return None
    taken = measure_energy([(str(number), runs[number]) for number in numbers], source, seconds, on_stage)
    for name, fields in energy_fields(taken).items():
        found[name].update(fields)
    return power_record(source, seconds, taken)
