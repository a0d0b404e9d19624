"""What the numbers of the page on the published widths show, in sentences whose numbers are the measured ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.studies.paper.networks import layer_macs
from benchmarks.studies.paper.published import CLAIMED_RATIO, STEP2
from benchmarks.studies.paper.tables import Results, shares
from exporter.models.vgg import LAYER_NAMES

# What rounding is to reach at least.
_WANTED_ROUNDED = 7.5


def targets(results: Results) -> str:
    """Say whether the claimed latency ratio is reached, as the network is and with the best rounding."""
    _, pruned, _ = results.profiled
    rounded = {item.name: results.latencies[item.name] for item in results.models if item.name.startswith(f"{pruned} ")}
    best = max(rounded, key=lambda name: rounded[name].steady_ratio.median)
    said = [
        f"{item.steady_ratio.median:.2f}x (first runs {item.first_ratio.median:.2f}x, quick runs "
        f"{item.quick_ratio:.2f}x)"
        for item in (results.latencies[pruned], rounded[best])
    ]
    return (
        f"The paper claims {CLAIMED_RATIO}x less computing time. Step 1 as it is reaches {said[0]}, and with the best "
        f"rounding, {best.removeprefix(f'{pruned} ')}, {said[1]}; wanted were {CLAIMED_RATIO}x and {_WANTED_ROUNDED}x."
    )


def findings(results: Results) -> tuple[str, ...]:
    """Return what the measurements show, one cause after the other."""
    return (*_kernels(results), *_the_rest(results))


def _kernels(results: Results) -> tuple[str, ...]:
    """Say what the choice of kernel and the size of its blocks do."""
    original, pruned, rounded = results.profiled
    block = results.block
    speed = {name: _speed(results, name, LAYER_NAMES) for name in results.profiled}
    kernels = {layer: time.kernel for layer, time in results.profiles[pruned].convolutions.items()}
    copied = [layer for layer in LAYER_NAMES if kernels[layer] == "im2col"]
    macs = [results.model(name).macs / 1e6 for name in (pruned, rounded)]
    before, after = (sum(item.us for item in shares(results, name)[:2]) for name in (pruned, rounded))
    probes = {(item.inputs, item.outputs): f"{item.time.us:.0f}" for item in results.probes}
    slow = f", at {_speed(results, pruned, copied):.0f} GMAC/s" if copied else ""
    return (
        f"The convolutions of the original run at {speed[original]:.0f} GMAC/s, those of step 1 at "
        f"{speed[pruned]:.0f}, and rounded to blocks of {block} at {speed[rounded]:.0f}: what is lost is lost in the "
        "kernels.",
        f"The channels that a convolution *reads* choose its kernel. Fewer than {block}, or a multiple of 4, and it "
        "runs blocked (NCHWc, the channels of a block side by side in a register); otherwise patches are copied into "
        f"a matrix and multiplied (im2col). The channels that it writes do not matter for that. {len(copied)} of the "
        f"13 convolutions of step 1 run by im2col{slow}.",
        f"Blocked kernels compute whole blocks of {block} channels, whatever the width: on an 8x8 map 84 and 96 input "
        f"channels take {probes[84, 96]} and {probes[96, 96]} µs, 81 take {probes[81, 96]} by im2col. Rounding up to "
        f"the block is therefore free: the convolutions become {before - after:.0f} µs faster while their MACs grow "
        f"from {macs[0]:.1f} to {macs[1]:.1f} million.",
        "Output blocks are computed four at a time, and a single one left over is computed badly: 64 outputs take "
        f"{probes[96, 64]} µs, 80 take {probes[96, 80]}, 96 take {probes[96, 96]}. Even so, rounding to {2 * block} "
        "does not pay.",
    )


def _the_rest(results: Results) -> tuple[str, ...]:
    """Say what layouts, small maps, memory and single layers do."""
    original, pruned, rounded = results.profiled
    profiles = results.profiles
    small = [layer for layer in LAYER_NAMES if layer.startswith("conv5")]
    speed = {name: f"{_speed(results, name, small):.0f}" for name in results.profiled}
    in_network, alone = profiles[rounded].convolutions, results.alone
    waiting_us = sum(in_network[layer].us - alone[layer].us for layer in LAYER_NAMES)
    small_us = [float(np.mean([item[layer].us for layer in small])) for item in (in_network, alone)]
    parameters_mib = 4 * results.model(rounded).parameters / 2**20
    return (
        f"Changes between the blocked and the planar layout take {profiles[pruned].reorder_us:.0f} µs in step 1 and "
        f"{profiles[rounded].reorder_us:.0f} when rounded. Pools are blocked for whole blocks only: "
        f"{profiles[pruned].pool_us:.0f} and {profiles[rounded].pool_us:.0f} µs.",
        "On the 2x2 maps of conv5 im2col multiplies with a matrix of four columns, a part of a register: "
        f"{speed[pruned]} GMAC/s in step 1, {speed[rounded]} rounded, {speed[original]} in the original, where most "
        "of the 3x3 windows lies in the border too.",
        "What is left after rounding is the larger number of MACs, and memory: every image reads "
        f"{parameters_mib:.1f} MiB of parameters. A convolution of conv5 takes {small_us[0]:.0f} µs in the network "
        f"and {small_us[1]:.0f} alone, when its weights are still in the nearest caches; over all convolutions this "
        f"makes {waiting_us:.0f} µs. First runs are slower than steady ones for the same reason.",
        "Batch norms are folded into the convolutions by the export and cost nothing; flatten and linear take "
        f"{profiles[rounded].classifier_us:.0f} µs, which is overhead per node.",
        "No layer clearly wants another rounding: one other width changes the whole network's time by "
        f"{_extreme(results, min):+.1f} to {_extreme(results, max):+.1f} %, where the same network differs from "
        f"itself by {controls(results)}; and leaving a width as it is costs most where maps are large.",
    )


def rule(results: Results) -> tuple[str, ...]:
    """Return the rule for rounding widths that follows."""
    block = results.block
    gains = [
        results.latencies[f"{item.name}, others to {block}"].steady_ratio.median
        / results.latencies[item.name].steady_ratio.median
        for item in STEP2
    ]
    return (
        f"Round every width up to the block of the processor that runs the network ({block} here; "
        "`benchmarks.studies.paper.layer_profile.channels_per_block` asks ONNX Runtime), at most to the unpruned "
        "width.",
        "Leave the layer before a cut as it is, because its channels are sent. The layer behind the cut may then run "
        "by im2col, on so few channels that it costs little: step-2 networks with all other layers rounded are "
        f"{min(gains):.2f} to {max(gains):.2f} times faster than as published, with the same bytes on the wire.",
        f"Where size matters too, multiples of 4 suffice between convolutions, and blocks of {block} are needed "
        "before pools only (`mixed` above): the same latency with fewer parameters.",
        "A rounded network need not compute anything else: the channels that it has more can be masked ones, which "
        "are zero, so that rounding takes no measurement and no fine-tuning. (The rounded networks above keep more "
        "channels that are not zero; that takes the same time.)",
    )


def controls(results: Results) -> str:
    """Return what the rounded network's time differs from itself by, as a range in percent."""
    differences = [100 * (control.median - 1) for control in results.choices.controls]
    return f"{min(differences):+.1f} to {max(differences):+.1f} %"


def _extreme(results: Results, pick: Callable[[list[float]], float]) -> float:
    """Return the largest or least difference that one layer's choice makes, in percent of the network's time."""
    return 100 * (pick([item.relative_time.median for item in results.choices.choices]) - 1)


def _speed(results: Results, name: str, layers: tuple[str, ...] | list[str]) -> float:
    """Return the GMAC/s of some convolutions of a profiled network together."""
    macs = layer_macs(results.model(name).widths)
    us = sum(results.profiles[name].convolutions[layer].us for layer in layers)
    return sum(macs[LAYER_NAMES.index(layer)] for layer in layers) / us / 1e3
