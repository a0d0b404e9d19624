"""Shrink VGG-16 to the published widths and time it: `python -m benchmarks.studies.paper.published_widths`.

Takes about two minutes. Without `--output` the page is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from benchmarks.latency.host import describe_host
from benchmarks.studies.page_command import deliver, page_parser, say
from benchmarks.studies.paper.experiments import choose_per_layer, probe_channels, profile_alone, profile_models
from benchmarks.studies.paper.layer_profile import channels_per_block
from benchmarks.studies.paper.networks import (
    MAP_SIZES,
    DenseModel,
    example_images,
    plain_model,
    random_vgg,
    shrunk_model,
)
from benchmarks.studies.paper.page import page
from benchmarks.studies.paper.published import ORIGINAL, STEP1, STEP2, round_mixed, round_up
from benchmarks.studies.paper.tables import Results
from benchmarks.studies.paper.timing import measure_blocks, runner
from exporter.onnx_graphs.session import import_onnxruntime

# A processor without blocked kernels has nothing to round for; 8 is then as good as any.
_MIN_BLOCK = 8


def widths_to_measure(block: int) -> dict[str, tuple[int, ...]]:
    """Return the widths of every pruned network of the table, by name; `block`: channels per block of the kernels."""
    found = {STEP1.name: STEP1.widths}
    for multiple in sorted({8, 16, 32, block}):
        found[f"{STEP1.name} to {multiple}"] = round_up(STEP1.widths, multiple)
    found[f"{STEP1.name} mixed"] = round_mixed(STEP1.widths, block)
    for model in STEP2:
        found[model.name] = model.widths
    for model in STEP2:
        found[f"{model.name}, others to {block}"] = round_up(model.widths, block, exact=(model.cut_layer or "",))
    return found


def build_models(widths: dict[str, tuple[int, ...]], images: torch.Tensor) -> tuple[DenseModel, ...]:
    """Return the original and one shrunk network per entry of `widths`; raises CoopexportError as `shrink_to`."""
    original = random_vgg()
    models = [plain_model(ORIGINAL.name, original, ORIGINAL.widths, images)]
    for name, item in widths.items():
        say(f"shrinking to {name}")
        models.append(shrunk_model(name, original, item, images))
    return tuple(models)


def run(rounds: int, choice_rounds: int) -> Results:
    """Build, time and profile everything. Raises CoopexportError when a network fails."""
    torch.set_num_threads(1)
    host = describe_host()
    images = example_images()
    block = max(channels_per_block(), _MIN_BLOCK)
    models = build_models(widths_to_measure(block), images)
    say(f"timing {len(models)} networks in {rounds} rounds")
    latencies = measure_blocks({model.name: runner(model.graph) for model in models}, ORIGINAL.name, rounds)
    by_name = {model.name: model for model in models}
    profiled = (ORIGINAL.name, STEP1.name, f"{STEP1.name} to {block}")
    say("profiling")
    rounded = by_name[profiled[2]].widths
    say(f"rounding one layer at a time, in {choice_rounds} rounds")
    return Results(
        host=host,
        onnxruntime_version=import_onnxruntime().__version__,
        block=block,
        rounds=rounds,
        models=models,
        latencies=latencies,
        profiled=profiled,
        profiles=profile_models([by_name[name] for name in profiled]),
        alone=profile_alone(rounded, MAP_SIZES),
        probes=probe_channels(),
        choices=choose_per_layer(STEP1.widths, block, images, choice_rounds),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = page_parser(__doc__, "docs/shrink_published_widths.md")
    parser.add_argument("--rounds", type=int, default=30, help="rounds of the table of networks")
    parser.add_argument("--choice-rounds", type=int, default=30, help="rounds of the table of roundings per layer")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.choice_rounds) < 1:
        parser.error("the numbers of rounds must be at least 1")
    return deliver(lambda: page(run(options.rounds, options.choice_rounds)), options.output)


if __name__ == "__main__":
    sys.exit(main())
