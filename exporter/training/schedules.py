"""Learning rates over a training."""

from __future__ import annotations

import math

WARM_UP_SHARE = 0.25  # of all steps, in which one cycle rises to its peak
_START_DIVISOR = 25.0
_END_DIVISOR = 1e4  # of the rate that the cycle started with
_CYCLE_MOMENTUM = (0.95, 0.85)  # at the ends of one cycle and at its peak


def learning_rate(schedule: str, peak: float, step: int, steps: int) -> float:
    """Return the learning rate of `step` (from 0) of `steps`; `peak` is the highest one of the schedule.

    "constant"; "cosine": from `peak` to 0 along half a cosine (Loshchilov & Hutter 2017, without restarts);
    "one-cycle": up from a 25th in the first quarter and down to nearly 0, both along half a cosine (Smith & Topin
    2019). Raises ValueError for another name.
    """
    if schedule == "constant":
        return peak
    if schedule == "cosine":
        return _between(peak, 0.0, step / steps)
    if schedule == "one-cycle":
        start = peak / _START_DIVISOR
        return _cycle(start, peak, start / _END_DIVISOR, step, steps)
    raise ValueError(f"there is no schedule {schedule!r}")


def momentum(schedule: str, constant: float, step: int, steps: int) -> float:
    """Return the momentum of a step: `constant`, but in one cycle the reverse of the learning rate's course."""
    if schedule != "one-cycle":
        return constant
    high, low = _CYCLE_MOMENTUM
    return _cycle(high, low, high, step, steps)


def _cycle(start: float, middle: float, end: float, step: int, steps: int) -> float:
    peak_step = WARM_UP_SHARE * steps - 1
    if step <= peak_step:
        return _between(start, middle, step / peak_step if peak_step else 1.0)
    return _between(middle, end, (step - peak_step) / (steps - 1 - peak_step))


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
