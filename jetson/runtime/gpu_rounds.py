"""What a GPU's events say of each round: read between rounds, so that reading them is in no sample."""

from typing import Callable, Dict, List, Mapping, Optional

from jetson.cuda.gpu_times import GpuTimes, median_times

# Of an item's last call; None where it has none.
Read = Callable[[], Optional[GpuTimes]]


class GpuRounds:
    """Collects the times of each item's last call, which is the timed one, round by round."""

    def __init__(self, reads: Mapping[str, Read]) -> None:
        self._reads = reads
        self._taken: Dict[str, List[GpuTimes]] = {name: [] for name in reads}

    def take(self) -> None:
        """Read what the round that is over has left; raises CoopexportError with CUDA's words."""
        for name, read in self._reads.items():
            times = read()
            if times is not None:
                self._taken[name].append(times)

    def medians(self, rounds: int) -> Dict[str, Dict[str, float]]:
        """Return by item the medians over its last `rounds` rounds: those before were warm-up."""
        found = {name: median_times(taken[-rounds:]) for name, taken in self._taken.items()}
        return {name: medians for name, medians in found.items() if medians is not None}
