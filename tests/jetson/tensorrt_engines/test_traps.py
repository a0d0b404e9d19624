"""Every known trap has a test: docs/tensorrt.md names it, and it is there."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = (REPOSITORY / "docs" / "tensorrt.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+?) \| (test_.+) \|$", PAGE, re.MULTILINE)
WRITTEN = "\n".join(file.read_text(encoding="utf-8") for file in (REPOSITORY / "tests").rglob("test_*.py"))


@pytest.mark.parametrize(("trap", "names"), ROWS)
def test_the_test_of_a_trap_exists(trap, names):
    for name in names.split(", "):
        assert f"def {name}(" in WRITTEN, trap


def test_the_table_is_there():
    assert len(ROWS) > 30
