"""The page of the paper's story with our times: which way is fastest on its links, and what makes it so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.latency.host import describe_host, installed_versions
from benchmarks.selection.selector import INPUT, OUTPUT, Candidate, select
from benchmarks.selection.terms import Terms, is_split, terms_of
from benchmarks.studies.markdown import NOTHING, filled, provenance, table
from benchmarks.studies.paper.published import ORIGINAL, STEP1
from benchmarks.studies.paper.two_step_cells import Cell, Measured

SLOWDOWN = 5.0
LINKS_BPS = {"3G": 1.1e6, "4G": 5.85e6, "WiFi": 18.88e6}
# Claimed by Shi et al. 2019 for a run that was not published.
CLAIMED = {"transmission": 25.6, "computation": 6.01, "end to end": 4.81}
# BBNet's sweep (Zhou et al. 2021): uplinks from 100 to 3500 kbit/s.
SWEEP_BPS = tuple(1000.0 * kbps for kbps in (100, 300, 500, 700, 900, 1100, 1300, 1500, 2500, 3500))
FAMILIES = ("original", "step 1", "steps 1 and 2")
_COMMAND = "python -m benchmarks.studies.paper.two_step --output docs/paper_two_step.md"
_NO_BOUND = 100.0


@dataclass(frozen=True)
class Choice:
    """The fastest way of one family of networks on one link, and what its latency consists of."""

    link: str
    family: str
    candidate: Candidate
    terms: Terms


def candidates_of(measured: Measured, picture_bytes: int, family: str, slowdown: float = SLOWDOWN) -> list[Candidate]:
    """Return the ways to run the networks of a family: all on the edge, all on the device, and every cut.

    As in the paper, a network of step 2 is cut where it was made narrow, and not run uncut. Accuracies play no part:
    the weights are random.
    """
    found = []
    for network in measured.whole_ms:
        step = network if network in (ORIGINAL.name, STEP1.name) else "step 2"
        if step not in {"original": (ORIGINAL.name,), "step 1": (STEP1.name,)}.get(family, (STEP1.name, "step 2")):
            continue
        if step != "step 2":
            whole_ms = measured.whole_ms[network]
            found.append(Candidate(network, INPUT, "raw", float(picture_bytes), 0.0, whole_ms, 1.0, 0.0))
            found.append(Candidate(network, OUTPUT, "nothing", 0.0, slowdown * whole_ms, 0.0, 1.0, 0.0))
        found += [
            Candidate(
                network, cell.layer, "8-bit", float(cell.payload_bytes), slowdown * cell.before_ms, cell.after_ms,
                1.0, 0.0,
            )
            for cell in measured.cells_of(network)
        ]  # fmt: skip
    return found


def choices(measured: Measured, picture_bytes: int) -> list[Choice]:
    """Return the fastest way of every family on every link; the links in order, in each the families."""
    found = []
    for link, goodput_bps in LINKS_BPS.items():
        for family in FAMILIES:
            selection = select(candidates_of(measured, picture_bytes, family), {link: goodput_bps}, _NO_BOUND)
            candidate = selection.candidates[selection.links[0].candidate]
            found.append(Choice(link, family, candidate, terms_of(candidate, goodput_bps)))
    return found


def page(measured: Measured, picture_bytes: int) -> str:
    """Return the page. `picture_bytes`: of the image as it is sent uncut."""
    found = choices(measured, picture_bytes)
    blocks = (
        "# The two-step paper, with our times",
        filled(
            "VGG-16 for 32x32 images with the published widths of step 1 and of every network of step 2 (Shi et al. "
            "2019; [widths](shrink_published_widths.md)), random weights, exported, cut after every convolution and "
            f"pool, and timed in ONNX Runtime on one thread: medians of {measured.rounds} interleaved rounds, in each "
            f"of which a part runs {measured.runs} times in a row and the last third counts, as on a machine that runs "
            f"nothing else. The device is taken to be {SLOWDOWN:g} times slower, as in the paper. A feature is sent as "
            "8 bits for each element, without entropy coding, as in the published logs, in a message of ours; the "
            f"image as {picture_bytes:,} bytes. Latency = device + link + edge; protocol bytes and round trips are not "
            "counted, as in the paper. "
            "Accuracies play no part here: these networks are not trained."
        ),
        provenance(describe_host(), installed_versions(("onnxruntime", "numpy")), _COMMAND),
        "## The fastest way",
        choice_table(found),
        "## Beside the paper's claims",
        claims_table(measured, found),
        "## What produces them",
        "\n".join(f"- {filled(line, '  ')}" for line in explanations(found)),
        "## Bytes and times by layer",
        layer_table(measured),
        filled(agreement(measured)),
        "## Over the uplink: no cut at all",
        filled(
            "The two lines that BBNet's sweep (Zhou et al. 2021, 100 to 3500 kbit/s) compares with, for the original: "
            "all on the device, and all on the edge with the raw image sent."
        ),
        sweep_table(measured, picture_bytes),
    )
    return "\n\n".join(blocks) + "\n"


def choice_table(found: Sequence[Choice]) -> str:
    """Return the fastest way of each family on each link, its terms, and how many times faster it is."""
    rows = []
    for choice in found:
        original = _of(found, choice.link, FAMILIES[0])
        rows.append(
            (
                f"{choice.link} ({LINKS_BPS[choice.link] / 1e6:g} Mbit/s)",
                choice.family,
                way(choice.candidate),
                f"{choice.candidate.payload_bytes:,.0f}",
                f"{choice.terms.device_ms:.2f}",
                f"{choice.terms.transmission_ms:.2f}",
                f"{choice.terms.edge_ms:.2f}",
                f"{choice.terms.total_ms:.2f}",
                f"{original.terms.total_ms / choice.terms.total_ms:.2f}x",
            )
        )
    header = ("link", "networks", "fastest", "bytes", "device ms", "link ms", "edge ms", "total ms", "faster")
    return table(header, rows, left=3)


def way(candidate: Candidate) -> str:
    """Return a candidate in words."""
    if candidate.layer == OUTPUT:
        return f"{candidate.variant}, all on the device"
    if candidate.layer == INPUT:
        return f"{candidate.variant}, all on the edge"
    return f"{candidate.variant}, cut after {candidate.layer}"


def claims_table(measured: Measured, found: Sequence[Choice]) -> str:
    """Return the paper's three ratios beside ours."""
    smaller = transmission_ratios(measured)
    layer, ratio = max(smaller.items(), key=lambda item: item[1])
    computation = measured.whole_ms[ORIGINAL.name] / measured.whole_ms[STEP1.name]
    rows = [
        ("fewer bytes at the same cut, at most", f"{CLAIMED['transmission']}x", f"{ratio:.1f}x after {layer}"),
        ("whole network, original over step 1", f"{CLAIMED['computation']}x", f"{computation:.2f}x"),
    ]
    for link in LINKS_BPS:
        gain = _of(found, link, FAMILIES[0]).terms.total_ms / _of(found, link, FAMILIES[2]).terms.total_ms
        claimed = f"{CLAIMED['end to end']}x, at most" if link == list(LINKS_BPS)[-1] else NOTHING
        rows.append((f"end to end, {link}", claimed, f"{gain:.2f}x"))
    return table(("ratio", "paper", "here"), rows)


def transmission_ratios(measured: Measured) -> dict[str, float]:
    """Return how many times fewer elements cross in step 2 than in the original, by layer."""
    original = {cell.layer: cell.elements for cell in measured.cells_of(ORIGINAL.name)}
    narrow = {cell.layer: cell.elements for cell in measured.cells if cell.network not in (ORIGINAL.name, STEP1.name)}
    return {layer: original[layer] / elements for layer, elements in narrow.items()}


def explanations(found: Sequence[Choice]) -> list[str]:
    """Return for each link what the gain of pruning consists of, and what of it is step 2's."""
    lines = []
    for link in LINKS_BPS:
        original, step1, both = (_of(found, link, family) for family in FAMILIES)
        before, after = original.terms, both.terms
        changes = ", ".join(
            f"{abs(less):.2f} ms {'less' if less > 0 else 'more'} {where}"
            for less, where in (
                (before.device_ms - after.device_ms, "on the device"),
                (before.transmission_ms - after.transmission_ms, "on the link"),
                (before.edge_ms - after.edge_ms, "on the edge"),
            )
            if less
        )
        text = (
            f"{link}: {original.terms.total_ms:.2f} ms ({way(original.candidate)}) become {both.terms.total_ms:.2f} "
            f"({way(both.candidate)}): {changes}. Step 2 adds "
            f"{step1.terms.total_ms / both.terms.total_ms:.2f}x to step 1's "
            f"{original.terms.total_ms / step1.terms.total_ms:.2f}x."
        )
        if not is_split(both.candidate):
            text += " The pruned network is not cut here: the gain is that of a smaller network, not of cooperation."
        lines.append(text)
    return lines


def layer_table(measured: Measured) -> str:
    """Return the published figure as a table: bytes at each cut, and time up to it here, for all three."""
    rows = []
    narrow = {cell.layer: cell for cell in measured.cells if cell.network not in (ORIGINAL.name, STEP1.name)}
    step1 = {cell.layer: cell for cell in measured.cells_of(STEP1.name)}
    for cell in measured.cells_of(ORIGINAL.name):
        three = (cell, step1[cell.layer], narrow[cell.layer])
        rows.append((cell.layer, *(f"{one.payload_bytes:,}" for one in three), *map(_times, three)))
    header = ("cut after", *(f"bytes, {name}" for name in _SHORT), *(f"head + tail ms, {name}" for name in _SHORT))
    return table(header, rows)


def agreement(measured: Measured) -> str:
    """Return how far the halves together are from the whole, and what that says of the ratios."""
    found = []
    for network in (ORIGINAL.name, STEP1.name):
        whole_ms = measured.whole_ms[network]
        shares = [(cell.head_ms + cell.tail_ms) / whole_ms for cell in measured.cells_of(network)]
        found.append(f"{network}: {min(shares):.2f} to {max(shares):.2f} times its {whole_ms:.2f} ms")
    return (
        f"Head and tail together take, of the {found[0]}; of {found[1]}. The original reads 56 MiB of weights for each "
        "image, and where they lie in memory and what neighbours read move its times by as much; ratios to it are no "
        "surer than that."
    )


_SHORT = ("original", "step 1", "step 2")


def _times(cell: Cell) -> str:
    return f"{cell.before_ms:.3f} + {cell.after_ms:.3f}"


def sweep_table(measured: Measured, picture_bytes: int) -> str:
    """Return device-only and cloud-only latencies of the original over BBNet's uplinks."""
    rows = []
    ways = [item for item in candidates_of(measured, picture_bytes, FAMILIES[0]) if not is_split(item)]
    edge, device = sorted(ways, key=lambda item: item.layer == OUTPUT)
    for goodput_bps in SWEEP_BPS:
        totals = [terms_of(item, goodput_bps).total_ms for item in (device, edge)]
        rows.append((f"{goodput_bps / 1000:g}", *(f"{total:.2f}" for total in totals)))
    return table(("kbit/s", "device only ms", "cloud only ms"), rows)


def _of(found: Sequence[Choice], link: str, family: str) -> Choice:
    return next(choice for choice in found if (choice.link, choice.family) == (link, family))
