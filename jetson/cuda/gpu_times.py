"""What one run of an engine is made of, as a GPU's events tell: inputs to it, compute, outputs back, and enqueueing."""

import statistics
from typing import Dict, List, NamedTuple, Optional, Sequence


class GpuTimes(NamedTuple):
    """Milliseconds between events on the stream: copying `inputs` to the GPU, `compute`, copying `outputs` back.

    `enqueue`: of the processor, until the run was handed over; None where the call that hands it over waits for it.
    """

    inputs: float
    compute: float
    outputs: float
    enqueue: Optional[float] = None


def median_times(times: Sequence[GpuTimes]) -> Optional[Dict[str, float]]:
    """Return the median of each part, as a latency run's row has them; None where there are none."""
    found: Dict[str, float] = {}
    for name in GpuTimes._fields:
        known: List[float] = [getattr(one, name) for one in times if getattr(one, name) is not None]
        if known:
            found[name] = statistics.median(known)
    return found or None
