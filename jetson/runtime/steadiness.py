"""Whether a warm-up is over: a test on its latest samples, not a count of rounds."""

import statistics
from typing import Optional, Sequence

# Of how many samples the test judges the latest: few, since each costs a round of everything; fewer could not tell.
WINDOW = 10
# Kendall (1975): of windows without a trend, 1 in 20 has a score as far from 0: 34 of 45 pairs ordered alike.
_CLEAR_SCORE = 23
# What does not matter: medians of one sitting are known no better.
_SMALL_CHANGE = 0.02


def remaining_trend(samples_ms: Sequence[float]) -> Optional[str]:
    """Return in words how the latest `WINDOW` samples still get faster or slower, None when they are steady.

    Mann-Kendall's test (Mann 1945, Kendall 1975): of all pairs of samples, how many more rise than fall. It needs no
    distribution of the noise, and single slow samples do not disturb it. A trend counts that is clear at the level of
    5 % and has moved the median by over 2 % from the first half of the window to the second. `samples_ms`: in the order
    they were taken, at least `WINDOW`. Raises ValueError for fewer.
    """
    window = samples_ms[-WINDOW:]
    if len(window) < WINDOW:
        raise ValueError("{} samples are too few to see a trend in; {} are needed".format(len(window), WINDOW))
    score = 0
    for index, later in enumerate(window):
        for earlier in window[:index]:
            score += (later > earlier) - (later < earlier)
    if abs(score) < _CLEAR_SCORE:
        return None
    before, after = statistics.median(window[: WINDOW // 2]), statistics.median(window[WINDOW // 2 :])
    if abs(after - before) <= _SMALL_CHANGE * before:
        return None
    if before == 0:
        return "in the last {} rounds of the warm-up it got slower from 0 on".format(WINDOW)
    return "in the last {} rounds of the warm-up it still got {:.0f} % {}".format(
        WINDOW, 100 * abs(after - before) / before, "slower" if after > before else "faster"
    )
