"""The page of where splitting pays: what crosses, what was measured, and which way is fastest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.figures.ways import way_of
from benchmarks.latency.host import describe_host
from benchmarks.links.wire import FRAMINGS
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.selector import INPUT, Candidate
from benchmarks.studies.markdown import NOTHING, filled, table
from benchmarks.studies.splitting.regions import Fastest, fastest
from exporter.layers.candidates import Layer
from exporter.layers.names import find_layer
from exporter.variants.plans import ORIGINAL
from jetson.stream.packets import SEGMENT_HEADER_BYTES

SLOWDOWNS = (2.0, 5.0, 10.0, 20.0, 50.0)
GOODPUTS_BPS = (0.1e6, 0.2e6, 0.5e6, 1.1e6, 2e6, 5.85e6, 10e6, 18.88e6, 50e6, 100e6)
SHOWN_SLOWDOWN = 5.0
FIGURE = "images/where_splitting_pays.svg"  # beside the page
COMMAND = "python -m benchmarks.studies.where_splitting_pays --output docs/where_splitting_pays.md"


def page(result: ProjectSelection, layers: Mapping[str, Sequence[Layer]], images: str) -> str:
    """Return the page. `layers`: of each variant's graph; `images`: what the network was trained on, in words."""
    original = next(files for files in result.variants if files.variant == ORIGINAL)
    macs = sum(layer.macs for layer in layers[original.variant])
    host = describe_host()
    introduction = (
        f"A VGG-16 with a strided stem, {macs / 1e6:.0f} million MACs, trained on {images}; "
        f"{result.metric} {100 * result.reference:.2f} % of {original.whole.metric.samples} held-out images. Every "
        "number comes from what was exported: payloads are whole messages of the held-out images, accuracies those of "
        "the exported pairs, times medians of interleaved rounds on one thread here. The device is taken to be `s` "
        f"times slower. All that is compared loses at most {result.settings.maximum_loss_points:g} point. "
        f"Written by `{COMMAND}` ({host['processor']})."
    )
    framing = FRAMINGS["framed"]
    protocol = (
        f"Where anything crosses, the request and the reply each carry {framing.request_bytes} bytes of framing and "
        f"{SEGMENT_HEADER_BYTES} of TCP and IP for each segment, and the reply the network's outputs. Delay of the "
        "link is not counted: it is the same for edge and split, and nothing for the device."
    )
    blocks = (
        "# Where splitting pays",
        filled(introduction),
        filled(protocol),
        f"![Where device, edge or split is fastest]({FIGURE})",
        "## What crosses",
        crossing_table(result, layers),
        "## What was measured",
        times_table(result),
        "## With bottlenecks",
        filled(
            "The fastest way, and how many times faster the best split is than the better of all on the device and all "
            "on the edge, the image sent raw, as JPEG or as WebP, at the lowest quality within the bound."
        ),
        regions_table(result, bottlenecks=True),
        "## Without",
        filled("The same without bottlenecks: what crosses is the feature itself, at any of the cuts above."),
        regions_table(result, bottlenecks=False),
        "## What follows",
        "\n".join(f"- {filled(line, '  ')}" for line in conclusions(result)),
    )
    return "\n\n".join(blocks) + "\n"


def crossing_table(result: ProjectSelection, layers: Mapping[str, Sequence[Layer]]) -> str:
    """Return one row for each picture and each cut: work before it, bytes, accuracy, and bytes against pictures."""
    picture = best_picture_bytes(result)
    rows = []
    for candidate in result.selection.candidates:
        if way_of(candidate) == "device" or (candidate.layer == INPUT and candidate.variant != ORIGINAL):
            continue
        share = NOTHING if candidate.layer == INPUT else f"{100 * work_before(candidate, layers):.1f} %"
        fewer = 100 * (1 - candidate.payload_bytes / picture)
        rows.append(
            (
                candidate.variant if candidate.layer != INPUT else "picture",
                NOTHING if candidate.layer == INPUT else candidate.layer,
                candidate.coding,
                share,
                f"{candidate.payload_bytes:,.1f}",
                f"{100 * candidate.metric:.2f}",
                f"{candidate.loss_points:.2f}",
                f"{fewer:.1f} %" if fewer > 0 else NOTHING,
            )
        )
    columns = ("network", "cut", "coding", "work before", "bytes", "top1 %", "points lost", "fewer than a picture")
    return table(columns, rows, left=3)


def best_picture_bytes(result: ProjectSelection) -> float:
    """Return the bytes of the smaller of JPEG and WebP for the network without a bottleneck, within the bound."""
    pictures = [
        one
        for one in result.selection.candidates
        if one.layer == INPUT and one.variant == ORIGINAL and not one.coding.startswith("raw") and not one.reason
    ]
    return min(one.payload_bytes for one in pictures)


def work_before(candidate: Candidate, layers: Mapping[str, Sequence[Layer]]) -> float:
    """Return the share of a variant's MACs that its head does."""
    own = layers[candidate.variant]
    return find_layer(own, candidate.layer).macs_before / sum(layer.macs for layer in own)


def times_table(result: ProjectSelection) -> str:
    """Return the medians that the maps are made of, in milliseconds, here."""
    splits = {(files.variant, split.layer): split for files in result.variants for split in files.splits}
    shown = [key for key in splits if key[0] != ORIGINAL]
    shown += [key for key in splits if key[0] == ORIGINAL and key[1] in ("pool1", "pool3", "pool5")]
    rows = []
    for variant, layer in shown:
        parts = {row.part: row.p50_ms for row in result.rows if (row.variant, row.layer) == (variant, layer)}
        rows.append((variant, layer, *(f"{parts[part]:.3f}" for part in ("head", "encode", "decode", "tail")), NOTHING))
    whole = [row for row in result.rows if row.variant == ORIGINAL and row.layer == "whole"]
    plain = {row.part: row.p50_ms for row in whole if not row.codec}
    rows.append(("original", "none", *(NOTHING,) * 4, f"{plain['whole']:.3f}"))
    for codec in ("jpeg", "webp"):
        parts = {row.part: row.p50_ms for row in whole if row.codec == codec}
        if parts:
            coding = (f"{parts['encode']:.3f}", f"{parts['decode']:.3f}")
            rows.append((codec, "picture", NOTHING, *coding, NOTHING, NOTHING))
    text = table(("network", "cut", "head ms", "encode ms", "decode ms", "tail ms", "whole ms"), rows, left=2)
    return text + "\n\n" + filled(f"Preprocessing takes {plain['preprocess']:.3f} ms more, wherever it runs.")


def at(result: ProjectSelection, slowdown: float, goodput_bps: float, bottlenecks: bool) -> Fastest:
    """Return the fastest ways at one point of the map."""
    return fastest(
        result.selection.candidates, result.settings.device_slowdown, slowdown, goodput_bps,
        lambda one: bottlenecks or one.variant == ORIGINAL,
    )  # fmt: skip


def regions_table(result: ProjectSelection, bottlenecks: bool) -> str:
    """Return the map: one row per goodput, one column per slowdown."""
    rows = []
    for goodput in GOODPUTS_BPS:
        cells = [f"{goodput / 1e6:g}{_link(result, goodput)}"]
        for slowdown in SLOWDOWNS:
            found = at(result, slowdown, goodput, bottlenecks)
            text = f"{found.way} {found.gain:.2f}x"
            cells.append(f"**{text}**" if found.way == "split" else text)
        rows.append(cells)
    return table(("Mbit/s", *(f"s = {slowdown:g}" for slowdown in SLOWDOWNS)), rows)


def conclusions(result: ProjectSelection) -> tuple[str, ...]:
    """Return what the maps say, in sentences."""
    found = []
    for link, goodput in result.settings.goodput_bps.items():
        best = at(result, SHOWN_SLOWDOWN, goodput, bottlenecks=True)
        assert best.split is not None
        found.append(
            f"s = {SHOWN_SLOWDOWN:g}, {link} ({goodput / 1e6:g} Mbit/s): the split behind `{best.split.layer}` of "
            f"{best.split.variant} takes {best.split_ms:.2f} ms, the best without a cut ({way_of(best.competitor)}, "
            f"{best.competitor.variant}) {best.competitor_ms:.2f}: {best.gain:.2f}x."
        )
    points = [(slowdown, goodput) for slowdown in SLOWDOWNS for goodput in GOODPUTS_BPS]
    with_them = {point for point in points if at(result, *point, bottlenecks=True).way == "split"}
    without = {point for point in points if at(result, *point, bottlenecks=False).way == "split"}
    found.append(
        f"Of {len(points)} points of the map a split is fastest at {len(with_them)} with bottlenecks and at "
        f"{len(without)} without; at {len(with_them - without)} only with them."
    )
    return tuple(found)


def _link(result: ProjectSelection, goodput_bps: float) -> str:
    names = [name for name, value in result.settings.goodput_bps.items() if value == goodput_bps]
    return f" ({names[0]})" if names else ""
