"""The tables of the page on the published widths, as Markdown, from numbers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.studies.markdown import holds, table
from benchmarks.studies.paper.experiments import CHOICES, PROBE_OTHER_SIDE, Choice, ChoiceTable, Probe
from benchmarks.studies.paper.layer_profile import ConvolutionTime, NetworkProfile
from benchmarks.studies.paper.networks import MAP_SIZES, DenseModel, layer_macs
from benchmarks.studies.paper.published import CLAIMED_RATIO, WANTED_ROUNDED_RATIO
from benchmarks.studies.paper.timing import Latency, Ratio
from exporter.models.vgg import LAYER_NAMES


@dataclass(frozen=True)
class Results:
    """All that one run of the benchmark has measured. `models`, `latencies` and `profiles` go by the models' names.

    `profiled` names the three networks of the layer table: the original, the pruned one, and the pruned one rounded;
    `alone` holds the convolutions of the last by themselves.
    """

    host: Mapping[str, Any]
    onnxruntime_version: str
    block: int
    rounds: int
    models: tuple[DenseModel, ...]
    latencies: Mapping[str, Latency]
    profiled: tuple[str, str, str]
    profiles: Mapping[str, NetworkProfile]
    alone: Mapping[str, ConvolutionTime]
    probes: tuple[Probe, ...]
    choices: ChoiceTable

    def model(self, name: str) -> DenseModel:
        """Return the model of that name; raises KeyError."""
        return {model.name: model for model in self.models}[name]


def latency_table(models: Sequence[DenseModel], latencies: Mapping[str, Latency]) -> str:
    """Return one row per model; MAC ratios are to the first model, latency ratios to the reference of `latencies`."""
    header = (
        "network", "widths", "parameters", "MMACs", "MAC ratio", "steady ms", "ratio [95 %]", "first-run ms",
        "ratio [95 %]", "quick ms", "ratio", "float64 error",
    )  # fmt: skip
    rows = []
    for model in models:
        times = latencies[model.name]
        error = "" if model.float64_error is None else f"{model.float64_error:.1e}"
        rows.append(
            (
                model.name, " ".join(map(str, model.widths)), f"{model.parameters:,}", f"{model.macs / 1e6:.1f}",
                f"{models[0].macs / model.macs:.2f}", f"{times.steady_ms:.3f}", _ratio(times.steady_ratio),
                f"{times.first_ms:.3f}", _ratio(times.first_ratio), f"{times.quick_ms:.3f}",
                f"{times.quick_ratio:.2f}", error,
            )
        )  # fmt: skip
    return table(header, rows)


def bound_table(results: Results) -> str:
    """Return the ratios of step 1, as it is and with the best rounding, beside what they are to reach at least."""
    _, pruned, _ = results.profiled
    ratios = {model.name: results.latencies[model.name].steady_ratio.median for model in results.models}
    rounded = [name for name in ratios if name.startswith(f"{pruned} ")]
    best = max(rounded, key=lambda name: ratios[name])
    rows = [
        (what, f"{least}", f"{ratios[name]:.2f}", holds(ratios[name] >= least))
        for what, name, least in (
            (f"{pruned} as it is", pruned, CLAIMED_RATIO),
            (f"{best}, the best rounding", best, WANTED_ROUNDED_RATIO),
        )
    ]
    return table(("network", "at least", "ratio", "holds"), rows, words=("holds",))


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.median:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def layer_table(results: Results) -> str:
    """Return one row per convolution: channels, MACs, time and speed in the three profiled networks."""
    names = results.profiled
    header = [
        "layer", "map",
        *(f"{what}, {name}" for what in ("channels", "MMACs", "µs", "GMAC/s") for name in names),
        f"kernel, {names[1]}", f"µs alone, {names[2]}",
    ]  # fmt: skip
    widths = [results.model(name).widths for name in names]
    macs = [layer_macs(item) for item in widths]
    rows = []
    for index, layer in enumerate(LAYER_NAMES):
        times = [results.profiles[name].convolutions[layer] for name in names]
        rows.append(
            (
                layer,
                f"{MAP_SIZES[index]}x{MAP_SIZES[index]}",
                *(str(item[index]) for item in widths),
                *(f"{item[index] / 1e6:.2f}" for item in macs),
                *(f"{time.us:.1f}" for time in times),
                *(f"{item[index] / time.us / 1e3:.1f}" for item, time in zip(macs, times, strict=True)),
                times[1].kernel,
                f"{results.alone[layer].us:.1f}",
            )
        )
    return table(header, rows)


@dataclass(frozen=True)
class Share:
    """A part of a network's time in microseconds: measured, and what it would be had it shrunk like the MACs."""

    what: str
    us: float
    ideal_us: float


def shares(results: Results, name: str) -> tuple[Share, ...]:
    """Return where the time of the profiled network `name` goes, against the MACs of the pruned one.

    The ideal of a convolution is its time in the original divided by its own MAC ratio; that of everything else is
    divided by the ratio of all MACs.
    """
    original, pruned, _ = results.profiled
    before, after = (layer_macs(results.model(item).widths) for item in (original, pruned))
    reference, profile = results.profiles[original], results.profiles[name]
    found = []
    for kernel in ("blocked", "im2col"):
        layers = [layer for layer in LAYER_NAMES if profile.convolutions[layer].kernel == kernel]
        indices = [LAYER_NAMES.index(layer) for layer in layers]
        ideal = sum(reference.convolutions[LAYER_NAMES[i]].us * after[i] / before[i] for i in indices)
        us = sum(profile.convolutions[layer].us for layer in layers)
        found.append(Share(f"convolutions, {kernel} ({len(layers)})", us, ideal))
    scale = sum(after) / sum(before)
    for what in ("reorder", "pool", "classifier"):
        us, at_first = (getattr(item, f"{what}_us") for item in (profile, reference))
        found.append(Share(_PARTS[what], us, at_first * scale))
    return tuple(found)


_PARTS = {"reorder": "layout changes", "pool": "pools", "classifier": "flatten and linear"}


def share_table(results: Results) -> str:
    """Return the parts of each pruned network's time, and how far each is above its share of the MACs."""
    rows = []
    for name in results.profiled[1:]:
        parts = shares(results, name)
        total = Share("all nodes", sum(item.us for item in parts), sum(item.ideal_us for item in parts))
        rows += [
            (name, item.what, f"{item.us:.0f}", f"{item.ideal_us:.0f}", f"{item.us - item.ideal_us:+.0f}")
            for item in (*parts, total)
        ]
    return table(("network", "part", "µs", "µs by MACs", "more"), rows)


def probe_tables(probes: Sequence[Probe]) -> str:
    """Return two tables of single convolutions: input channels varied, then output channels."""
    halves = (
        ("input channels", {item.inputs: item for item in probes if item.outputs == PROBE_OTHER_SIDE}),
        ("output channels", {item.outputs: item for item in probes if item.inputs == PROBE_OTHER_SIDE}),
    )
    return "\n\n".join(
        table(
            (what, *(str(channels) for channels in sorted(items))),
            [
                ("kernel", *(items[channels].time.kernel for channels in sorted(items))),
                ("µs", *(f"{items[channels].time.us:.1f}" for channels in sorted(items))),
            ],
        )
        for what, items in halves
    )


def choice_table(choices: ChoiceTable) -> str:
    """Return one row per layer: how much slower the network is with that layer rounded otherwise."""
    by_key = {(item.layer, item.multiple): item for item in choices.choices}
    names = {1: "as it is"}
    header = ("layer", *(names.get(multiple, f"to {multiple}") for multiple in CHOICES))
    copies = [100 * (copy.median - 1) for copy in choices.controls]
    rows = [("none", f"{min(copies):+.1f} to {max(copies):+.1f} %", *[""] * (len(CHOICES) - 1))]
    rows += [
        (layer, *(_percent(by_key[layer, multiple]) if (layer, multiple) in by_key else "" for multiple in CHOICES))
        for layer in LAYER_NAMES
    ]
    return table(header, rows)


def _percent(choice: Choice) -> str:
    return f"{choice.width}: {_percent_more(choice.relative_time)}"


def _percent_more(relative_time: Ratio) -> str:
    more = [100 * (value - 1) for value in (relative_time.median, relative_time.low, relative_time.high)]
    return f"{more[0]:+.1f} % [{more[1]:+.1f}, {more[2]:+.1f}]"
