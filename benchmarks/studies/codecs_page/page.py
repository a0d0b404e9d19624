"""The page on codecs: what was measured, as tables, with what it shows."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.studies.codecs_page.findings import findings, front
from benchmarks.studies.codecs_page.measure import Case, Measured, NotMeasured
from benchmarks.studies.codecs_page.network import NetworkRecipe
from benchmarks.studies.codecs_page.subjects import FITTING_IMAGES, PERCENTILES

_WIDTH = 120
_DASH = "–"


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
    host = results.host
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    percentiles = ", ".join(f"{percentile} at {bits} bits" for bits, percentile in PERCENTILES.items())
    recipe = results.recipe
    blocks = [
        "# Codecs on real features, side by side",
        _wrap(
            f"{versions}; Python {host['python']}, one thread of {host['processor']} ({host['system']}; load average "
            f"at the start {host['load_average']}); rANS here by default: {results.rans}. Written by "
            "`python -m benchmarks.studies.codecs --output docs/codecs.md`."
        ),
        _wrap(
            f"VGG-16 with batch norm, {recipe.widths[0]} to {recipe.widths[-1]} filters, trained for {recipe.epochs} "
            f"epochs on {recipe.train_count:,} of the demo's images (32x32). Features behind five cuts, quantised "
            f"per channel from 0 to a percentile of the channel's values over {FITTING_IMAGES:,} training images "
            f"({percentiles}); symbol models are fitted on the same images. What is coded are {results.samples} "
            f"held-out images, one by one; top-1 is of all {recipe.evaluation_count} held-out images, with the symbols "
            "decoded at the cut. *Cross-entropy*: of the held-out symbols under the static order-0 model, in bytes per "
            "sample."
        ),
        _subject_table(results.cases),
        "## What it shows",
        "\n".join(_wrap(f"{number}. {said}", "   ") for number, said in enumerate(findings(results.cases), start=1)),
        "## Bytes and times",
        _wrap(
            "Bytes per sample, and microseconds to encode and to decode: medians over the samples, all coders "
            "interleaved in one process, first calls left out, everything checked to come back. Of this "
            "project the whole message counts, header and checksum included; of the others only what they give. "
            "Compressors of bytes got plain symbols and, below 8 bits, packed ones (packing timed); image formats got "
            "the channels as tiles of one grey picture, PNG also as a palette picture: the smaller form is shown. "
            "**Bold**: on the Pareto front of bytes "
            "and time."
        ),
    ]
    for cut in dict.fromkeys(case.depth.cut for case in results.cases):
        of_cut = [case for case in results.cases if case.depth.cut == cut]
        blocks += [f"### {cut}: {of_cut[0].symbols_per_sample:,} symbols", _coder_table(of_cut)]
    reasons = dict.fromkeys(
        f"{row.coder}: {row.reason}" for case in results.cases for row in case.rows if isinstance(row, NotMeasured)
    )
    if reasons:
        blocks += ["Not measured:", "\n".join(f"- {reason}" for reason in reasons)]
    return "\n\n".join(blocks) + "\n"


def _subject_table(cases: Sequence[Case]) -> str:
    lines = [
        "| cut | symbols | bits | cross-entropy | contexts | top-1 | top-1 uncoded |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for case in cases:
        ideal = sum(case.cross_entropies_bytes) / len(case.cross_entropies_bytes)
        lines.append(
            f"| {case.depth.cut} | {case.symbols_per_sample:,} | {case.bits} | {ideal:,.1f} | {case.context_count} | "
            f"{case.top1:.1%} | {case.reference_top1:.1%} |"
        )
    return "\n".join(lines)


def _coder_table(cases: Sequence[Case]) -> str:
    names = dict.fromkeys(row.coder for case in cases for row in case.rows)
    lines = [
        "| coder | " + " | ".join(f"{case.bits} bits: bytes | encode / decode us" for case in cases) + " |",
        "| --- |" + " ---: | ---: |" * len(cases),
    ]
    for name in names:
        cells = [cell for case in cases for cell in _cells(case, name)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cells(case: Case, name: str) -> tuple[str, str]:
    row: Measured | None = next((row for row in case.measured if row.coder == name), None)
    if row is None:
        missing = next((row for row in case.rows if isinstance(row, NotMeasured) and row.coder == name), None)
        return ("not installed" if missing and missing.reason == "not installed" else "failed"), _DASH
    size = f"{row.mean_bytes:,.0f}"
    return (f"**{size}**" if row in front(case) else size), f"{_us(row.encode_us)} / {_us(row.decode_us)}"


def _us(microseconds: float) -> str:
    return f"{microseconds:,.1f}" if microseconds < 10 else f"{microseconds:,.0f}"


def _wrap(text: str, indent: str = "") -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
