"""One version, wherever it is written."""

from __future__ import annotations

import re
from pathlib import Path

import coopexport
from jetson.version import VERSION

REPOSITORY = Path(coopexport.__file__).parent


def test_the_version_is_the_same_everywhere() -> None:
    declared = re.search(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert coopexport.__version__ == declared.group(1) == VERSION
