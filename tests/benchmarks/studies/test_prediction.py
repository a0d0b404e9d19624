"""The study's page says what leaving cuts out says, and refuses a project that was measured too little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_cells import cells_of, drawn_chain

from benchmarks.prediction.regression import Measured, leave_one_cut_out
from benchmarks.studies.prediction import errors_from_few, main, page


@pytest.fixture(scope="module")
def cells() -> list[Measured]:
    noise = np.random.default_rng(1)
    chain = drawn_chain(np.random.default_rng(0), 16)
    return cells_of(
        chain,
        lambda kernels: (
            sum(2e-7 * item.macs + 1e-7 * item.moved_bytes + 0.01 for item in kernels) * noise.normal(1.0, 0.04)
        ),
    )


def test_the_page_has_the_errors_of_each_part(cells: list[Measured]) -> None:
    text = page("a chain", "cpu", cells)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    errors = np.abs(leave_one_cut_out(cells))
    for part in ("head", "tail"):
        own = errors[[cell.part == part for cell in cells]]
        (row,) = [line for line in lines if line[0] == part]
        assert row[1:4] == ["15", f"{100 * np.median(own):.1f} %", f"{100 * own.max():.1f} %"]
        worst = [cell for cell in cells if cell.part == part][int(own.argmax())]
        assert row[4].startswith(f"{worst.cut}, {worst.ms:.3f} ms, predicted ")
    assert "31 measured cells at 15 cuts" in text.replace("\n", " ")


def test_more_cuts_predict_better(cells: list[Measured]) -> None:
    few, many = (np.median(errors_from_few(cells, count, draws=20)) for count in (4, 12))
    assert 0 < many < few


def test_a_project_is_read_from_its_folder(split_project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(split_project)]) == 0
    assert "10 measured cells at 2 cuts" in capsys.readouterr().out.replace("\n", " ")
    assert main([str(split_project), "--target", "rtx-ada"]) == 2
    assert "too few times were measured to predict others from: 0 of heads" in capsys.readouterr().err
