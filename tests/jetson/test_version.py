"""One version, wherever it is asked for."""

from __future__ import annotations

from importlib import metadata

import coopexport
from jetson.version import VERSION


def test_the_version_is_the_same_everywhere() -> None:
    assert coopexport.__version__ == VERSION
    assert metadata.version("coopexport") == VERSION
