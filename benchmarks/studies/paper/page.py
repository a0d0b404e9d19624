"""The page on the published widths: its tables with the sentences between them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from benchmarks.studies.paper.findings import controls, findings, rule, targets
from benchmarks.studies.paper.published import MAC_RATIO
from benchmarks.studies.paper.tables import Results, choice_table, latency_table, layer_table, probe_tables, share_table
from benchmarks.studies.paper.timing import RUNS_PER_BLOCK

_WIDTH = 120


def page(results: Results) -> str:
    """Return the whole page, as Markdown."""
    host = results.host
    blocks = (
        "# The published widths, shrunk and timed",
        _wrap(
            "VGG-16 for 32x32 images with the widths that hou-yz/pytorch-pruning-2step@484bda4 publishes for step 1 "
            "(the whole network pruned) and step 2 (one layer pruned further, for a cut after it): applied as "
            "channel masks to a full-width network with random weights, shrunk, checked to be exactly those dense "
            f"networks, exported, and run in ONNX Runtime {results.onnxruntime_version} on one thread of "
            f"{host['processor']} ({host['system']}; load average at the start {host['load_average']}). Written by "
            "`python -m benchmarks.studies.paper.published_widths --output docs/shrink_published_widths.md`."
        ),
        _wrap(
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
        _wrap(targets(results)),
        "## Where the rest of the MAC ratio goes",
        _numbered(findings(results)),
        _wrap(
            "Times by layer, from ONNX Runtime's profiler (whole runs, one thread); *alone* is the same convolution "
            "run by itself, so that its weights stay in the near caches:"
        ),
        layer_table(results),
        _wrap(
            "Parts of the two pruned networks, and what they would take if each convolution had become faster by its "
            f"own MAC ratio of step 1, and everything else by {MAC_RATIO}:"
        ),
        share_table(results),
        "One convolution alone, 3x3 on an 8x8 map, 96 channels on the other side:",
        probe_tables(results.probes),
        _wrap(
            f"Step 1 with all widths in blocks of {results.block}, and one layer rounded otherwise: more time than "
            f"with blocks everywhere (the same network against itself: {controls(results)}; empty: a width that "
            "stands elsewhere in its row, or in blocks):"
        ),
        choice_table(results.choices),
        "## The rule for rounding",
        _numbered(rule(results)),
    )
    return "\n\n".join(blocks) + "\n"


def _numbered(sentences: Sequence[str]) -> str:
    return "\n".join(_wrap(f"{number}. {sentence}", "   ") for number, sentence in enumerate(sentences, start=1))


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
