"""The study of the latency table's speed fills the table that it says, and its rows are as many and as distinct."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.latency.table import latest
from benchmarks.studies.latency_table import main, measure


def test_the_table_has_the_rows_that_the_figures_are_about(tmp_path: Path) -> None:
    speed = measure(tmp_path / "latency.sqlite", 600, 20)
    assert (speed.rows, speed.parts, speed.expired_parts) == (600, 20, 16)
    assert all(figure > 0 for times in (speed.added, speed.current, speed.expired) for one in times for figure in one)
    assert len(latest(tmp_path / "latency.sqlite")) == 4


def test_parts_are_distinct_at_full_size(tmp_path: Path) -> None:
    assert measure(tmp_path / "latency.sqlite", 2000, 2000).expired_parts == 1996


def test_it_prints_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rows", "40", "--parts", "4"]) == 0
    printed = capsys.readouterr().out
    assert "A table of 40 rows of 4 parts" in printed
    assert "| rows added a second, median of the additions |" in printed
