"""The page on codecs: what was measured, and whether the bounds hold, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.studies.codecs_page.benchmark_cases import FITTING_IMAGES, PERCENTILES
from benchmarks.studies.codecs_page.bounds import Bound, bounds, front
from benchmarks.studies.codecs_page.measure import Case, Measured, NotMeasured
from benchmarks.studies.codecs_page.network import NetworkRecipe
from benchmarks.studies.markdown import NOTHING, filled, holds, provenance, table

CROSS_ENTROPY = """*Cross-entropy*: of the held-out symbols under the static order-0 model, in bytes per sample."""
BYTES_AND_TIMES = """Bytes per sample, and microseconds to encode and to decode: medians over the samples, all coders
interleaved in one process. First calls do not count; everything that was decoded was compared with what went in. Of
this project the whole message counts, header and checksum included; of the others only what they give. Compressors of
bytes got plain symbols and, below 8 bits, packed ones (packing is timed). Image formats got the channels as tiles of
one grey picture, PNG also as a palette picture. The smaller form is shown. **Bold**: on the Pareto front of bytes and
time."""


@dataclass(frozen=True)
class Results:
    """All that one run has measured. `versions`: of every tool; `rans`: which implementation runs by default."""

    host: Mapping[str, Any]
    versions: Mapping[str, str]
    rans: str
    recipe: NetworkRecipe
    samples: int
    cases: tuple[Case, ...]


def page(results: Results) -> str:
    """Return the whole page, as Markdown."""
    percentiles = ", ".join(f"{percentile} at {bits} bits" for bits, percentile in PERCENTILES.items())
    recipe = results.recipe
    command = "python -m benchmarks.studies.codecs --output docs/codecs.md"
    blocks = [
        "# Codecs on real features, side by side",
        provenance(results.host, {**results.versions, "rANS here by default:": results.rans}, command),
        filled(
            f"VGG-16 with batch norm, {recipe.widths[0]} to {recipe.widths[-1]} filters, trained for {recipe.epochs} "
            f"epochs on {recipe.train_count:,} of the demo's images (32x32). Features behind five cuts are quantised "
            f"per channel from 0 to a percentile of the channel's values over {FITTING_IMAGES:,} training images "
            f"({percentiles}); symbol models are fitted on the same images. All coders code {results.samples} held-out "
            f"images, one by one. Top-1 is of all {recipe.evaluation_count} held-out images, with the symbols decoded "
            "at the cut."
        ),
        filled(CROSS_ENTROPY),
        _case_table(results.cases),
        "## Bounds",
        bound_table(bounds(results.cases)),
        "## Bytes and times",
        filled(BYTES_AND_TIMES),
    ]
    for cut in dict.fromkeys(case.depth.cut for case in results.cases):
        of_cut = [case for case in results.cases if case.depth.cut == cut]
        blocks += [f"### {cut}: {of_cut[0].symbols_per_sample:,} symbols", _coder_table(of_cut)]
    reasons = dict.fromkeys(
        (row.coder, row.reason) for case in results.cases for row in case.rows if isinstance(row, NotMeasured)
    )
    if reasons:
        blocks += ["## Not measured", table(("coder", "reason"), reasons, left=2)]
    return "\n\n".join(blocks) + "\n"


def bound_table(found: Sequence[Bound]) -> str:
    """Return one row per bound: on how many cases it was judged, which of them miss it, and whether it holds."""
    rows = [(one.text, f"{len(one.cases)}", "; ".join(one.missed) or NOTHING, holds(one.holds)) for one in found]
    return table(("bound", "cases", "missed on", "holds"), rows, words=("missed on", "holds"))


def _case_table(cases: Sequence[Case]) -> str:
    rows = []
    for case in cases:
        ideal = sum(case.cross_entropies_bytes) / len(case.cross_entropies_bytes)
        rows.append(
            (case.depth.cut, f"{case.symbols_per_sample:,}", f"{case.bits}", f"{ideal:,.1f}", f"{case.context_count}",
             f"{case.top1:.1%}", f"{case.reference_top1:.1%}")
        )  # fmt: skip
    return table(("cut", "symbols", "bits", "cross-entropy", "contexts", "top-1", "top-1 uncoded"), rows)


def _coder_table(cases: Sequence[Case]) -> str:
    names = dict.fromkeys(row.coder for case in cases for row in case.rows)
    header = ["coder", *(cell for case in cases for cell in (f"{case.bits} bits: bytes", "encode / decode us"))]
    return table(header, [(name, *(cell for case in cases for cell in _cells(case, name))) for name in names])


def _cells(case: Case, name: str) -> tuple[str, str]:
    row: Measured | None = next((row for row in case.measured if row.coder == name), None)
    if row is None:
        missing = next((row for row in case.rows if isinstance(row, NotMeasured) and row.coder == name), None)
        return ("not installed" if missing and missing.reason == "not installed" else "failed"), NOTHING
    size = f"{row.mean_bytes:,.0f}"
    return (f"**{size}**" if row in front(case) else size), f"{_us(row.encode_us)} / {_us(row.decode_us)}"


def _us(microseconds: float) -> str:
    return f"{microseconds:,.1f}" if microseconds < 10 else f"{microseconds:,.0f}"
