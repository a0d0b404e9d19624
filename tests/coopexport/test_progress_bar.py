"""The bar of a verb on a terminal: of the task that is done, out of the way of what is printed; nothing elsewhere."""

from __future__ import annotations

import re

import pytest

from coopexport.output import progress_bar


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rich take the captured streams for a terminal."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")


def lines_of(text: str) -> list[str]:
    """Return what a terminal was told, without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()


@pytest.mark.usefixtures("terminal")
def test_the_bar_is_that_of_the_last_task(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as bar:
        bar("calibrating [cpu]", 2, 3)
        bar("splitting", 1, 7)
    captured = capsys.readouterr()
    assert captured.out == ""
    shown = [line for line in lines_of(captured.err) if "/" in line]
    assert any("calibrating [cpu]" in line and "2/3" in line for line in shown)
    assert "splitting" in shown[-1] and "1/7" in shown[-1] and "calibrating" not in shown[-1]


@pytest.mark.usefixtures("terminal")
def test_what_is_printed_above_goes_to_its_own_stream_after_the_bar_is_gone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen: list[str] = []

    def show(text: str) -> None:
        seen.append(capsys.readouterr().err)
        print(text)

    with progress_bar() as bar:
        bar("splitting", 1, 7)
        bar.above(show)("a result")
    assert capsys.readouterr().out == "a result\n"
    assert seen[0].endswith("\x1b[2K")  # the bar's line is erased


@pytest.mark.usefixtures("terminal")
def test_the_bar_goes_when_its_task_is_done_and_when_the_verb_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as bar:
        bar("splitting", 7, 7)
        assert capsys.readouterr().err.endswith("\x1b[2K")
    with pytest.raises(ValueError, match="on its way"), progress_bar() as bar:
        bar("splitting", 1, 7)
        raise ValueError("on its way")
    assert capsys.readouterr().err.endswith("\x1b[2K")


def test_there_is_no_bar_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    with progress_bar() as bar:
        bar("splitting", 1, 7)
        bar.above(print)("a result")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("a result\n", "")
