"""The head of the report: what was chosen, whether splitting pays, by which term, and on what all of it rests."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

from benchmarks.report.html import heading, paragraph, table, warning
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import LinkChoice, Selection, describe
from benchmarks.selection.terms import Entry, best, compared, is_split
from exporter.variants.plans import ORIGINAL

# Below this gain a choice is a tie: medians of separate runs on a shared machine differ by as much.
TIE_PERCENT = 5.0
# How near, as a fraction, a link's goodput may lie to a switch point before the report shows it.
NEAR_SWITCH_POINT = 0.1
# Rounded to the digits shown, nothing is saved.
_MIN_MS = 0.0005
_HEAD = (
    f"The fastest candidate within the accuracy bound, on each link. A gain below {TIE_PERCENT:g} % is a tie. Near a "
    "switch point a small error in the goodput makes another choice, which costs almost the same there."
)
_GAINS = (
    "What the choice saves, term by term; a negative number is what it pays. A choice that does not split is compared "
    "with the best split."
)
_RESTS_ON = (
    "No device was measured: every device time is a median measured on the machine above, multiplied by "
    "device_slowdown, which is assumed.",
    "Parts were timed one by one and their medians added; the running pair was not timed here.",
    "Goodputs are those of the project file: delivered bits per second. Transmission is payload / goodput.",
    "Payloads are means over the images that the metric was counted on.",
    "Ignored: transmission of the result, round-trip time, queueing at the edge, energy.",
)


@dataclass(frozen=True)
class Gain:
    """The choice on a link beside the fastest candidate of another kind that keeps the bound; None: there is none.

    `kind`: what it is compared with.
    """

    kind: str
    baseline: Entry | None
    chosen: Entry

    @property
    def ratio(self) -> float | None:
        """Return how many times as fast the choice is; None without a baseline, or where the choice takes no time."""
        if self.baseline is None or self.chosen.terms.total_ms <= 0:
            return None
        return self.baseline.terms.total_ms / self.chosen.terms.total_ms

    @property
    def is_faster(self) -> Literal["yes", "tie", "no"] | None:
        """Tell whether the choice is faster by more than a tie; `no`: it is the baseline itself, None without one."""
        if self.baseline is None:
            return None
        if self.baseline.index == self.chosen.index:
            return "no"
        limit_ms = (1.0 - TIE_PERCENT / 100.0) * self.baseline.terms.total_ms
        return "tie" if self.chosen.terms.total_ms > limit_ms else "yes"


def link_name(choice: LinkChoice) -> str:
    """Return a link and its goodput, for example `4G (5.85 Mbit/s)`."""
    return f"{choice.link} ({choice.goodput_bps / 1e6:g} Mbit/s)"


def gains(selection: Selection, choice: LinkChoice) -> tuple[Gain, Gain]:
    """Return what the choice gains over the best without a split (with one, if it has none), and over the unpruned."""
    entries = compared(selection, choice)
    chosen = entries[-1]
    splits = is_split(chosen.candidate)
    return (
        Gain("best without a split" if splits else "best split", best(entries, split=not splits), chosen),
        Gain("best of the unpruned network", best(entries, variant=ORIGINAL), chosen),
    )


def splitting_pays(selection: Selection, choice: LinkChoice) -> Literal["yes", "tie", "no"]:
    """Tell whether a split is chosen, and is faster than all without by more than a tie; yes if there are none."""
    gain = gains(selection, choice)[0]
    if not is_split(gain.chosen.candidate):
        return "no"
    return gain.is_faster or "yes"


def switch_point_nearby(selection: Selection, choice: LinkChoice) -> tuple[float, float] | None:
    """Return the nearest switch point within `NEAR_SWITCH_POINT` of a link's goodput, and the goodput over it minus 1.

    Both neighbours take the same time at a switch point, in bits per second.
    """
    points = [after.from_bps for _, after in itertools.pairwise(selection.intervals)]
    near = [(point, choice.goodput_bps / point - 1.0) for point in points]
    near = [item for item in near if abs(item[1]) < NEAR_SWITCH_POINT]
    return min(near, key=lambda item: abs(item[1]), default=None)


def summary(result: ProjectSelection) -> list[str]:
    """Return as HTML what was chosen on each link, and what that gains."""
    columns = ["link", "chosen", "total ms", "splitting pays", "switch point nearby"]
    rows = []
    for choice in result.selection.links:
        near = switch_point_nearby(result.selection, choice)
        rows.append(
            [
                link_name(choice),
                describe(result.selection.candidates[choice.candidate]),
                f"{choice.latency_ms:.3f}",
                splitting_pays(result.selection, choice),
                "" if near is None else f"{near[0] / 1e6:.3f} Mbit/s ({100 * near[1]:+.1f} %)",
            ]
        )
    gain_columns = ["link", "compared with", "which is", "total ms", "device ms saved", "transmission ms saved",
                    "edge ms saved", "times as fast", "faster"]  # fmt: skip
    gained = [
        [link_name(choice), *_gain_cells(gain)]
        for choice in result.selection.links
        for gain in gains(result.selection, choice)
    ]
    return [
        paragraph(_HEAD, "lead"),
        table(columns, rows, ["total ms"]),
        paragraph(_GAINS),
        table(gain_columns, gained, gain_columns[3:8]),
    ]


def _gain_cells(gain: Gain) -> list[str]:
    if gain.baseline is None:
        return [gain.kind, "none keeps the accuracy bound", *["–"] * 6]
    before, after = gain.baseline.terms, gain.chosen.terms
    return [
        gain.kind,
        describe(gain.baseline.candidate),
        f"{before.total_ms:.3f}",
        _saved(before.device_ms - after.device_ms),
        _saved(before.transmission_ms - after.transmission_ms),
        _saved(before.edge_ms - after.edge_ms),
        "–" if gain.ratio is None else f"{gain.ratio:.2f}×",
        str(gain.is_faster),
    ]


def _saved(saved_ms: float) -> str:
    return "0" if abs(saved_ms) < _MIN_MS else f"{saved_ms:+.3f}"


def foundations(result: ProjectSelection, hosts: list[str]) -> list[str]:
    """Return as HTML what the numbers rest on; `hosts`: the machines that the latency runs name."""
    counted = sorted({split.metric.samples for item in result.variants for split in item.splits})
    samples = counted or [result.variants[0].whole.metric.samples]
    spreads = sorted(100.0 * row.cv for row in result.rows if row.cv is not None) or [0.0]
    rows = [
        ["measured on", " and ".join(hosts) or "a machine whose latency runs are not here"],
        ["target of the edge", result.target],
        ["device_slowdown, assumed, not measured", f"{result.settings.device_slowdown:g}"],
        [f"{result.metric} of the unpruned network", f"{100 * result.reference:.2f}"],
        ["accuracy bound, points below that", f"{result.settings.maximum_loss_points:g}"],
        ["images counted", ", ".join(map(str, samples))],
        ["points of one image", f"{100 / max(1, min(samples)):.2f}"],
        ["variation of one part's samples, %", f"median {spreads[len(spreads) // 2]:.0f}, largest {spreads[-1]:.0f}"],
    ]
    return [heading("What this rests on"), table(["what", "value"], rows), warning(_RESTS_ON)]
