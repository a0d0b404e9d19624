"""Every kind of file that runs come in, all of them or none, and each kind of wrong file in one line."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from small_runs import item, run_of
from small_tables import row, sitting

from benchmarks.latency.run import write_run
from benchmarks.latency.table import current_latencies, latest
from benchmarks.latency.tables.adding import add_runs
from benchmarks.latency.tables.csv_files import csv_blocks
from benchmarks.latency.tables.project_table import AddRequest, add_to_table
from benchmarks.latency.tables.sources import read_records
from jetson.errors import CoopexportError, DamagedFileError, InputError
from jetson.files.atomic_files import sha256_of_file


def test_files_of_four_kinds_end_in_one_table_in_any_order(tmp_path: Path) -> None:
    run_file = write_run(tmp_path, run_of(item("head"), minute=1))
    on_device = write_run(tmp_path / "device", run_of(item("tail", failure="too warm"), target="nano", minute=2))
    with zipfile.ZipFile(tmp_path / "result.zip", "w") as archive:
        archive.write(on_device, "result.run.json")
        archive.writestr("notes.txt", "as it came")
    add_runs(tmp_path / "other.sqlite", [sitting(row("whole", layer="whole"), minute=3, target="orin")])
    (tmp_path / "paper.csv").write_bytes(b"".join(csv_blocks([sitting(row("head"), minute=4, target="tk1")])))
    files = (run_file, tmp_path / "result.zip", tmp_path / "other.sqlite", tmp_path / "paper.csv")
    tables = [tmp_path / "one.sqlite", tmp_path / "two.sqlite"]
    for table, order in zip(tables, (files, files[::-1]), strict=True):
        added = add_to_table(table, AddRequest(order)).added
        assert (added.runs, added.rows, added.known_runs) == (4, 4, 0)
    assert list(read_records(tables[0])) == list(read_records(tables[1]))
    assert {found.target for found in latest(tables[0])} == {"cpu", "orin", "tk1"}
    (record,) = [record for record in read_records(tables[0]) if record.run.target == "cpu"]
    assert record.run.file_sha256 == sha256_of_file(str(run_file))
    assert add_to_table(tables[0], AddRequest((*files, tables[1]))).added.runs == 0
    assert add_to_table(tables[0], AddRequest((tables[0],))).added.known_runs == 4  # to itself


def test_two_devices_tables_merge_and_each_power_mode_stays_its_own(tmp_path: Path) -> None:
    """Two boards of one target: the newest run decides, and the other board's rows say why they do not count."""
    first, second = tmp_path / "first.sqlite", tmp_path / "second.sqlite"
    add_runs(first, [sitting(row("head"), row("tail"), minute=1, target="nano", host="one", power_mode="MAXN")])
    add_runs(second, [sitting(row("head", 5.0), minute=2, target="nano", host="two", power_mode="5W")])
    add_to_table(tmp_path / "both.sqlite", AddRequest((second, first)))
    assert [(found.part, found.p50_ms) for found in latest(tmp_path / "both.sqlite")] == [("head", 5.0)]
    assert list(current_latencies(tmp_path / "both.sqlite").expired.values()) == ["power mode was MAXN, is 5W"]


def test_one_bad_file_keeps_all_others_out(tmp_path: Path) -> None:
    table = tmp_path / "out" / "latency.sqlite"
    good = write_run(tmp_path, run_of(item("head"), minute=1))
    bad = tmp_path / "numbers.csv"
    bad.write_text("run,started_at,target,variant,layer,part,p50_us\n")
    for files in ((good, bad), (bad, good)):
        with pytest.raises(InputError, match="p50_us"):
            add_to_table(table, AddRequest(files))
        assert not table.parent.exists()
    add_runs(table, [sitting(row())])
    before = table.read_bytes()
    with pytest.raises(InputError, match="p50_us"):
        add_to_table(table, AddRequest((good, bad)))
    assert table.read_bytes() == before


def write_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def run_text(**changes: object) -> str:
    content = {
        "schema": "coopexport.latency-run/1.1",
        **run_of(item("head")).model_dump(mode="json", exclude_none=True),
    }
    return json.dumps({**content, **changes})


def test_wrong_runs_are_refused_in_one_line(tmp_path: Path) -> None:
    head = item("head").model_dump(mode="json", exclude_none=True)
    cases = {
        run_text(schema="coopexport.latency-run/2.0"): "is of schema coopexport.latency-run/2.0, this version reads",
        run_text(schema="coopexport.plan/1.1"): "is of schema coopexport.plan/1.1",
        run_text(items=[{**head, "samples_ms": [1.0, -2.0]}]): "items.0.samples_ms.1: Input should be greater than or",
        run_text(items=[{**head, "samples_ms": []}]): "items.0.samples_ms",
        run_text(started_at="yesterday"): "started_at holds 'yesterday', expected a date or time",
        run_text(items=[{**head, "variant": "a\nb"}]): "variant holds",
        run_text()[:-40]: "is not valid JSON",
        run_text().replace("1.0, 2.0", "NaN, 2.0"): "is not valid JSON",
    }
    for number, (text, expected) in enumerate(cases.items()):
        plain = write_text(tmp_path / f"{number}.json", text)
        zipped = tmp_path / f"{number}.zip"
        with zipfile.ZipFile(zipped, "w") as archive:
            archive.writestr("bench.run.json", text)
        for path in (plain, zipped):
            with pytest.raises(CoopexportError) as refusal:
                list(read_records(path))
            assert expected in str(refusal.value)
            assert str(path) in str(refusal.value)
            assert "\n" not in str(refusal.value)


def test_wrong_files_are_refused_in_one_line(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "result.zip", "w") as archive:
        archive.writestr("result.json", '{"schema": "coopexport.order-result/1.0"}')
    (tmp_path / "folder.json").mkdir()
    cases = {
        tmp_path / "none.json": (InputError, "is missing; check the path"),
        tmp_path / "folder.json": (InputError, "is a folder; name the files in it"),
        tmp_path / "result.zip": (InputError, "holds no latency run; measure on the device"),
        write_text(tmp_path / "broken.zip", "PK\x03\x04"): (DamagedFileError, "is damaged: File is not a zip file"),
        write_text(tmp_path / "numbers.xlsx", ""): (InputError, r"does not end in .json, .sqlite, .csv or .zip"),
    }
    for path, (kind, expected) in cases.items():
        with pytest.raises(kind) as refusal:
            list(read_records(path))
        assert expected in str(refusal.value)


def test_any_change_of_the_bytes_of_an_archive_is_noticed_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "result.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bench.run.json", run_text())
    whole, (expected,) = path.read_bytes(), read_records(path)
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            assert list(read_records(path)) == [expected], place
        except CoopexportError as error:
            assert "\n" not in str(error)
