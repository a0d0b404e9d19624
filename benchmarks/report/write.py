"""The report: what was selected and why, what it is compared with, and how far the numbers can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.figures.gains_figure import gains_figure
from benchmarks.figures.goodput_figure import goodput_figure
from benchmarks.figures.layers_figure import layers_figure
from benchmarks.figures.links_figure import links_figure
from benchmarks.figures.pareto_figure import pareto_figure
from benchmarks.figures.report_figure import ReportFigure, drawn
from benchmarks.figures.ways_figure import ways_figure
from benchmarks.prediction.project_layers import NetworkTimes
from benchmarks.report.html import figure, page
from benchmarks.report.marks import mark_sentences, marks
from benchmarks.report.provenance import hosts, provenance, read_runs
from benchmarks.report.steps import steps
from benchmarks.report.summary import foundations, summary
from benchmarks.report.tables import intervals, slowdowns
from benchmarks.selection.project_selection import ProjectSelection
from jetson.files.atomic_files import write_files

REPORT_FILE = "report.html"


LayerTimes = Mapping[str, NetworkTimes | str]


def report_figures(result: ProjectSelection, layer_times: LayerTimes | None = None) -> list[ReportFigure]:
    """Return the figures of a report in the page's order; `layer_times`: what `layers_figure` takes."""
    makers = (ways_figure, links_figure, goodput_figure, gains_figure, pareto_figure)
    return [*(maker(result) for maker in makers), layers_figure(result, layer_times)]


def write_report(
    project_output: Path, result: ProjectSelection, title: str, layer_times: LayerTimes | None = None
) -> list[Path]:
    """Write report.html and each figure as SVG, PNG and CSV into `project_output`, all or nothing; return their paths.

    `title`: the network's name; `layer_times`: what `layers_figure` takes. Host and rounds of the latency runs are read
    from `runs/` there; the report says so when a run's file is missing. Raises CoopexportError without matplotlib,
    OSError when it cannot be written.
    """
    figures = {item.name: drawn(item) for item in report_figures(result, layer_times)}
    shown = {name: [figure(item)] for name, item in figures.items()}
    runs = read_runs(project_output / "runs", result)
    found = marks(result)
    parts = [
        *summary(result),
        *foundations(result, hosts(runs), mark_sentences(result, found)),
        *shown["where_splitting_pays"],
        *slowdowns(result),
        *shown["latency_per_network"],
        *shown["latency_against_goodput"],
        *intervals(result),
        *shown["where_gains_come_from"],
        *steps(result),
        *shown["accuracy_against_latency"],
        *shown["bytes_and_time_per_layer"],
        *provenance(result, runs, found),
    ]
    files = {path: content for item in figures.values() for path, content in item.files().items()}
    write_files(str(project_output), {**files, REPORT_FILE: page(f"{title}: where to cut, and what it gains", parts)})
    return [project_output / name for name in (*files, REPORT_FILE)]
