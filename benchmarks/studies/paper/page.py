"""The page on the published widths: its tables, the bound, and the rule for rounding."""

from __future__ import annotations

from benchmarks.studies.markdown import filled
from benchmarks.studies.paper.published import MAC_RATIO
from benchmarks.studies.paper.tables import (
    Results,
    bound_table,
    choice_table,
    latency_table,
    layer_table,
    probe_tables,
    share_table,
)
from benchmarks.studies.paper.timing import RUNS_PER_BLOCK

KERNELS = (
    "The channels that a convolution *reads* choose its kernel. Fewer than a block, or a multiple of 4, and it runs "
    "blocked (NCHWc: the channels of a block side by side in a register). Otherwise patches are copied into a matrix "
    "and multiplied (im2col). The channels that it writes do not matter for that.",
    "Blocked kernels compute whole blocks, whatever the width: rounding up to the block is free. They compute output "
    "blocks four at a time, and a single one left over badly.",
    "Changes between the blocked and the planar layout take time. Pools are blocked for whole blocks only.",
    "On the 2x2 maps of conv5 im2col multiplies with a matrix of four columns, a part of a register.",
    "Every image reads all parameters. In the network the weights of conv5 are no longer in the nearest caches, as "
    "they are when the convolution runs alone; first runs are slower than steady ones for the same reason.",
    "Batch norms are folded into the convolutions by the export and cost nothing.",
)
RULE = (
    "Round every width up to the block of the processor that runs the network "
    "(`benchmarks.studies.paper.layer_profile.channels_per_block` asks ONNX Runtime), at most to the unpruned width.",
    "Leave the layer before a cut as it is, because its channels are sent. The layer behind the cut may then run by "
    "im2col, on so few channels that it costs little.",
    "Where size matters too, multiples of 4 suffice between convolutions, and blocks are needed before pools only "
    "(`mixed` above).",
    "A rounded network need not compute anything else: the channels that it has more can be masked ones, which are "
    "zero, so that rounding takes no measurement and no fine-tuning. (The rounded networks above keep more channels "
    "that are not zero; that takes the same time.)",
)


def page(results: Results) -> str:
    """Return the whole page, as Markdown."""
    host = results.host
    blocks = (
        "# The published widths, shrunk and timed",
        filled(
            "VGG-16 for 32x32 images with the widths that hou-yz/pytorch-pruning-2step@484bda4 publishes for step 1 "
            "(the whole network pruned) and step 2 (one layer pruned further, for a cut after it): applied as "
            "channel masks to a full-width network with random weights, shrunk, checked to be exactly those dense "
            f"networks, exported, and run in ONNX Runtime {results.onnxruntime_version} on one thread of "
            f"{host['processor']} ({host['system']}; load average at the start {host['load_average']}). Written by "
            "`python -m benchmarks.studies.paper.published_widths --output docs/shrink_published_widths.md`."
        ),
        filled(
            f"Latencies are for one image: medians over {results.rounds} interleaved rounds, ratios computed within "
            "rounds, 95 % intervals of the median within this sitting. Each round runs every network "
            f"{RUNS_PER_BLOCK} times in a row: *steady* is the median of the last third, as on a machine that runs "
            "this network for every request; *first run* comes after the other networks, which have left none of its "
            "weights in the near caches; *quick* is the 5th percentile of all runs. The original reads 56 MiB of "
            "weights per image, so that neighbours on the machine slow it down most: while they do, ratios of "
            "medians are too good. *float64 error*: shrunk against masked network, relative to the outputs' spread. "
            "Parameters include the batch norms', MACs the classifier's."
        ),
        latency_table(results.models, results.latencies),
        "## Bounds",
        "How many times faster than the original, in steady runs; the paper claims the first for its own network:",
        bound_table(results),
        "## Where the rest of the MAC ratio goes",
        _numbered(KERNELS),
        filled(
            "Times by layer, from ONNX Runtime's profiler (whole runs, one thread); *alone* is the same convolution "
            "run by itself, so that its weights stay in the near caches:"
        ),
        layer_table(results),
        filled(
            "Parts of the two pruned networks, and what they would take if each convolution had become faster by its "
            f"own MAC ratio of step 1, and everything else by {MAC_RATIO}:"
        ),
        share_table(results),
        "One convolution alone, 3x3 on an 8x8 map, 96 channels on the other side:",
        probe_tables(results.probes),
        filled(
            f"Step 1 with all widths in blocks of {results.block}, and one layer rounded otherwise: more time than "
            "with blocks everywhere. The first row is how much copies of the same network differ. Empty: a width that "
            "stands elsewhere in its row, or in blocks."
        ),
        choice_table(results.choices),
        "## The rule for rounding",
        _numbered(RULE),
    )
    return "\n\n".join(blocks) + "\n"


def _numbered(sentences: tuple[str, ...]) -> str:
    return "\n".join(filled(f"{number}. {sentence}", "   ") for number, sentence in enumerate(sentences, start=1))
