"""The sentences of the report: what was chosen, what it gains, from which term, and on what all of it rests."""

from __future__ import annotations

import itertools
from dataclasses import replace

from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import INPUT, LinkChoice, Selection, describe, select
from benchmarks.selection.terms import Entry, best, compared, is_split
from exporter.variants.layer_graphs import ORIGINAL

# Below this gain a choice is a tie: medians of separate runs on a shared machine differ by as much.
TIE_PERCENT = 5.0
# How near, as a fraction, a link's goodput may lie to a switch point before the report warns.
NEAR_SWITCH_POINT = 0.1
SLOWDOWNS = (1.0, 2.0, 5.0, 10.0, 20.0)


def link_name(choice: LinkChoice) -> str:
    """Return a link and its goodput, for example `4G (5.85 Mbit/s)`."""
    return f"{choice.link} ({choice.goodput_bps / 1e6:g} Mbit/s)"


def summary(result: ProjectSelection) -> str:
    """Return the first paragraph: on which links splitting pays, how much, and what that assumes."""
    pays: list[str] = []
    ties: list[str] = []
    nothing: dict[str, list[str]] = {}
    for choice in result.selection.links:
        entries = compared(result.selection, choice)
        chosen, unsplit = entries[-1], best(entries, split=False)
        if not is_split(chosen.candidate):
            machine = "edge" if chosen.candidate.layer == INPUT else "device"
            nothing.setdefault(machine, []).append(link_name(choice))
        elif unsplit is None:
            pays.append(f"{link_name(choice)}, where nothing without a split keeps the accuracy bound")
        else:
            of_which = ties if _is_tie(unsplit, chosen) else pays
            of_which.append(f"{link_name(choice)}, {_times(unsplit, chosen)} the best candidate without a split")
    sentences = [f"Splitting pays on {'; on '.join(pays)}."] if pays else []
    if ties:
        sentences.append(f"It is no more than a tie on {'; on '.join(ties)}.")
    for machine, links in nothing.items():
        sentences.append(f"Splitting gains nothing on {_and(links)}: everything runs on the {machine}.")
    sentences.append(
        f"Networks may lose at most {_points(result.settings.maximum_loss_points)} of {result.metric} against "
        f"{100 * result.reference:.2f} of the unpruned one. All of it assumes a device that is "
        f"{result.settings.device_slowdown:g} times slower than the machine that was measured; no device was measured."
    )
    return " ".join(sentences)


def link_sentences(result: ProjectSelection, choice: LinkChoice) -> list[str]:
    """Return what was chosen on one link, against which baselines, and by which term it gains."""
    entries = compared(result.selection, choice)
    chosen = entries[-1]
    unsplit = best(entries, split=False)
    sentences = [f"On {link_name(choice)}: {describe(chosen.candidate)}, {chosen.terms.total_ms:.3f} ms."]
    if not is_split(chosen.candidate):
        sentences.append(_nothing_gained(chosen, best(entries, split=True)))
    elif unsplit is None:
        sentences.append("No candidate without a split keeps the accuracy bound, so there is none to compare with.")
    else:
        sentences.append(_gain("the best candidate without a split", unsplit, chosen))
    sentences.append(_against_unpruned(entries, chosen, unsplit))
    faster = [e for e in entries if e.candidate.reason and e.terms.total_ms < chosen.terms.total_ms]
    if faster:
        entry = min(faster, key=lambda item: item.terms.total_ms)
        sentences.append(
            f"Faster, but left out: {describe(entry.candidate)}, {entry.terms.total_ms:.3f} ms "
            f"({entry.candidate.reason})."
        )
    return sentences + _near_switch_points(result.selection, choice)


def _nothing_gained(chosen: Entry, split: Entry | None) -> str:
    machine = "the edge (full offload)" if chosen.candidate.layer == INPUT else "the device"
    text = f"Splitting gains nothing on this link: everything runs on {machine}"
    if split is None:
        return f"{text}; no split is left to choose."
    slower_ms = split.terms.total_ms - chosen.terms.total_ms
    tie = ", a tie" if _is_tie(split, chosen) else ""
    return f"{text}; the best split, {describe(split.candidate)}, takes {slower_ms:.3f} ms more{tie}."


def _against_unpruned(entries: list[Entry], chosen: Entry, compared_already: Entry | None) -> str:
    """Return what the choice gains over the best unpruned candidate, split or not."""
    variants = {entry.candidate.variant for entry in entries}
    if variants == {ORIGINAL}:
        return "There is no pruned network to compare with."
    if chosen.candidate.variant == ORIGINAL:
        return "The unpruned network is chosen: pruning gains nothing within the bound on this link."
    unpruned = best(entries, variant=ORIGINAL)
    if unpruned is None:
        return "No candidate of the unpruned network can be compared with."
    if compared_already is not None and unpruned.index == compared_already.index:
        return "That one is also the best candidate of the unpruned network."
    text = _gain("the best candidate of the unpruned network", unpruned, chosen)
    if chosen.candidate.layer == unpruned.candidate.layer and not is_split(chosen.candidate):
        how = "fully offloaded" if chosen.candidate.layer == INPUT else "on the device alone"
        same = chosen.candidate.coding == unpruned.candidate.coding
        text += f" Both run {how}: that gain is pruning{' alone' if same else ' and another coding of the image'}."
    return text


def _gain(baseline_name: str, baseline: Entry, chosen: Entry) -> str:
    """Return how much faster the choice is than a baseline, and which terms gain and which pay for it."""
    saved_ms = {
        "device computation": baseline.terms.device_ms - chosen.terms.device_ms,
        "transmission": baseline.terms.transmission_ms - chosen.terms.transmission_ms,
        "edge computation": baseline.terms.edge_ms - chosen.terms.edge_ms,
    }
    # What is rounded to zero has not changed.
    changed = sorted((item for item in saved_ms.items() if abs(item[1]) >= 0.0005), key=lambda item: -abs(item[1]))
    less = [f"{term} ({saved:.3f} ms less)" for term, saved in changed if saved > 0]
    more = [f"{term} ({-saved:.3f} ms more)" for term, saved in changed if saved < 0]
    text = (
        f"The choice is {_times(baseline, chosen)} {baseline_name} ({describe(baseline.candidate)}, "
        f"{baseline.terms.total_ms:.3f} ms)"
    )
    if less:
        text += f"; the gain comes from {' and '.join(less)}"
        text += f", against {' and '.join(more)}" if more else ""
    text += "."
    if _is_tie(baseline, chosen):
        text += f" That is less than {TIE_PERCENT:g} %: take it for a tie."
    return text


def _is_tie(slower: Entry, faster: Entry) -> bool:
    return faster.terms.total_ms > (1.0 - TIE_PERCENT / 100.0) * slower.terms.total_ms


def _and(names: list[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _points(value: float) -> str:
    return f"{value:g} point{'' if value == 1 else 's'}"


def _times(baseline: Entry, chosen: Entry) -> str:
    if chosen.terms.total_ms <= 0:
        return "faster than"
    return f"{baseline.terms.total_ms / chosen.terms.total_ms:.2f} times as fast as"


def _near_switch_points(selection: Selection, choice: LinkChoice) -> list[str]:
    """Return a warning for each goodput near the link's at which another candidate becomes best."""
    found = []
    for before, after in itertools.pairwise(selection.intervals):
        distance = choice.goodput_bps / after.from_bps - 1.0
        if abs(distance) < NEAR_SWITCH_POINT:
            other = before if distance >= 0 else after
            found.append(
                f"This goodput lies {100 * abs(distance):.1f} % {'above' if distance >= 0 else 'below'} a switch point "
                f"({after.from_bps / 1e6:.3f} Mbit/s): a small error in it makes the choice "
                f"{describe(selection.candidates[other.candidate])}, which costs almost the same here."
            )
    return found


def assumptions(result: ProjectSelection, hosts: list[str]) -> list[str]:
    """Return what the numbers rest on; `hosts`: the machines that the latency runs name."""
    where = " and ".join(hosts) if hosts else "a machine whose latency runs are not here"
    slowdown = result.settings.device_slowdown
    original = result.variants[0].whole.metric
    split_samples = sorted({split.metric.samples for item in result.variants for split in item.splits})
    samples = ", ".join(map(str, split_samples or [original.samples]))
    spreads = sorted(100.0 * row.cv for row in result.rows) or [0.0]
    return [
        f"device_slowdown = {slowdown:g} is assumed, not measured. No device was measured: every device time is a "
        f"median measured on {where}, target {result.target}, multiplied by {slowdown:g}.",
        f"Edge times are medians measured on {where}, target {result.target}.",
        "Parts were timed one by one and their medians added; the running pair was not timed here. Samples of one part "
        f"vary by {spreads[len(spreads) // 2]:.0f} % (coefficient of variation; half of the parts by less), at most "
        f"{spreads[-1]:.0f} %.",
        "Goodputs are those of the project file: delivered bits per second. Transmission is payload / goodput.",
        "Ignored: transmission of the result, round-trip time, queueing at the edge, energy.",
        f"{result.metric} was counted on {samples} images: one image is "
        f"{100 / max(1, min(split_samples or [original.samples])):.2f} points. Payloads are means over such images.",
    ]


def other_slowdowns(result: ProjectSelection) -> list[tuple[float, Selection]]:
    """Return the selection again for devices that are slower and faster than assumed."""
    assumed = result.settings.device_slowdown
    goodputs = {choice.link: choice.goodput_bps for choice in result.selection.links}
    found = []
    for slowdown in sorted({*SLOWDOWNS, assumed}):
        scaled = [
            candidate
            if candidate.device_ms is None
            else replace(candidate, device_ms=candidate.device_ms * slowdown / assumed)
            for candidate in result.selection.candidates
        ]
        found.append((slowdown, select(scaled, goodputs, result.settings.maximum_loss_points)))
    return found
