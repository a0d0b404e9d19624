"""What got slower or faster is found beyond both intervals, through the reference where both sides ran it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_runs import item, run_of
from small_tables import row, sitting

from benchmarks.latency.run import write_run
from benchmarks.latency.tables.adding import add_runs
from benchmarks.latency.tables.csv_files import csv_blocks
from benchmarks.latency.tables.differences import differences
from benchmarks.latency.tables.records import RecordedRun
from jetson.errors import InputError


def compared(tmp_path: Path, before: RecordedRun, after: RecordedRun) -> dict[str, tuple[float | None, bool, str]]:
    """Return factor, whether it is by the reference, and verdict of each part, in their order."""
    paths = [str(tmp_path / "a.sqlite"), str(tmp_path / "b.csv")]
    add_runs(Path(paths[0]), [before])
    Path(paths[1]).write_bytes(b"".join(csv_blocks([after])))
    found = differences(*paths, None)
    return {one.sitting[1].part: (one.factor, one.by_reference, one.verdict) for one in found}


def test_every_verdict_in_milliseconds(tmp_path: Path) -> None:
    bare = row("bare", p50_low_ms=None, p50_high_ms=None)
    before = sitting(row("faster"), row("same"), row("gone"), row("broken"), bare, row("slower"))
    changed = (row("slower", 6.0), row("faster", 1.5), row("same", 3.05), row("broken", None))
    after = sitting(*changed, row("new"), row("bare"), minute=1)
    found = compared(tmp_path, before, after)
    assert next(iter(found)) == "slower"
    assert {part: verdict for part, (_, _, verdict) in found.items()} == {
        "slower": "slower", "faster": "faster", "same": "same", "gone": "only in A", "new": "only in B",
        "broken": "failed", "bare": "not judged",
    }  # fmt: skip
    assert found["slower"][:2] == (2.0, False)
    assert found["gone"][0] is None


def test_the_reference_takes_the_machine_out(tmp_path: Path) -> None:
    before = sitting(row("same"), row("slower"), reference_ms=0.5)
    after = sitting(row("same", 6.0), row("slower", 9.0), minute=1, reference_ms=1.0)
    found = compared(tmp_path, before, after)
    assert found["same"] == (pytest.approx(1.0), True, "same")
    assert found["slower"] == (pytest.approx(1.5), True, "slower")


def test_ratios_that_moved_by_less_than_the_reference_can_tell_are_the_same(tmp_path: Path) -> None:
    narrow = {"reference_p50_low_ms": 0.5, "reference_p50_high_ms": 0.5}
    before = sitting(row(width=0.001), reference_ms=0.5, **narrow)
    after = sitting(row(p50_ms=3.0 * 1.02, width=0.001), minute=1, reference_ms=0.5, **narrow)
    assert compared(tmp_path, before, after)["head"][1:] == (True, "same")


def test_two_devices_are_compared_part_by_part(tmp_path: Path) -> None:
    found = compared(tmp_path, sitting(row(), target="nano"), sitting(row(p50_ms=1.0), minute=1, target="orin"))
    assert found == {"head": (pytest.approx(1 / 3), False, "faster")}


def test_parts_of_several_targets_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "latency.sqlite"
    add_runs(path, [sitting(row(), target="nano", minute=1), sitting(row(p50_ms=9.0), target="orin", minute=2)])
    found = differences(str(path), str(path), None)
    assert [(one.sitting[0].target, one.factor) for one in found] == [("nano", 1.0), ("orin", 1.0)]


def test_sittings_of_one_table_are_named_by_the_beginning_of_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "latency.sqlite"
    add_runs(path, [sitting(row(), minute=1), sitting(row(p50_ms=6.0), minute=2), sitting(row(), run="20260801T10020")])
    (found,) = differences("20260801T1001", "20260801T100200Z", path)
    assert (found.factor, found.verdict) == (2.0, "slower")
    assert differences("20260801T10020", "20260801T10020", path)[0].factor == 1.0  # a whole id
    for wanted, expected in {
        "2026": "3 runs of .* begin with '2026'; its runs: 2026",
        "x": "no run of .* begins with",
    }.items():
        with pytest.raises(InputError, match=expected):
            differences(wanted, wanted, path)
    with pytest.raises(InputError, match="'x' is no file of runs; name one, or work in a project"):
        differences("x", "x", None)


def test_a_run_file_is_compared_with_its_summary(tmp_path: Path) -> None:
    fast, slow = (
        write_run(
            tmp_path, run_of(item("head", samples_ms=[speed + 0.001 * index for index in range(20)]), minute=minute)
        )
        for minute, speed in ((1, 1.0), (2, 2.0))
    )
    (found,) = differences(str(fast), str(slow), None)
    assert found.verdict == "slower"
    assert found.factor == pytest.approx(2.0095 / 1.0095)
