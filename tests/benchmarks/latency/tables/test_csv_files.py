"""CSV: what goes out comes back to the last bit, and what people bring is refused by line, column, value and unit."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tables import row, sitting

from benchmarks.latency.table import latest
from benchmarks.latency.tables.adding import add_runs
from benchmarks.latency.tables.columns import COLUMNS
from benchmarks.latency.tables.csv_files import REQUIRED, csv_blocks, read_csv
from benchmarks.latency.tables.records import RecordedRun, TableRow, TableRun
from benchmarks.latency.tables.sources import read_records
from jetson.errors import InputError

HEADER = "run,started_at,target,variant,layer,part,p50_ms"
LINE = "paper,2019-07-01,tk1,original,conv4_1,head,8.5"

_texts = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF), min_size=1, max_size=12).filter(str.isprintable)
_numbers = st.floats(0, 1e300).map(lambda value: value + 0.0)
_counts = st.integers(0, (1 << 63) - 1)


def _optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), values)


_rows = st.builds(
    TableRow, _texts, _texts, _texts, st.one_of(st.just(""), _texts), _texts, _counts, _optional(_texts), st.just("ok"),
    st.none(), st.integers(1, 1 << 62), _numbers, st.none(), st.none(), _optional(_numbers), _optional(_numbers),
    _optional(_numbers), _optional(_numbers), st.lists(_texts, max_size=2).map(tuple), _optional(_numbers),
    _optional(_counts),
)  # fmt: skip
_failed = st.builds(lambda text, reason: TableRow(text, "conv", text, status="failed", reason=reason), _texts, _texts)
_runs = st.builds(
    TableRun, _texts, st.datetimes().map(lambda time: time.isoformat()), _texts,
    st.sampled_from(["measured", "imported"]), *[_optional(_texts)] * 4, _optional(_counts), *[_optional(_texts)] * 5,
    _optional(_counts), _optional(_counts), *[_optional(st.booleans())] * 3, st.just("a digest"), _optional(_counts),
    _optional(_numbers), st.none(), st.none(), _optional(_texts), _optional(_texts),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(_runs, st.lists(st.one_of(_rows, _failed), min_size=1, max_size=4), st.booleans())
def test_a_round_trip_is_exact(
    tmp_path_factory: pytest.TempPathFactory, run: TableRun, rows: list[TableRow], through_sqlite: bool
) -> None:
    folder = tmp_path_factory.mktemp("csv", numbered=True)
    unique = {(one.variant, one.layer, one.part, one.codec, one.precision, one.batch): one for one in rows}
    record = RecordedRun(run, tuple(unique.values()))
    records = [record]
    if through_sqlite:
        add_runs(folder / "one.sqlite", records)
        records = list(read_records(folder / "one.sqlite"))
        assert records == [record]
    (folder / "table.csv").write_bytes(b"".join(csv_blocks(records)))
    assert list(read_csv(folder / "table.csv")) == [record]


def test_an_exported_table_added_again_is_the_same_table(tmp_path: Path) -> None:
    runs = [sitting(row("head", 1 / 3), row("tail", None), minute=1, reference_ms=0.1), sitting(row("head"), minute=2)]
    (tmp_path / "table.csv").write_bytes(b"".join(csv_blocks(runs)))
    add_runs(tmp_path / "new.sqlite", read_csv(tmp_path / "table.csv"))
    assert list(read_records(tmp_path / "new.sqlite")) == runs
    assert add_runs(tmp_path / "new.sqlite", read_csv(tmp_path / "table.csv")).known_runs == 2


def test_the_file_is_plain_csv_of_the_documented_columns(tmp_path: Path) -> None:
    """Read by Python's own module, and compared with docs/formats.md."""
    path = tmp_path / "table.csv"
    path.write_bytes(b"".join(csv_blocks([sitting(row("head", 0.1), minute=1)])))
    with path.open(newline="") as file:
        (found,) = csv.DictReader(file)
    assert tuple(found) == tuple(COLUMNS)
    assert (found["p50_ms"], found["count"], found["steady"], found["part"]) == ("0.1", "70", "", "head")
    text = (Path(__file__).parents[4] / "docs" / "formats.md").read_text()
    section = text[text.index("## Latency table") : text.index("## Partition policy")]
    for name in COLUMNS:
        assert f"`{name}`" in section, name


def test_people_need_seven_columns(tmp_path: Path) -> None:
    path = tmp_path / "paper.csv"
    path.write_text(f"\ufeff{HEADER}\r\n{LINE}\r\n\r\n", encoding="utf-8")  # as spreadsheets save it
    (record,) = read_csv(path)
    assert record.rows == (TableRow("original", "conv4_1", "head", p50_ms=8.5),)
    assert record.run.file_sha256 is not None
    assert len(record.run.file_sha256) == 64
    assert replace(record.run, file_sha256=None) == TableRun("paper", "2019-07-01", "tk1", "imported")
    add_runs(tmp_path / "latency.sqlite", [record])
    (found,) = latest(tmp_path / "latency.sqlite")
    assert (found.p50_ms, found.count, found.origin) == (8.5, None, "imported")


def refused(tmp_path: Path, text: str) -> str:
    path = tmp_path / "numbers.csv"
    path.write_text(text)
    with pytest.raises(InputError) as refusal:
        list(read_csv(path))
    message = str(refusal.value)
    assert message.startswith(f"{path}: line ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: line ")


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("p50_us", "p50_ms, in milliseconds"),
        ("p50_s", "p50_ms, in milliseconds"),
        ("p50", "p50_ms, in milliseconds"),
        ("median", "p50_ms, in milliseconds"),
        ("mean", "mean_ms, in milliseconds"),
        ("mean_ns", "mean_ms, in milliseconds"),
        ("load_s", "load_ms, in milliseconds"),
        ("peak_memory_mb", "peak_memory_bytes, in bytes"),
        ("energy_j", "energy_mj, in millijoules"),
    ],
)
def test_a_header_of_other_units_is_refused_with_the_unit(tmp_path: Path, column: str, expected: str) -> None:
    assert (
        refused(tmp_path, f"{HEADER},{column}\n{LINE},1\n") == f'1: column "{column}" is not known; expected {expected}'
    )


@pytest.mark.parametrize(
    "value", ["-1", "-0.5", "nan", "NaN", "inf", "-inf", "1,5", "fast", "8.5 ms", "0x1p3", "1e999"]
)
def test_what_is_no_number_of_milliseconds_is_refused(tmp_path: Path, value: str) -> None:
    line = LINE.replace("8.5", f'"{value}"')
    said = refused(tmp_path, f"{HEADER}\n{LINE.replace('paper', 'other')}\n{line}\n")
    assert said == f'3: column p50_ms: "{value}"; expected milliseconds, a number that is 0 or more'


@pytest.mark.parametrize(
    ("columns", "values", "expected"),
    [
        ("batch", "-1", '2: column batch: "-1"; expected a whole number that is 0 or more'),
        ("count", "2.5", '2: column count: "2.5"; expected a whole number'),
        ("peak_memory_bytes", str(1 << 63), "expected bytes, a whole number"),
        ("energy_mj", "-0.5", "expected millijoules, a number that is 0 or more"),
        ("steady", "maybe", "expected yes or no"),
        ("origin", "guessed", "expected measured or imported"),
        ("origin", "measured", "2: column count is empty, a measured row has its number of samples"),
        ("status", "fine", "expected ok or failed"),
        ("status", "failed", "2: column reason is empty"),
        ("reason", "broke", "2: column p50_ms holds a number"),
        ("p50_low_ms", "8", "column p50_low_ms and p50_high_ms come together"),
        ("p50_low_ms,p50_high_ms", "9,10", "column p50_ms holds 8.5, which is not from 9.0 to 10.0, its interval"),
        ("reference_p50_ms", "1", "column reference_sha256 is empty"),
        ("flags", "drift", "expected a JSON list of texts"),
        ("flags", "[1]", "expected a JSON list of texts"),
        ("processor", "a\x1b[2J", "expected printable text"),
        ("batch,batch", "1,1", "1: column batch twice"),
        ("colour", "red", '1: column "colour" is not known; '),
        ("treads", "1", '1: column "treads" is not known; did you mean threads?'),
        ("batch", "1,2", "2: 9 cells; the header names 8 columns"),
    ],
)
def test_what_else_is_wrong_is_named(tmp_path: Path, columns: str, values: str, expected: str) -> None:
    assert expected in refused(tmp_path, f"{HEADER},{columns}\n{LINE},{values}\n")


@pytest.mark.parametrize("column", REQUIRED)
def test_a_missing_column_or_cell_is_named(tmp_path: Path, column: str) -> None:
    names, cells = HEADER.split(","), LINE.split(",")
    index = names.index(column)
    said = refused(tmp_path, ",".join(names[:index] + names[index + 1 :]) + "\n")
    assert said.startswith(f"1: no column {column}; expected run, ")
    cells[index] = ""
    assert refused(tmp_path, f"{HEADER}\n{','.join(cells)}\n").startswith(f"2: column {column} is empty; expected ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1: there is nothing; expected a header with run,"),
        (HEADER.replace("p50_ms", "batch"), "1: no column p50_ms; expected the median in milliseconds"),
        (f'{HEADER}\n"{LINE}\n', "no CSV (unexpected end of data)"),
        (f"{HEADER}\n{LINE}\n{LINE}\n", "3: a part of run paper a second time; expected it once"),
        (f"{HEADER}\n{LINE}\n{LINE.replace('tk1', 'tx1')}\n", '3: column target: "tx1" is not what another line says'),
        (f"{HEADER}\n{LINE.replace('2019-07-01', 'July')}\n", '2: column started_at: "July"; expected a date or time'),
    ],
)
def test_files_that_do_not_hold_together_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refused(tmp_path, text)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    path.write_bytes(b"run\xff\xfe" + bytes(20))
    with pytest.raises(Exception, match="is no text in UTF-8; save it as CSV in UTF-8"):
        list(read_csv(path))


def test_the_sum_of_a_column_survives(tmp_path: Path) -> None:
    """The digits written are enough: an independent reader gets the same sum."""
    values = [math.pi**index / 1e3 for index in range(-30, 30)]
    record = sitting(*(row(f"part {index}", value) for index, value in enumerate(values)))
    (tmp_path / "table.csv").write_bytes(b"".join(csv_blocks([record])))
    with (tmp_path / "table.csv").open(newline="") as file:
        assert math.fsum(float(line["p50_ms"]) for line in csv.DictReader(file)) == math.fsum(values)
