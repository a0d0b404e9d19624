"""Every refusal is of a class that says what kind it is, and Python callers can tell the kinds apart."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import coopexport
from jetson.errors import ERRORS

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("jetson", "exporter", "engines", "calibration", "benchmarks", "coopexport")


def bare_errors(source: str) -> list[int]:
    """Return the lines that make a CoopexportError itself, which does not say what kind of problem it is."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", None)) == "CoopexportError"
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_makes_an_error_that_does_not_say_its_kind(room: str) -> None:
    files = [path for path in (REPOSITORY / room).rglob("*.py") if path != REPOSITORY / "jetson" / "errors.py"]
    assert len(files) > 10
    found = {str(path.relative_to(REPOSITORY)): bare_errors(path.read_text()) for path in files}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_a_bare_error_would_be_found() -> None:
    assert bare_errors("x = 1\nraise CoopexportError('x')\n") == [2]
    assert bare_errors("raise errors.CoopexportError('x')\nraise InputError('x')\n") == [1]


def test_the_classes_are_public() -> None:
    for one in ERRORS:
        assert getattr(coopexport, one.__name__) is one
        assert issubclass(one, coopexport.CoopexportError)
        assert f"`{one.__name__}`" in (REPOSITORY / "docs" / "api.md").read_text()
