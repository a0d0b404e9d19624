"""What the commands print with: on a terminal, the bar of what a verb is doing; nothing elsewhere."""

from __future__ import annotations

import re

import pytest

from coopexport.output import progress_bar


def shown(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Run two tasks under a bar; return what came out on both streams."""
    with progress_bar() as on_progress:
        on_progress("calibrating [cpu]", 0, 3)
        on_progress("calibrating [cpu]", 2, 3)
        on_progress("splitting", 1, 7)
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_a_bar_is_for_terminals_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    assert shown(capsys) == ("", "")


def test_the_bar_is_that_of_the_last_task(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "120")
    output, errors = shown(capsys)
    assert output == ""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", errors)
    last = [line for line in text.splitlines() if "/" in line][-1]
    assert "splitting" in last
    assert "1/7" in last
    assert "calibrating" not in last
