"""`coopexport table`: what is shown of a table, with its marks and reasons, and a project's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest
from small_tables import row, sitting

import coopexport
from benchmarks.latency.tables.adding import add_runs
from coopexport.commands.table import table as command
from jetson.errors import CoopexportError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of two targets, one of them measured in three sittings and two power modes."""
    path = tmp_path / "latency.sqlite"
    add_runs(
        path,
        [
            sitting(row("head"), row("tail"), row("decode", codec="rans"), minute=1, reference_ms=0.5),
            sitting(row("head", 4.0, flags=("drift: 12 % slower",)), row("tail", None), minute=2, reference_ms=0.5),
            sitting(row("head", variant="conv4_1-8", precision="fp16"), minute=3, target="nano", power_mode="5W"),
            sitting(row("tail", variant="conv4_1-8", precision="fp16"), minute=4, target="nano", power_mode="MAXN"),
            sitting(row("whole", layer="whole", count=None), minute=5, target="tk1", origin="imported"),
        ],
    )
    return path


def run(*arguments: object) -> str:
    """Return what the command prints; raises what it refuses with."""
    result = click.testing.CliRunner().invoke(command, [str(one) for one in arguments], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return str(result.output)


def cells(printed: str, *beginning: str) -> list[str]:
    """Return the cells of the one line that begins so."""
    lines = [[cell.strip() for cell in line.split("│")] for line in printed.splitlines()]
    (found,) = [line for line in lines if tuple(line[: len(beginning)]) == beginning]
    return found


def test_the_newest_rows_are_shown_by_target_with_marks_and_reasons(table: Path) -> None:
    printed = run("show", "--table", table)
    assert printed.startswith("Target cpu: ")
    assert cells(printed, "pruned", "conv4_1", "head")[3:] == [
        "4.0000", "3.9200 to 4.0800", "", "70", "2026-08-01T10:02", "SHIFTED, flagged",
    ]  # fmt: skip
    assert cells(printed, "pruned", "conv4_1", "decode rans")[-1] == ""
    assert cells(printed, "pruned", "conv4_1", "tail")[3] == ""
    assert cells(printed, "conv4_1-8", "conv4_1", "head fp16")[-1] == "expired"
    assert cells(printed, "pruned", "whole", "whole")[-1] == "imported"
    for reason in (
        "failed: it broke: pruned conv4_1 tail",
        "1.33 times beside the reference: the part changed: pruned conv4_1 head",
        "drift: 12 % slower: pruned conv4_1 head",
        "expired: power mode was 5W, is MAXN: conv4_1-8 conv4_1 head fp16",
    ):
        assert reason in printed


def test_filters_and_history(table: Path) -> None:
    assert "Target cpu" not in run("show", "--table", table, "--target", "na*")
    assert run("show", "--table", table, "--variant", "conv4_1-*").count("fp16 ") == 2
    printed = run("show", "--table", table, "--variant", "pruned", "--layer", "conv4_1", "--all")
    lines = [line for line in printed.splitlines() if line.split("│")[0].strip() == "pruned"]
    assert len(lines) == 5
    assert [line.split("│")[-1].strip() for line in lines] == ["SHIFTED, flagged", "older", "failed", "older", ""]


def test_what_is_not_there_is_refused_with_what_is(table: Path, tmp_path: Path) -> None:
    with pytest.raises(CoopexportError, match="has the variant prunde; it has pruned, conv4_1-8"):
        run("show", "--table", table, "--variant", "prunde")
    with pytest.raises(CoopexportError, match=r"no row of .* is all of that at once"):
        run("show", "--table", table, "--variant", "pruned", "--target", "nano")
    with pytest.raises(CoopexportError, match="there is no latency table"):
        run("show", "--table", tmp_path / "none.sqlite")
    with pytest.raises(click.UsageError, match="exclude each other"):
        run("show", "--table", table, "--project", "x.toml")


def test_a_table_goes_out_as_csv_and_comes_back(table: Path, tmp_path: Path) -> None:
    exported = tmp_path / "table.csv"
    assert run("export", "--table", table, exported).endswith("table.csv\n8 rows\n")
    again = tmp_path / "again.sqlite"
    assert run("add", "--table", again, exported).startswith("added 5 runs, 8 rows to ")
    assert run("add", "--table", again, table, exported).endswith(", 10 runs there already\n")
    assert run("show", "--table", again, "--all") == run("show", "--table", table, "--all")
    assert "same" in run("diff", table, again)
    with pytest.raises(CoopexportError, match=r"does not end in \.csv"):
        run("export", "--table", table, tmp_path / "table.sqlite")


def test_a_comparison_says_how_much_and_by_what(table: Path) -> None:
    printed = run("diff", "--table", table, "20260801T1001", "20260801T1002")
    assert cells(printed, "cpu", "pruned", "conv4_1", "head")[4:] == [
        "3.0000",
        "4.0000",
        "1.333",
        "reference",
        "slower",
    ]
    assert cells(printed, "cpu", "pruned", "conv4_1", "tail")[4:] == ["3.0000", "failed", "", "", "failed"]
    assert printed.endswith("1 slower, 1 failed, 1 only in A\n")


def test_a_project_has_its_own_table(finished_project: Path, coopexport: Callable, tmp_path: Path) -> None:
    shown = coopexport(finished_project, "table", "show", "--variant", "original")
    assert shown.code == 0
    assert "Target cpu: the newest row of each part" in shown.output
    assert "expired" not in shown.output
    numbers = tmp_path / "numbers.csv"
    numbers.write_text("run,started_at,target,variant,layer,part,p50_us\n")
    before = (finished_project / "out" / "latency.sqlite").read_bytes()
    refused = coopexport(finished_project, "table", "add", str(numbers))
    assert refused.code == 2
    assert refused.errors.count("\n") == 1
    assert (finished_project / "out" / "latency.sqlite").read_bytes() == before


def test_the_same_from_python(finished_project: Path, tmp_path: Path) -> None:
    project = coopexport.Project(finished_project / "coopexport.toml")
    rows = project.latencies().rows
    assert {found.state for found in rows} == {"current"}
    exported = project.export_latencies(tmp_path / "table.csv")
    assert exported.rows >= len(rows)
    assert project.add_latencies(tmp_path / "table.csv").added.rows == 0
    run_id = rows[0].run.run
    assert {one.verdict for one in project.diff_latencies(run_id, run_id).differences} <= {"same", "not judged"}


def test_rows_of_a_bundle_that_was_made_anew_have_expired(finished_project: Path, tmp_path: Path) -> None:
    manifest = min((finished_project / "out" / "original").glob("*.split.json"))
    content = json.loads(manifest.read_text())
    content["head"]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(content))
    project = coopexport.Project(finished_project / "coopexport.toml")
    rows = project.latencies(variants="original", layers=content["layer"]).rows
    found = {found.row.part: found.reason for found in rows if found.reason}
    assert found == {"head": "measured on another graph", "encode": "measured on another graph"}
