"""How well times are predicted: `python -m benchmarks.studies.prediction PROJECT`.

Takes the latency table of a project that was split and measured, predicts every measured head, tail, whole network,
encoding and decoding from the cells of all other cuts, and says how far that is from what was measured; then the same
from few cuts, drawn at random. Nothing is measured anew. Without `--output` the page is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.latency.bench_project import RUNS_FOLDER
from benchmarks.latency.table import TABLE_FILE, Latency, latest
from benchmarks.prediction.coding import (
    COLUMNS,
    CodingKind,
    MeasuredCoding,
    coding_errors,
    fit_coding,
    measured_coding,
)
from benchmarks.prediction.entropy_coders import entropy_coders
from benchmarks.prediction.nnls import Floats
from benchmarks.prediction.predict import Cell, measured_cells, times_of
from benchmarks.prediction.project_cells import project_cells, rows_of_today
from benchmarks.prediction.project_coding import coding_cells
from benchmarks.prediction.regression import Measured, fit, leave_one_cut_out
from benchmarks.studies.markdown import NOTHING, filled, table
from benchmarks.studies.page_command import deliver, page_parser
from engines.building.build_items import WHOLE
from exporter.project.settings import Project, load_project
from jetson.errors import InputError

_PARTS = ("head", "tail", WHOLE)
_FEW_CUTS = (3, 4, 6, 8, 12)
_DRAWS = 50


def measured_of(cells: Sequence[Cell], rows: Iterable[Latency]) -> list[Measured]:
    """Return the measured ones of a project's cells; `rows`: of one target."""
    own = [row for row in rows if row.part in _PARTS]
    return measured_cells(cells, times_of(rows_of_today(own, cells)))


def coding_of(
    project: Project, cells: Sequence[Cell], rows: Iterable[Latency]
) -> dict[CodingKind, list[MeasuredCoding]]:
    """Return the measured encodings and decodings at the cuts of `cells`; `rows`: of one target."""
    coding = coding_cells(project, cells)
    own = [row for row in rows if row.part in ("encode", "decode") and row.layer != WHOLE]
    coders = entropy_coders(project.output / RUNS_FOLDER, {row.run for row in own})
    return measured_coding(rows_of_today(own, coding), coding, coders)


def errors_from_few(cells: Sequence[Measured], cuts: int, draws: int = _DRAWS, seed: int = 0) -> Floats:
    """Return the sizes of all errors when cells are predicted from `cuts` cuts and the first whole network.

    `draws`: how often these cuts are drawn; draws that are too few to fit give no errors. float64.
    """
    generator = np.random.default_rng(seed)
    names = sorted({cell.cut for cell in cells if cell.part != WHOLE})
    first = next((cell for cell in cells if cell.part == WHOLE), None)
    found: list[float] = []
    for _ in range(draws):
        drawn = set(generator.choice(names, cuts, replace=False).tolist())
        known = [cell for cell in cells if cell.cut in drawn or cell is first]
        try:
            model = fit(known)
        except InputError:
            continue
        found += [
            abs(model.ms(cell.kernels) / cell.ms - 1.0)
            for cell in cells
            if cell.cut not in drawn and cell is not first and not model.missing(cell.kernels)
        ]
    return np.array(found, dtype=np.float64)


def coding_errors_from_few(
    cells: Sequence[MeasuredCoding], cuts: int, draws: int = _DRAWS, seed: int = 0
) -> Floats:  # fmt: skip
    """Return the sizes of all errors when encodings or decodings are predicted from those at `cuts` cuts; float64."""
    generator = np.random.default_rng(seed)
    names = sorted({cell.cut for cell in cells})
    found: list[float] = []
    for _ in range(draws):
        drawn = set(generator.choice(names, cuts, replace=False).tolist())
        try:
            model = fit_coding([cell for cell in cells if cell.cut in drawn])
        except InputError:
            continue
        found += [abs(model.ms(cell.work) / cell.ms - 1.0) for cell in cells if cell.cut not in drawn]
    return np.array(found, dtype=np.float64)


def page(
    name: str,
    target: str,
    cells: Sequence[Measured],
    coding: Mapping[CodingKind, Sequence[MeasuredCoding]] | None = None,
) -> str:
    """Return the errors of a project's cells as Markdown; raises CoopexportError when they are too few to predict."""
    model, errors = fit(cells), leave_one_cut_out(cells)
    cuts = {cell.cut for cell in cells if cell.part != WHOLE}
    coefficients = [
        [" and ".join(column.kinds) or "every call", column.quantity if column.kinds else "calls", _nanoseconds(value)]
        for column, value in zip(model.columns, model.coefficients, strict=True)
    ]
    few = [
        [str(count), _percent(np.median(sizes)), _percent(np.quantile(sizes, 0.9))]
        for count in _FEW_CUTS
        if count < len(cuts) and len(sizes := errors_from_few(cells, count))
    ]
    return "\n".join(
        [
            f"# Predicted times: {name}, {target}",
            "",
            filled(
                f"{len(cells)} measured cells at {len(cuts)} cuts. Each is predicted from the cells of all other cuts, "
                "of all variants; an error is the share of the measured time that the prediction is off by."
            ),
            "",
            table(["part", "cells", "median error", "worst error", "worst cell"], _part_rows(cells, errors)),
            "",
            "From few cuts, head and tail each, and one whole network:",
            "",
            table(["cuts measured", "median error", "nine of ten below"], few),
            "",
            "What the regression found on all cells:",
            "",
            table(["kind of kernel", "per", "ns"], coefficients, left=2),
            "",
            *(line for kind, measured in (coding or {}).items() for line in _coding(kind, measured)),
        ]
    )


def _coding(kind: CodingKind, cells: Sequence[MeasuredCoding]) -> list[str]:
    """Return how well one part of entropy coding is predicted, and what its regression found."""
    title = f"## {kind.part}, {kind.codec}" + (f", coder {kind.coder}" if kind.coder else "")
    try:
        model, errors = fit_coding(cells), coding_errors(cells)
    except InputError as error:
        return [title, "", filled(f"{error}."), ""]
    cuts = len({cell.cut for cell in cells})
    few = [
        [str(count), _percent(np.median(sizes)), _percent(np.quantile(sizes, 0.9))]
        for count in _FEW_CUTS
        if count < cuts and len(sizes := coding_errors_from_few(cells, count))
    ]
    of_part = [(kind.part, cell.cut, cell.ms) for cell in cells]
    fitted = [[name, _nanoseconds(value)] for name, value in zip(COLUMNS, model.coefficients.tolist(), strict=False)]
    return [
        title,
        "",
        table(["part", "cells", "median error", "worst error", "worst cell"], [_error_row(kind.part, of_part, errors)]),
        "",
        table(["cuts measured", "median error", "nine of ten below"], few),
        "",
        filled(f"Of the weights that ran before, {model.cache_bytes / 2**20:g} MiB count."),
        "",
        table(["per", "ns"], fitted, left=1),
        "",
    ]


def _part_rows(cells: Sequence[Measured], errors: Floats) -> list[list[str]]:
    of_cells = [(cell.part, cell.cut, cell.ms) for cell in cells]
    return [_error_row(part, of_cells, errors) for part in _PARTS]


def _error_row(part: str, cells: Sequence[tuple[str, str, float]], errors: Floats) -> list[str]:
    """Return a row of the errors of one part; `cells`: part, cut and measured milliseconds of each."""
    known = [
        (abs(error), cut, ms, error)
        for (of_part, cut, ms), error in zip(cells, errors.tolist(), strict=True)
        if of_part == part and np.isfinite(error)
    ]
    if not known:
        return [part, "0", NOTHING, NOTHING, NOTHING]
    _, cut, ms, error = max(known)
    sizes = [size for size, *_ in known]
    return [
        part, str(len(known)), _percent(np.median(sizes)), _percent(max(sizes)),
        f"{cut}, {ms:.3f} ms, predicted {error:+.0%}",
    ]  # fmt: skip


def _percent(share: float | np.floating) -> str:
    return f"{100 * float(share):.1f} %"


def _nanoseconds(value_ms: float) -> str:
    return f"{value_ms * 1e6:.4g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code."""
    parser = page_parser(__doc__, "prediction.md")
    parser.add_argument("project", type=Path, help="a project's folder or its coopexport.toml")
    parser.add_argument("--target", default="cpu", help="whose times")
    options = parser.parse_args(arguments)

    def make_page() -> str:
        file = options.project / "coopexport.toml" if options.project.is_dir() else options.project
        project = load_project(file)
        cells = project_cells(project)
        rows = [row for row in latest(project.output / TABLE_FILE) if row.target == options.target]
        measured, coding = measured_of(cells, rows), coding_of(project, cells, rows)
        return page(project.settings.model.name, options.target, measured, coding)

    return deliver(make_page, options.output)


if __name__ == "__main__":
    sys.exit(main())
