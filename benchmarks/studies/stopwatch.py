"""How far medians of one sitting are from those of another: `python -m benchmarks.studies.stopwatch`.

Each sitting opens its engines anew and is measured as `coopexport bench` measures: warm-up until steady, interleaved
rounds, the reference network among them. Takes about two minutes. Without `--output` the page is printed.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from benchmarks.latency.bench import run_benchmark
from benchmarks.latency.host import describe_host
from benchmarks.latency.reference import REFERENCE, reference_stage
from benchmarks.latency.run import LatencyRun
from benchmarks.latency.stages import TimedStage
from benchmarks.latency.statistics import summarise
from benchmarks.latency.summaries import summarise_item
from benchmarks.studies.markdown import filled, holds, provenance, table
from benchmarks.studies.page_command import deliver, page_parser, say
from benchmarks.studies.paper.networks import example_images, plain_model, random_vgg
from benchmarks.studies.paper.timing import runner
from engines.building.build import builder_version
from engines.building.build_items import WHOLE
from engines.targets.lookup import find_target
from exporter.models.vgg import FULL_WIDTHS
from jetson.errors import DeviceError
from jetson.runtime.sampling import fixed, sample_interleaved, until_steady

COMMAND = "python -m benchmarks.studies.stopwatch --output docs/stopwatch.md"
WITHIN = 0.03
WANTED_SHARE = 0.9  # 18 of 20
WANTED_ADDED_US = 2.0
NOTHING = "an empty function"
# VGG-16 for 32x32 images, by what the published widths are divided by.
_DIVISORS = (8, 4, 2)
_LEAST_WARM_UP = 10


@dataclass(frozen=True)
class Spread:
    """One network over all sittings: its medians in milliseconds, and their ratios to the reference network's."""

    name: str
    medians_ms: NDArray[np.float64]
    ratios: NDArray[np.float64]

    @property
    def holds(self) -> bool:
        """Tell whether the ratio stayed within 3 % of its median in at least 18 of 20 sittings."""
        return near(self.ratios) >= WANTED_SHARE * len(self.ratios)


def networks(divisors: Sequence[int] = _DIVISORS) -> dict[str, onnx.ModelProto]:
    """Return VGG-16 of several widths for one 32x32 image, as ONNX by name; weights are drawn with a fixed seed."""
    images, found = example_images(), {}
    for divisor in divisors:
        name, widths = f"VGG-16, widths / {divisor}", tuple(width // divisor for width in FULL_WIDTHS)
        found[name] = plain_model(name, random_vgg(widths), widths, images).graph
    return found


def sitting(models: Mapping[str, onnx.ModelProto], rounds: int) -> LatencyRun:
    """Return one run over all networks, freshly opened, an empty function, and the reference; raises CoopexportError.

    Each is a chain of its own, so that it runs as often untimed as a part of a candidate does.
    """
    target = find_target("cpu")
    functions: dict[str, Callable[[], Any]] = {name: runner(model) for name, model in models.items()}
    functions[NOTHING] = lambda: None
    stages = [TimedStage(name, WHOLE, WHOLE, None, "", function) for name, function in functions.items()]
    run = run_benchmark(stages, target, rounds, until_steady(_LEAST_WARM_UP), reference=reference_stage(target))
    for item in (*run.items, run.reference):
        if item is None or item.failure is not None:
            what, why = (REFERENCE, "it was not run") if item is None else (item.variant, item.failure)
            raise DeviceError(f"'{what}' cannot be measured: {why}")
    return run


def spreads(runs: Sequence[LatencyRun]) -> list[Spread]:
    """Return how each network's median, and its ratio to the reference, moved over the sittings."""
    reference = _medians_ms(runs, REFERENCE)
    names = [item.variant for item in runs[0].items if item.variant != NOTHING]
    return [
        Spread(REFERENCE, reference, np.ones(len(runs))),
        *(Spread(name, found, found / reference) for name in names for found in [_medians_ms(runs, name)]),
    ]


def added_us(runs: Sequence[LatencyRun]) -> NDArray[np.float64]:
    """Return what the harness measures of an empty function, beside networks: the median of each sitting."""
    return 1000 * _medians_ms(runs, NOTHING)


def summaries_s(items: int = 500, rounds: int = 100) -> float:
    """Return the seconds that summaries of so many items take, intervals and flags included."""
    random = np.random.default_rng(0)
    samples = (1 + 0.05 * random.random((items, rounds))).tolist()
    ((taken_ms,),) = sample_interleaved(
        [("summaries", lambda: [summarise(one) for one in samples])], 1, fixed(0)
    ).samples_ms.values()
    return taken_ms / 1000


def near(values: NDArray[np.float64]) -> int:
    """Return how many of `values` are within 3 % of their median."""
    return int((np.abs(values / np.median(values) - 1) <= WITHIN).sum())


def _medians_ms(runs: Sequence[LatencyRun], variant: str) -> NDArray[np.float64]:
    found = []
    for run in runs:
        items = (*run.items, *([] if run.reference is None else [run.reference]))
        found += [float(np.median(item.samples_ms or ())) for item in items if item.variant == variant]
    return np.array(found)


def page(runs: Sequence[LatencyRun], host: Mapping[str, Any]) -> str:
    """Return the page: how medians and ratios spread over the sittings, what the harness adds, and the flags raised."""
    count, rounds = len(runs), runs[0].rounds
    introduction = (
        f"{count} sittings one after the other, each with engines opened anew and {rounds} rounds on one thread: "
        "VGG-16 for 32x32 images in several widths, and the reference network that each run of `coopexport bench` has. "
        "Medians of a sitting say how fast the machine was then; ratios to the reference say how the networks compare."
    )
    wanted = (
        f"Wanted: the ratio to the reference within {100 * WITHIN:.0f} % of its median over all sittings in 18 of 20. "
        "Spread: from the least to the greatest, as a share of the median."
    )
    added, found = added_us(runs), spreads(runs)
    adds = (
        f"Of an empty function, timed in the same rounds, the harness measures {np.median(added):.2f} microseconds "
        f"(greatest of {count} sittings {added.max():.2f}): that is what it adds to a call. Wanted: under "
        f"{WANTED_ADDED_US:g}; holds: {holds(bool(added.max() < WANTED_ADDED_US))}. "
        "Summaries of 500 parts with 100 samples each, with intervals and flags, take "
        f"{summaries_s():.1f} s after that."
    )
    warm_ups = [run.warm_up for run in runs]
    flags = Counter(
        flag.kind
        for run in runs
        for item in run.items
        if item.variant != NOTHING and (summary := summarise_item(run, item)) is not None
        for flag in summary.flags
    )
    doubts = (
        f"The warm-up took {min(warm_ups)} to {max(warm_ups)} rounds and ended steady in "
        f"{sum(run.steady is True for run in runs)} of {count} sittings. Flags on {count * (len(found) - 1)} medians "
        f"of networks: {', '.join(f'{number} {kind}' for kind, number in sorted(flags.items())) or 'none'}."
    )
    blocks = (
        "# How steady the stopwatch is",
        filled(introduction),
        filled(wanted),
        spread_table(found),
        "## What the harness adds",
        filled(adds),
        "## Warm-up and flags",
        filled(doubts),
        provenance(host, {"ONNX Runtime": builder_version(find_target("cpu"))}, COMMAND),
    )
    return "\n\n".join(blocks) + "\n"


def spread_table(found: Sequence[Spread]) -> str:
    """Return one row per network."""
    header = (
        "network",
        "median ms",
        "spread of medians",
        "within 3 %",
        "ratio",
        "spread of ratios",
        "within 3 %",
        "holds",
    )
    rows = []
    for one in found:
        cells = [f"{np.median(one.medians_ms):.4f}", f"{_spread(one.medians_ms):.0f} %", _share(one.medians_ms)]
        if one.name != REFERENCE:
            cells += [
                f"{np.median(one.ratios):.3f}",
                f"{_spread(one.ratios):.0f} %",
                _share(one.ratios),
                holds(one.holds),
            ]
        rows.append([one.name, *cells, *[""] * (len(header) - 1 - len(cells))])
    return table(header, rows)


def _spread(values: NDArray[np.float64]) -> float:
    return float(100 * (values.max() - values.min()) / np.median(values))


def _share(values: NDArray[np.float64]) -> str:
    return f"{near(values)} of {len(values)}"


def measure(sittings: int, rounds: int, divisors: Sequence[int] = _DIVISORS) -> list[LatencyRun]:
    """Return the runs of all sittings; raises CoopexportError when a network cannot be measured."""
    models = networks(divisors)
    runs = []
    for number in range(1, sittings + 1):
        runs.append(sitting(models, rounds))
        say(f"sitting {number} of {sittings}")
    return runs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code."""
    parser = page_parser(__doc__, "docs/stopwatch.md")
    parser.add_argument("--sittings", type=int, default=20, help="how often all is measured")
    parser.add_argument("--rounds", type=int, default=100, help="rounds of each sitting")
    options = parser.parse_args(arguments)
    if min(options.sittings, options.rounds) < 1:
        parser.error("the numbers of sittings and rounds must be at least 1")
    torch.set_num_threads(1)
    host = describe_host()
    return deliver(lambda: page(measure(options.sittings, options.rounds), host), options.output)


if __name__ == "__main__":
    sys.exit(main())
