"""The head of the report in sentences: what was chosen, what it gains and against what, and on what all of it rests."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from benchmarks.figures.candidate_times import count_origins, counts_protocol, device_is_measured, intervals_at
from benchmarks.report.html import bullets, folded, heading, paragraph, table, warning
from benchmarks.selection.project_selection import ProjectSelection, costs_of
from benchmarks.selection.selector import LinkChoice, Origin, Selection, describe
from benchmarks.selection.terms import Entry, best, compared, is_split
from exporter.variants.plans import ORIGINAL

# Below this gain a choice is a tie: medians of separate runs on a shared machine differ by as much.
TIE_PERCENT = 5.0
# How near, as a fraction, a link's goodput may lie to a switch point before the report shows it.
NEAR_SWITCH_POINT = 0.1
# Rounded to the digits shown, nothing is saved.
_MIN_MS = 0.0005
_GAINS = (
    "What the choice saves, term by term; a negative number is what it pays. A choice that does not split is compared "
    "with the best split."
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
        """Tell whether the choice is faster by more than a tie; None without a baseline.

        `no`: it is the baseline itself, or slower by more than a tie, because another objective decided.
        """
        if self.baseline is None:
            return None
        if self.baseline.index == self.chosen.index:
            return "no"
        within = 1.0 - TIE_PERCENT / 100.0
        chosen_ms, baseline_ms = self.chosen.terms.total_ms, self.baseline.terms.total_ms
        if baseline_ms < within * chosen_ms:
            return "no"
        return "tie" if chosen_ms > within * baseline_ms else "yes"


def link_name(choice: LinkChoice) -> str:
    """Return a link, its goodput and its round trip where it has one, for example `4G (5.85 Mbit/s, 50 ms)`."""
    trip = f", {choice.round_trip_ms:g} ms" if choice.round_trip_ms > 0 else ""
    return f"{choice.link} ({choice.goodput_bps / 1e6:g} Mbit/s{trip})"


def gains(selection: Selection, choice: LinkChoice) -> tuple[Gain, Gain]:
    """Return what the choice gains over the best without a split (with one, if it has none), and over the unpruned."""
    entries = compared(selection, choice)
    chosen = entries[-1]
    splits = is_split(chosen.candidate)
    return (
        Gain("best without a split" if splits else "best split", best(entries, split=not splits), chosen),
        Gain("best of the unpruned network", best(entries, variant=ORIGINAL), chosen),
    )


def splitting_pays(selection: Selection, choice: LinkChoice) -> Literal["yes", "tie", "no", "not known"]:
    """Tell whether a split is chosen, and faster than all without by more than a tie; not known if there are none."""
    gain = gains(selection, choice)[0]
    if not is_split(gain.chosen.candidate):
        return "no"
    return gain.is_faster or "not known"


def switch_point_nearby(selection: Selection, choice: LinkChoice) -> tuple[float, float] | None:
    """Return the nearest switch point within `NEAR_SWITCH_POINT` of a link's goodput, and the goodput over it minus 1.

    Both neighbours take the same time at a switch point, in bits per second; those at the link's round trip count.
    """
    intervals = intervals_at(selection, choice.round_trip_ms)
    points = [after.from_bps for _, after in itertools.pairwise(intervals)]
    near = [(point, choice.goodput_bps / point - 1.0) for point in points]
    near = [item for item in near if abs(item[1]) < NEAR_SWITCH_POINT]
    return min(near, key=lambda item: abs(item[1]), default=None)


def summary(result: ProjectSelection) -> list[str]:
    """Return as HTML what was chosen on each link and what that gains: sentences, and their numbers folded away."""
    bound = f"at most {_points(result.settings.maximum_loss_points)} of {result.metric}"
    latency = result.settings.maximum_latency_ms
    chosen = "the fastest that loses" if latency is None else f"the most accurate within {latency:g} ms that loses"
    lead = f"{_where_it_pays(result.selection)} Chosen is {chosen} {bound}."
    return [
        paragraph(lead),
        bullets([link_sentences(result, choice) for choice in result.selection.links]),
        folded("The same in numbers", _tables(result)),
    ]


def _where_it_pays(selection: Selection) -> str:
    """Return on how many of the links splitting pays, and on how many nothing is known of that."""
    found = [splitting_pays(selection, choice) for choice in selection.links]
    nothing = "no candidate without a split is left to compare with"
    if set(found) == {"not known"}:
        return f"Whether splitting pays is not known: {nothing}."
    pays, unknown = found.count("yes"), found.count("not known")
    on = f"{pays or 'none'} of {len(found)} link{'' if len(found) == 1 else 's'}"
    which = "there a split is" if pays else "nowhere is a split"
    than = f"more than {TIE_PERCENT:g} % faster than all on the device and all on the edge"
    said = f"Splitting pays on {on}: {which} {than}."
    return f"{said} On {unknown} that is not known: {nothing}." if unknown else said


def link_sentences(result: ProjectSelection, choice: LinkChoice) -> str:
    """Return what was chosen on a link, what it takes, and what it gains over the best of the other kind."""
    selection = result.selection
    chosen = selection.candidates[choice.candidate]
    other, unpruned = gains(selection, choice)
    parts = [
        f"{link_name(choice)}: {describe(chosen)}, takes {choice.latency_ms:.3f} ms and keeps "
        f"{100 * chosen.metric:.2f} % {result.metric}.",
        _against(other),
    ]
    if unpruned.baseline is not None and unpruned.is_faster != "no":
        parts.append(f"The unpruned network takes at best {unpruned.baseline.terms.total_ms:.3f} ms.")
    if costs := costs_of(result, chosen):
        parts.append(f"It {costs}.")
    if choice.over_ms > 0:
        parts.append(f"It is {choice.over_ms:.3f} ms over the latency bound, which nothing keeps here.")
    near = switch_point_nearby(selection, choice)
    if near is not None:
        parts.append(f"The plan switches nearby, at {near[0] / 1e6:.3f} Mbit/s.")
    return " ".join(parts)


def _against(gain: Gain) -> str:
    split = is_split(gain.chosen.candidate)
    if gain.baseline is None:
        return f"No candidate {'without' if split else 'with'} a split is left to compare with."
    named = f"{describe(gain.baseline.candidate)}, {gain.baseline.terms.total_ms:.3f} ms"
    if gain.ratio is None:
        return f"The {gain.kind}: {named}."
    if gain.is_faster == "tie":
        return f"That is a tie with the {gain.kind}: {named} ({gain.ratio:.2f}×)."
    if gain.ratio < 1:  # another bound or objective decided
        return f"The {gain.kind} is faster: {named}."
    if split:
        return f"That is {gain.ratio:.2f}× as fast as the {gain.kind}: {named}."
    return f"No split is faster: the {gain.kind} is {named}."


def _points(value: float) -> str:
    return f"{value:g} point{'' if value == 1 else 's'}"


def _tables(result: ProjectSelection) -> str:
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
    return "\n".join(
        [table(columns, rows, ["total ms"]), paragraph(_GAINS), table(gain_columns, gained, gain_columns[3:8])]
    )


def _gain_cells(gain: Gain) -> list[str]:
    if gain.baseline is None:
        return [gain.kind, "none is left", *["–"] * 6]
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


def foundations(result: ProjectSelection, hosts: list[str], doubts: list[str]) -> list[str]:
    """Return as HTML what the numbers rest on.

    `hosts`: the machines that the latency runs name; `doubts`: sentences on what the runs were marked with.
    """
    counted = sorted({split.metric.samples for item in result.variants for split in item.splits})
    samples = counted or [result.variants[0].whole.metric.samples]
    spreads = sorted(100.0 * row.cv for row in result.rows if row.cv is not None) or [0.0]
    scaled = not device_is_measured(result.selection)
    rows = [
        ["measured on", " and ".join(hosts) or "a machine whose latency runs are not here"],
        ["target of the edge", result.target],
        [f"device_slowdown, {'assumed, not measured' if scaled else 'for times that were not measured'}",
         f"{result.settings.device_slowdown:.3g}"],
        [f"{result.metric} of the unpruned network", f"{100 * result.reference:.2f}"],
        ["accuracy bound, points below that", f"{result.settings.maximum_loss_points:g}"],
        ["images counted", ", ".join(map(str, samples))],
        ["points of one image", f"{100 / max(1, min(samples)):.2f}"],
        ["variation of one part's samples, %", f"median {spreads[len(spreads) // 2]:.0f}, largest {spreads[-1]:.0f}"],
    ]  # fmt: skip
    return [
        heading("What this rests on"),
        warning([*_origin_sentences(result), *doubts, *_rests_on(result), *_left_out(result.selection)]),
        folded("The same in numbers", table(["what", "value"], rows)),
    ]


def _origin_sentences(result: ProjectSelection) -> list[str]:
    """Return which times are measured, scaled or predicted."""
    device, edge = count_origins(result.selection)
    slowdown = result.settings.device_slowdown
    said = []
    if device and set(device) == {"scaled"}:
        said.append(
            f"No device was measured: every device time is a median measured on the machine of the edge, times "
            f"{slowdown:g} (device_slowdown), which is assumed."
        )
    elif device:
        said.append(f"Device times of candidates: {_counted(device)}.")
        if device["scaled"]:
            parts = result.sources.compared_parts
            how = f"the median ratio of {parts} parts that both measured" if parts else "assumed"
            said.append(f"Scaled: measured on the machine of the edge, times {slowdown:.3g} (device_slowdown), {how}.")
    if edge:
        said.append(f"Edge times of candidates: {_counted(edge)}, on target {result.target}.")
    return said


def _counted(counts: Counter[Origin]) -> str:
    words: tuple[Origin, ...] = ("measured", "scaled", "predicted")
    return ", ".join(f"{counts[word]} {word}" for word in words if counts[word])


def _rests_on(result: ProjectSelection) -> list[str]:
    transmission = (
        "all bytes on the wire, protocol and reply included, over goodput"
        if counts_protocol(result.selection)
        else "payload over goodput; the bytes of a protocol, the reply and the round trip are not counted"
    )
    return [
        "Parts were timed one by one and their medians added; the running pair was not timed here.",
        f"Goodputs are those of the project file: delivered bits per second. Transmission is {transmission}.",
        "Payloads are means over the images that the metric was counted on.",
        "Queueing at the edge and energy are not counted.",
    ]


def _left_out(selection: Selection) -> list[str]:
    """Return how many candidates were left out, by reason."""
    reasons = [candidate.reason for candidate in selection.candidates if candidate.reason]
    if not reasons:
        return []
    lossy = sum(reason.startswith("loses ") for reason in reasons)
    counts = (
        (lossy, "beyond the accuracy bound"),
        (len(reasons) - lossy, "for other reasons, such as a part that failed"),
    )
    why = ", ".join(f"{count} {words}" for count, words in counts if count)
    return [
        f"{len(reasons)} of {len(selection.candidates)} candidates are left out: {why}. The numbers behind accuracy "
        "against latency have each reason."
    ]
