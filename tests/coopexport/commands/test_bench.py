"""What bench prints: every part of a few variants, one line for each cut of many, and which numbers are in doubt."""

from __future__ import annotations

import numpy as np
import pytest
from small_runs import item, run_of

from benchmarks.latency.run import LatencyRun
from coopexport.commands.bench import print_run, reasons, rows_by_cut, rows_by_part, summaries
from coopexport.commands.bench_printing import print_without_form

DRIFTING = tuple(np.linspace(1.0, 2.0, 100).tolist())
STEADY = tuple([2.0, 2.02] * 50)


def items_of(variant: str, samples: tuple[float, ...] = STEADY) -> list:
    def of(part: str, ms: float, **fields: object) -> object:
        return item(part, variant=variant, samples_ms=tuple(ms * one for one in samples), **fields)

    cut = [of("head", 0.75), of("tail", 0.125)]
    coded = [of(part, 0.0625, codec="rans") for part in ("encode", "decode")]
    images = [of(part, 4.5, layer="whole", codec="jpeg") for part in ("encode", "decode")]
    whole = [of(part, 1.0, layer="whole") for part in ("preprocess", "whole")]
    return [*cut, *coded, *images, *whole]


def lines_of(run: LatencyRun, capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_run(run)
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_cut_has_its_own_parts_and_no_coding_of_images() -> None:
    assert rows_by_cut(summaries(run_of(*items_of("pruned")))) == [
        ("pruned", "conv4_1", "1.5075", "0.1256", "0.1256", "0.2512", "", ""),
        ("pruned", "whole", "", "", "", "", "2.0100", ""),
    ]


def test_a_part_has_median_interval_bound_and_spread(capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_by_part(summaries(run_of(*items_of("pruned"))))
    assert rows[0] == ("pruned", "conv4_1", "head", "1.5075", "1.5000 to 1.5150", "1.5150", "0 %", "")
    lines = lines_of(run_of(*items_of("pruned")), capsys)
    assert any("p90 at most" in line for line in lines)
    assert not any("!" in line for line in lines), "nothing is in doubt"


def test_what_is_in_doubt_has_a_mark_in_its_row_and_its_reason_below(capsys: pytest.CaptureFixture[str]) -> None:
    unsteady = item("tail", samples_ms=STEADY, unsteady="it still got 9 % faster")
    lines = lines_of(run_of(item("head", samples_ms=DRIFTING), unsteady, item("encode", samples_ms=STEADY)), capsys)
    marked = {line.split()[4] for line in lines if line.endswith("│ !")}
    assert marked == {"head", "tail"}
    assert [line for line in lines if line.startswith("!")] == [
        "! pruned conv4_1 head: drift: the last third is 58 % slower than the first",
        "! pruned conv4_1 head: few samples: from 100 the median is known within 6 % only",
        "! pruned conv4_1 tail: unsteady: it still got 9 % faster",
    ]


def test_forty_variants_in_doubt_have_a_row_for_each_cut_and_a_line_for_each_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = run_of(*(one for number in range(40) for one in items_of(f"conv4_1-{10 + number}", DRIFTING)))
    lines = lines_of(run, capsys)
    assert len([line for line in lines if line.endswith("│ !")]) == 80
    told = [line for line in lines if line.startswith("!")]
    assert told == [
        "! drift: 320 parts, such as conv4_1-10 conv4_1 head: drift: the last third is 58 % slower than the first",
        f"! few samples: 320 parts, such as conv4_1-10 conv4_1 head: {told[1].partition('head: ')[2]}",
    ]
    assert len(lines) < 90


def test_a_throttled_run_says_so_of_every_part() -> None:
    run = run_of(item("head", samples_ms=STEADY), conditions={"throttled_meanwhile": {"oc1": 0, "oc3": 27}})
    assert reasons(summaries(run)) == ["! pruned conv4_1 head: throttled: oc3 27 times"]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (None, "reference network: none in this run"),
        (
            item("whole", failure="UnsupportedError: no GPU"),
            "reference network: not measured (UnsupportedError: no GPU)",
        ),
        (item("whole", samples_ms=STEADY), "reference network: 2.0100 ms"),
        (
            item("whole", samples_ms=STEADY, unsteady="it got hotter"),
            "reference network: 2.0100 ms; ! unsteady: it got hotter",
        ),
    ],
)
def test_the_reference_network_has_a_line_of_its_own(
    reference: object, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines_of(run_of(*items_of("pruned"), reference=reference), capsys)[-1] == said


def test_what_parts_need_beside_time_has_a_table_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    needs = {"load_ms": 12.5, "peak_memory_bytes": 3_456_000}
    lines = lines_of(run_of(item("head", **needs), item("encode", codec="rans")), capsys)
    table = lines[lines.index("Beside time") + 1 :]
    assert [cell.strip() for cell in table[0].split("┃")] == ["variant", "cut", "part", "load ms", "memory MB"]
    assert [cell.strip() for cell in table[2].split("│")] == ["pruned", "conv4_1", "head", "12.5", "3.456"]
    assert not any("encode" in line for line in table)
    assert "Beside time" not in lines_of(run_of(item("head")), capsys)


def test_what_is_not_known_of_parts_is_said_once_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = {"unknown": {"peak_memory_bytes": "the GPU is away"}}
    lines = lines_of(run_of(item("head", **unknown), item("tail", **unknown), item("encode")), capsys)
    assert lines[-1] == "not known of 2 parts: peak_memory_bytes: the GPU is away"


def test_of_many_variants_the_range_of_what_they_need_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    made = [item("head", variant=f"conv4_1-{number}", peak_memory_bytes=number * 1_000_000) for number in range(2, 9)]
    assert "memory MB: 2 to 8 over 7 parts" in lines_of(run_of(*made), capsys)


def test_of_many_variants_failures_are_still_told(capsys: pytest.CaptureFixture[str]) -> None:
    broken = item("head", variant="conv4_1-3", failure="CoopexportError: it broke")
    print_run(run_of(*(part for number in range(5) for part in items_of(f"conv4_1-{10 + number}")), broken))
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines() if "conv4_1-" in line]
    assert len(rows) == 11
    assert rows[-1][:5] == ["conv4_1-3", "│", "conv4_1", "│", "failed"]
    assert "failed: conv4_1-3 conv4_1 head: CoopexportError: it broke" in captured.err


def test_precision_and_batch_are_named_where_they_are_not_float32_and_one_image(
    capsys: pytest.CaptureFixture[str],
) -> None:
    forms = [("fp32", 1), ("int8", 1), ("int8", 4)]
    parts = [
        item(part, codec=codec, samples_ms=STEADY, precision=precision, batch=batch)
        for precision, batch in forms
        for part, codec in (("head", None), ("encode", "rans"))
    ]
    images = item("preprocess", layer="whole", batch=4, samples_ms=STEADY)
    run = run_of(*parts, images)
    assert [row[1:3] for row in rows_by_part(summaries(run))] == [
        ("conv4_1", "head"), ("conv4_1", "encode rans"),
        ("conv4_1", "head int8"), ("conv4_1", "encode rans int8"),
        ("conv4_1", "head int8 batch 4"), ("conv4_1", "encode rans int8 batch 4"),
        ("whole", "preprocess batch 4"),
    ]  # fmt: skip
    assert [row[1:4] for row in rows_by_cut(summaries(run))] == [
        ("conv4_1", "2.0100", "2.0100"),
        ("conv4_1 int8", "2.0100", "2.0100"),
        ("conv4_1 int8 batch 4", "2.0100", "2.0100"),
    ]
    assert "times of a batch are those of all its images together" in lines_of(run, capsys)
    assert "times of a batch" not in "".join(lines_of(run_of(*parts[:4]), capsys))


def test_what_was_not_converted_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_without_form(("pruned pool3 in int8",))
    print_without_form(tuple(f"v{number} whole in fp16" for number in range(5)))
    assert capsys.readouterr().err.splitlines() == [
        "left out, not converted: pruned pool3 in int8 (coopexport precision does that)",
        "left out, not converted: v0 whole in fp16, v1 whole in fp16, v2 whole in fp16 and 2 more "
        "(coopexport precision does that)",
    ]
