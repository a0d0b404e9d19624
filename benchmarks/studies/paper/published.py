"""The widths of the pruned VGG-16 networks that were published with 2-step pruning.

Source: the logs of hou-yz/pytorch-pruning-2step@484bda4. Step 1 prunes the whole network; step 2 prunes one layer of
the step-1 network further, once per layer. The logs have 18 entries for step 2, one per convolution and pool; a pool's
entry has the widths of the convolution before it, so that there are 13 networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.models.vgg import CONVOLUTIONS_PER_BLOCK, FULL_WIDTHS, LAYER_NAMES

STEP1_WIDTHS = (23, 30, 57, 56, 85, 84, 71, 118, 103, 109, 110, 105, 105)
# The width of each layer in the step-2 network that was pruned for a cut after it.
STEP2_CUT_WIDTHS = (3, 6, 9, 8, 13, 12, 11, 22, 19, 18, 19, 21, 21)
# Multiply-accumulates of the unpruned network over those of step 1; what the paper claims for its own run's latency.
MAC_RATIO = 9.11
CLAIMED_RATIO = 6.01
# What rounding the widths of step 1 is to reach at least.
WANTED_ROUNDED_RATIO = 7.5


@dataclass(frozen=True)
class PublishedModel:
    """A network by its widths; `cut_layer` is the layer that step 2 made narrow, or nothing."""

    name: str
    widths: tuple[int, ...]
    cut_layer: str | None = None


ORIGINAL = PublishedModel("original", FULL_WIDTHS)
STEP1 = PublishedModel("step 1", STEP1_WIDTHS)
STEP2 = tuple(
    PublishedModel(f"step 2 at {layer}", (*STEP1_WIDTHS[:index], width, *STEP1_WIDTHS[index + 1 :]), layer)
    for index, (layer, width) in enumerate(zip(LAYER_NAMES, STEP2_CUT_WIDTHS, strict=True))
)


def round_up(widths: Sequence[int], multiple: int, exact: Sequence[str] = ()) -> tuple[int, ...]:
    """Return `widths` rounded up to multiples of `multiple`, at most the unpruned ones.

    `exact`: layers of `LAYER_NAMES` that keep their width, such as the one whose output is sent. Raises ValueError for
    an unknown layer, a multiple below 1, or a number of widths other than 13.
    """
    unknown = set(exact) - set(LAYER_NAMES)
    if multiple < 1 or unknown:
        raise ValueError(f"cannot round to multiples of {multiple}, except {sorted(unknown) or 'nothing'}")
    return tuple(
        width if layer in exact else min(-(-width // multiple) * multiple, full)
        for layer, width, full in zip(LAYER_NAMES, widths, FULL_WIDTHS, strict=True)
    )


def round_mixed(widths: Sequence[int], block: int) -> tuple[int, ...]:
    """Return the smallest widths that lose nothing to kernels in blocks of `block` channels.

    Multiples of 4 where a convolution reads them, and whole blocks where a pool does. Raises ValueError as `round_up`.
    """
    before_pools = [f"conv{stage}_{count}" for stage, count in enumerate(CONVOLUTIONS_PER_BLOCK, start=1)]
    others = [name for name in LAYER_NAMES if name not in before_pools]
    return round_up(round_up(widths, block, exact=others), min(4, block), exact=before_pools)
