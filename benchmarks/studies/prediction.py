"""How well times are predicted: `python -m benchmarks.studies.prediction PROJECT`.

Takes the latency table of a project that was split and measured, predicts every measured head, tail and whole network
from the cells of all other cuts, and says how far that is from what was measured; then the same from few cuts, drawn
at random. Nothing is measured anew. Without `--output` the page is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.latency.table import TABLE_FILE, latest
from benchmarks.prediction.nnls import Floats
from benchmarks.prediction.predict import measured_cells, times_of
from benchmarks.prediction.project_cells import project_cells, rows_of_today
from benchmarks.prediction.regression import Measured, fit, leave_one_cut_out
from benchmarks.studies.markdown import NOTHING, filled, table
from benchmarks.studies.page_command import deliver, page_parser
from engines.building.build_items import WHOLE
from exporter.project.settings import Project, load_project
from jetson.errors import InputError

_PARTS = ("head", "tail", WHOLE)
_FEW_CUTS = (3, 4, 6, 8, 12)
_DRAWS = 50


def measured_of(project: Project, target: str) -> list[Measured]:
    """Return the measured cells of a project on a target; raises CoopexportError when there is no table."""
    cells = project_cells(project)
    rows = [row for row in latest(project.output / TABLE_FILE) if row.target == target and row.part in _PARTS]
    return measured_cells(cells, times_of(rows_of_today(rows, cells)))


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


def page(name: str, target: str, cells: Sequence[Measured]) -> str:
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
        ]
    )


def _part_rows(cells: Sequence[Measured], errors: Floats) -> list[list[str]]:
    rows = []
    for part in _PARTS:
        known = [
            (abs(error), cell, error)
            for cell, error in zip(cells, errors.tolist(), strict=True)
            if cell.part == part and np.isfinite(error)
        ]
        if not known:
            rows.append([part, "0", NOTHING, NOTHING, NOTHING])
            continue
        worst = max(known, key=lambda item: item[0])
        sizes = [size for size, _, _ in known]
        where = f"{worst[1].cut}, {worst[1].ms:.3f} ms, predicted {worst[2]:+.0%}"
        rows.append([part, str(len(known)), _percent(np.median(sizes)), _percent(max(sizes)), where])
    return rows


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
        return page(project.settings.model.name, options.target, measured_of(project, options.target))

    return deliver(make_page, options.output)


if __name__ == "__main__":
    sys.exit(main())
