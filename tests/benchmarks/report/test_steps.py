"""The part of the report on pruning in two steps shows every gain and every pair."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from example_selection import example_selection
from example_variants import example_rows, two_step_selection

from benchmarks.figures.report_figure import DrawnFigure
from benchmarks.report.steps import _verdict, steps
from benchmarks.report.write import REPORT_FILE, write_report
from benchmarks.selection.project_selection import ProjectSelection
from benchmarks.selection.step_gains import EqualTraining, step_gains
from calibration.metrics.confidence import PairedDifference


@pytest.fixture(scope="module")
def result() -> ProjectSelection:
    return two_step_selection()


def cells_of(html: str) -> list[list[str]]:
    """Return the cells of all rows of HTML tables."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", html, re.DOTALL)
    return [
        [re.sub("<[^>]+>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)] for row in rows
    ]


def test_the_report_shows_both(result: ProjectSelection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    monkeypatch.setattr("benchmarks.report.write.drawn", lambda figure: DrawnFigure(figure, svg, svg, b"PNG"))
    write_report(tmp_path, result, "demo")
    page = (tmp_path / REPORT_FILE).read_text(encoding="utf-8")
    part = page[page.index("What each step adds") : page.index("Accuracy against latency and bytes</h2>")]
    rows = cells_of(part)
    gain = step_gains(result.selection)[0]
    assert gain.original is not None
    assert ["3G (1.1 Mbit/s)", "all", f"{gain.original.latency_ms:.3f}"] == rows[1][:3]
    assert rows[1][5:7] == [f"{gain.step1_adds:.2f}×", f"{gain.step2_adds:.2f}×"]
    compared = {row[0]: row for row in rows if len(row) == 9}
    assert len(compared) == sum(item.step == "step2" for item in result.records)
    assert compared["conv1_1-32"][1:3] == ["step1-control-2", "2,000"]
    assert compared["conv1_1-32"][6:] == ["-0.70", "-1.25 to -0.15", "lower"]
    assert compared["conv1_1-64"][8] == "not told apart"
    folded = part[part.index("Beyond the accuracy bound") :]
    assert ">conv1_1-1<" in folded
    assert ">conv1_1-32<" not in folded
    assert len(result.selection.candidates) == 508
    assert "numbers: 508 rows, also in figures/accuracy_against_latency.csv</summary>" in page


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.001, 0.02, "higher"), (-0.02, -0.001, "lower"), (-0.001, 0.02, "not told apart"),
     (-0.02, 0.001, "not told apart"), (0.0, 0.02, "not told apart"), (-0.02, 0.0, "not told apart")],
)  # fmt: skip
def test_an_interval_that_holds_zero_tells_nothing(low: float, high: float, said: str) -> None:
    control, variant = (row.record for row in example_rows(("conv4_1",))[:2])
    difference = PairedDifference((low + high) / 2, low, high, 10, 20, 1000)
    assert _verdict(EqualTraining(variant, control, difference)) == said


def test_a_project_without_two_steps_has_no_such_part() -> None:
    assert steps(example_selection()) == []


def test_variants_without_a_control_are_named() -> None:
    rows = [row for row in example_rows(("conv4_1",)) if row.record.step != "control"]
    shown = cells_of("".join(steps(two_step_selection(rows))))
    expected = [row.record.variant for row in rows if row.record.step == "step2"]
    assert len(expected) == 7
    assert [cells[0] for cells in shown if len(cells) == 1] == expected
