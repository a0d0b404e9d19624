"""The table: each run once, failures as rows with a reason, and no number where the newest run has none."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import HOST, item, run_of

from benchmarks.latency.run import GpuMs, LatencyRun, RunItem
from benchmarks.latency.statistics import summarise
from benchmarks.latency.table import current_latencies, import_run, latest
from jetson.errors import CoopexportError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "out" / "latency.sqlite"


def rows(path: Path, columns: str = "*") -> list[tuple[Any, ...]]:
    with sqlite3.connect(path) as connection:
        return connection.execute(f"SELECT {columns} FROM measurements").fetchall()


def medians(path: Path) -> dict[str, float]:
    return {row.part: row.p50_ms for row in latest(path)}


def test_a_row_is_the_summary_of_its_item(table: Path) -> None:
    many = tuple(float(value % 17) for value in range(700))
    run = run_of(item("head"), item("tail", samples_ms=many), item("encode", codec="raw", samples_ms=many[:70]))
    assert import_run(table, run) == 3
    columns = "part, codec, source_sha256, status, reason, count, p50_ms, p90_ms, p99_ms, mean_ms, cv"
    expected = []
    for part in run.items:
        assert part.samples_ms is not None
        found = summarise(part.samples_ms)
        key = (part.part, part.codec or "", part.source_sha256, "ok", None)
        expected.append(
            (*key, found.count, found.p50_ms, found.p90_ms, found.p99_ms, found.mean_ms, found.cv),
        )
    assert rows(table, columns) == expected
    assert [(row[7] is None, row[8] is None) for row in expected] == [(True, True), (False, False), (False, True)]
    row = next(row for row in latest(table) if row.part == "encode")
    assert (row.run, row.target, row.variant, row.layer, row.codec) == (run.run, "cpu", "pruned", "conv4_1", "raw")
    assert (row.source_sha256, row.count) == ("sha of encode", 70)


def test_the_run_itself_is_recorded(table: Path) -> None:
    import_run(table, run_of(item()))
    columns = (
        "run, started_at, target, origin, host, processor, backend, backend_version, threads, affinity, warm_up, "
        "rounds, steady, interleaved, in_chains, reference_sha256, power_mode, driver, l4t"
    )
    assert rows(table, columns) == [
        (
            "20260801T100000Z-00000000", "2026-08-01T10:00:00.000+00:00", "cpu", "measured", "here", "Some CPU",
            "onnxruntime", "1.20.0", 1, None, 2, 5, None, 1, 0, None, None, None, None,
        )
    ]  # fmt: skip
    with sqlite3.connect(table) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


def test_what_the_device_says_of_itself_is_recorded(table: Path) -> None:
    probe = {
        "machine": {"operating_system": "Linux", "architecture": "aarch64", "l4t": "36.4.3", "driver": "540.4"},
        "power_mode": {"name": "15W", "identifier": 0},
        "tensorrt": {"module": "10.3.0", "package": "10.3.0.30"},
    }
    run = run_of(
        item(
            "head",
            samples_ms=tuple(range(1, 21)),
            load_ms=12.5,
            peak_memory_bytes=1 << 33,
            unsteady="it fell",
            energy_mj=10.5,
            energy_above_idle_mj=6.25,
            gpu_ms=GpuMs(inputs=0.25, compute=2.0, outputs=0.5),
        ),
        host={**HOST, "probe": probe},
        affinity=(0, 3),
        steady=False,
        reference=item("whole", variant="reference", source_sha256="fixed", samples_ms=tuple(range(1, 12))),
    )
    import_run(table, run, "digest of the file")
    columns = "power_mode, driver, l4t, tensorrt, affinity, steady, reference_sha256, reference_p50_ms, file_sha256"
    assert rows(table, columns) == [
        ("15W", "540.4", "36.4.3", "10.3.0.30", "0 3", 0, "fixed", 6.0, "digest of the file")
    ]
    (found,) = latest(table)
    assert (found.load_ms, found.peak_memory_bytes, found.factor) == (12.5, 1 << 33, 1.0)
    assert (found.energy_mj, found.energy_above_idle_mj) == (10.5, 6.25)
    of_gpu = "gpu_inputs_ms, gpu_compute_ms, gpu_outputs_ms, gpu_enqueue_ms"
    assert rows(table, of_gpu) == [(0.25, 2.0, 0.5, None)]
    assert "unsteady: it fell" in found.flags
    assert found.p50_low_ms is not None
    assert found.p50_high_ms is not None
    assert found.p50_low_ms < found.p50_ms == 10.5 < found.p50_high_ms


def test_conditions_of_the_run_come_before_the_probe(table: Path) -> None:
    for minute, mode in enumerate(({"name": "MAXN", "identifier": 0}, "MAXN")):
        run = run_of(
            item(), minute=minute, host={"probe": {"power_mode": {"name": "15W"}}}, conditions={"power_mode": mode}
        )
        import_run(table, run)
    assert set(rows(table, "power_mode")) == {("MAXN",)}


def test_a_power_mode_that_somebody_changed_meanwhile_is_like_no_other(table: Path) -> None:
    modes = {"power_mode": {"name": "MAXN"}, "power_mode_after": {"name": "15W"}}
    import_run(table, run_of(item("tail"), minute=1, conditions={"power_mode": {"name": "MAXN"}}))
    import_run(table, run_of(item("head"), minute=2, conditions=modes))
    assert list(current_latencies(table).expired.values()) == ["power mode was MAXN, is MAXN, then 15W"]


def test_importing_twice_changes_nothing(table: Path) -> None:
    run = run_of(item("head"), item("tail", failure="it broke"))
    assert import_run(table, run) == 2
    before = rows(table)
    assert import_run(table, run) == 0
    assert rows(table) == before


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (run_of(item("head", samples_ms=(9.0,))), "its samples differ"),
        (run_of(item("head", samples_ms=(1.0, 2.0, 3.0, 4.5, 5.5))), "its samples differ"),  # the same median
        (run_of(item("head", failure="it broke")), "its samples differ"),
        (run_of(item("head"), item("tail")), "its samples differ"),
        (run_of(item("head"), target="cuda"), "target is cpu, not cuda"),
        (run_of(item("head"), threads=4), "threads is 1, not 4"),
    ],
)
def test_another_run_of_the_same_id_is_refused_by_name(table: Path, other: LatencyRun, difference: str) -> None:
    import_run(table, run_of(item("head")))
    before = table.read_bytes()
    with pytest.raises(CoopexportError, match=f"has a run {other.run} already, and it is another: {difference}; give"):
        import_run(table, other)
    assert table.read_bytes() == before


def test_a_failure_is_a_row_with_a_reason_and_no_number(table: Path) -> None:
    import_run(table, run_of(item("head"), item("tail", failure="RuntimeError: no memory")))
    found = rows(table, "status, reason, count, p50_ms, p90_ms, p99_ms, mean_ms, cv")[1]
    assert found == ("failed", "RuntimeError: no memory", *[None] * 6)
    assert [row.part for row in latest(table)] == ["head"]
    assert current_latencies(table).failures == {("cpu", "pruned", "conv4_1", "tail", ""): "RuntimeError: no memory"}


def test_the_newest_run_wins(table: Path) -> None:
    import_run(table, run_of(item("head", samples_ms=(3.0,)), item("tail"), minute=2))
    import_run(table, run_of(item("head", samples_ms=(9.0,)), minute=1))  # imported later, taken earlier
    assert medians(table) == {"head": 3.0, "tail": 3.0}
    import_run(table, run_of(item("head", samples_ms=(7.0,)), minute=3))
    assert medians(table) == {"head": 7.0, "tail": 3.0}


def test_a_newest_failure_is_not_covered_by_an_older_success(table: Path) -> None:
    """The same graph that ran yesterday and fails today has no latency: yesterday's is that of another set-up."""
    import_run(table, run_of(item("head"), item("tail"), minute=1))
    import_run(table, run_of(item("head", failure="it broke"), minute=2))
    assert medians(table) == {"tail": 3.0}
    assert list(current_latencies(table).failures) == [("cpu", "pruned", "conv4_1", "head", "")]
    import_run(table, run_of(item("head", samples_ms=(4.0,)), minute=3))
    assert medians(table) == {"head": 4.0, "tail": 3.0}
    assert current_latencies(table).failures == {}


@settings(max_examples=20)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.one_of(st.none(), st.integers(1, 9))), max_size=8))
def test_latest_is_a_dictionary_that_runs_overwrite(
    tmp_path_factory: pytest.TempPathFactory, tail_inputs: list[tuple[str, int | None]]
) -> None:
    path = tmp_path_factory.mktemp("table", numbered=True) / "latency.sqlite"
    expected: dict[str, int | None] = {}
    import_run(path, run_of())
    for minute, (part, milliseconds) in enumerate(tail_inputs, start=1):
        made = item(part, failure="no") if milliseconds is None else item(part, samples_ms=(milliseconds,))
        import_run(path, run_of(made, minute=minute))
        expected[part] = milliseconds
    assert medians(path) == {part: value for part, value in expected.items() if value is not None}
    assert {key[3] for key in current_latencies(path).failures} == {
        part for part, value in expected.items() if value is None
    }


@pytest.mark.parametrize(
    "other",
    [
        {"backend_version": "1.21.0"},
        {"threads": 4},
        {"host": {**HOST, "processor": "Another CPU"}},
    ],
)
def test_runs_taken_otherwise_are_not_mixed(table: Path, other: dict[str, Any]) -> None:
    import_run(table, run_of(item("head"), item("tail"), minute=1))
    import_run(table, run_of(item("head", samples_ms=(9.0,)), minute=2, **other))
    assert medians(table) == {"head": 9.0}
    import_run(table, run_of(item("head", samples_ms=(5.0,)), minute=3))
    assert medians(table) == {"head": 5.0, "tail": 3.0}


def test_targets_stand_side_by_side(table: Path) -> None:
    import_run(table, run_of(item("head"), minute=1))
    import_run(table, run_of(item("head", samples_ms=(0.5,)), minute=2, target="cuda", threads=4))
    assert {(row.target, row.p50_ms) for row in latest(table)} == {("cpu", 3.0), ("cuda", 0.5)}


def test_batches_and_other_precisions_are_not_taken_for_single_images(table: Path) -> None:
    import_run(table, run_of(item("head"), minute=1))
    import_run(table, run_of(item("head", batch=8, samples_ms=(20.0,)), minute=2))
    import_run(table, run_of(item("head", precision="fp16", samples_ms=(1.0,)), minute=3))
    assert len(rows(table)) == 3
    assert medians(table) == {"head": 3.0}


def test_parts_of_one_name_and_several_codecs_are_several_parts(table: Path) -> None:
    both = [item("encode", codec=codec, samples_ms=(time,)) for codec, time in (("raw", 1.0), ("jpeg", 2.0))]
    import_run(table, run_of(*both))
    assert {(row.codec, row.p50_ms) for row in latest(table)} == {("raw", 1.0), ("jpeg", 2.0)}


def test_a_run_that_names_a_part_twice_is_refused_whole(table: Path) -> None:
    import_run(table, run_of(item("head"), minute=1))
    with pytest.raises(CoopexportError, match="has pruned conv4_1 head fp32 1 twice"):
        import_run(table, run_of(item("tail"), item("head"), item("head"), minute=2))
    assert medians(table) == {"head": 3.0}
    with sqlite3.connect(table) as connection:
        assert connection.execute("SELECT COUNT(*) FROM runs").fetchone() == (1,)


def test_a_missing_table_names_the_command(table: Path) -> None:
    with pytest.raises(CoopexportError, match=r"there is no latency table .* coopexport bench"):
        latest(table)
    assert not table.parent.exists()


@pytest.mark.parametrize("version", [3, 99, -1])
def test_another_major_version_is_refused(table: Path, version: int) -> None:
    import_run(table, run_of(item()))
    with sqlite3.connect(table) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = table.read_bytes()
    with pytest.raises(CoopexportError, match=f"of version {version}, this version reads 1 and 2"):
        latest(table)
    with pytest.raises(CoopexportError, match=f"of version {version}, this version reads 1 and 2"):
        import_run(table, run_of(item(), minute=1))
    assert table.read_bytes() == before


@pytest.mark.parametrize("content", [b"no database" * 100, b"SQLite format 3\0" + bytes(50)])
def test_a_file_that_is_no_database_is_refused_in_one_line(table: Path, content: bytes) -> None:
    table.parent.mkdir()
    table.write_bytes(content)
    with pytest.raises(CoopexportError, match=r"latency table .*latency\.sqlite") as refusal:
        import_run(table, run_of(item()))
    assert "\n" not in str(refusal.value)
    assert table.read_bytes() == content


def test_somebody_elses_database_is_left_alone(table: Path) -> None:
    table.parent.mkdir()
    with sqlite3.connect(table) as connection:
        connection.execute("CREATE TABLE letters (text)")
    before = table.read_bytes()
    with pytest.raises(CoopexportError, match="is a database, but no latency table"):
        import_run(table, run_of(item()))
    assert table.read_bytes() == before


def fill_up(monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    """Let SQLite run out of space after so many pages of 4 KiB, as on a full disk."""
    real = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = real(*arguments, **options)
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)


def many_items() -> list[RunItem]:
    return [item(f"part {index}" + "x" * 200) for index in range(200)]


@pytest.mark.parametrize("pages", [1, 4, 10])
def test_a_full_disk_leaves_no_file(table: Path, monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    fill_up(monkeypatch, pages)
    with pytest.raises(CoopexportError, match="disk is full; check the disk"):
        import_run(table, run_of(*many_items()))
    assert not table.parent.exists()


def test_a_full_disk_leaves_the_old_table(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_run(table, run_of(item()))
    before = rows(table)
    with monkeypatch.context() as patched:
        fill_up(patched, 10)
        with pytest.raises(CoopexportError, match="disk is full"):
            import_run(table, run_of(*many_items(), minute=1))
    assert rows(table) == before
    assert [path.name for path in table.parent.iterdir()] == ["latency.sqlite"]
    assert import_run(table, run_of(*many_items(), minute=1)) == 200
