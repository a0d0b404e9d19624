"""Rebuild the two-step paper's story with our times: `python -m benchmarks.studies.paper.two_step`.

Takes about three minutes and 4 GB of memory. Without `--output` the page is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from benchmarks.studies.page_command import deliver, page_parser, say
from benchmarks.studies.paper.networks import INPUT_SHAPE, example_images, random_vgg, shrink_to
from benchmarks.studies.paper.published import ORIGINAL, STEP1, STEP2, PublishedModel
from benchmarks.studies.paper.timing import RUNS_PER_BLOCK
from benchmarks.studies.paper.two_step_cells import measure
from benchmarks.studies.paper.two_step_page import page
from jetson.wire.image_message import raw_payload

MODELS = (ORIGINAL, STEP1, *STEP2)


def networks(models: Sequence[PublishedModel], images: torch.Tensor) -> list[tuple[PublishedModel, nn.Module]]:
    """Return the published networks: the original, and the others shrunk out of it; raises CoopexportError."""
    original = random_vgg()
    found: list[tuple[PublishedModel, nn.Module]] = []
    for model in models:
        say(f"shrinking to {model.name}")
        network = original if model == ORIGINAL else shrink_to(original, model.widths, images).network
        found.append((model, network))
    return found


def picture_bytes() -> int:
    """Return the bytes of a raw image of the networks' size, as it is sent."""
    channels, height, width = INPUT_SHAPE
    return len(raw_payload(np.zeros((height, width, channels), np.uint8)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code."""
    parser = page_parser(__doc__, "docs/paper_two_step.md")
    parser.add_argument("--rounds", type=int, default=16, help="rounds in which each part is timed")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("the number of rounds must be at least 1")
    torch.set_num_threads(1)
    images = example_images()

    def make_page() -> str:
        return page(measure(networks(MODELS, images), images, options.rounds, RUNS_PER_BLOCK), picture_bytes())

    return deliver(make_page, options.output)


if __name__ == "__main__":
    sys.exit(main())
