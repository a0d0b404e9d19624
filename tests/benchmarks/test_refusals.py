"""What this room refuses says by its class what kind of problem it is, and by its fields where, and how to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.latency.table import latest
from jetson.errors import DamagedFileError, StaleError


def test_tables_that_are_missing_and_damaged_are_two_kinds(tmp_path: Path) -> None:
    path = tmp_path / "latency.sqlite"
    with pytest.raises(StaleError) as missing:
        latest(path)
    assert (missing.value.path, missing.value.fix) == (str(path), "fill it with: coopexport bench")
    path.write_bytes(b"no database, and long enough to be read as one" * 20)
    with pytest.raises(DamagedFileError) as damaged:
        latest(path)
    assert damaged.value.path == str(path)
