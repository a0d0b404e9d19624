"""What bench prints: every part of a few variants, and one line for each cut of many."""

from __future__ import annotations

import pytest
from small_runs import item, run_of

from coopexport.commands.bench import print_run, rows_by_cut


def items_of(variant: str) -> list:
    cut = [item(part, variant=variant, samples_ms=(value,)) for part, value in (("head", 1.5), ("tail", 0.25))]
    coded = [item(part, variant=variant, codec="rans", samples_ms=(0.125,)) for part in ("encode", "decode")]
    images = [
        item(part, variant=variant, layer="whole", codec="jpeg", samples_ms=(9.0,)) for part in ("encode", "decode")
    ]
    whole = [item(part, variant=variant, layer="whole", samples_ms=(2.0,)) for part in ("preprocess", "whole")]
    return [*cut, *coded, *images, *whole]


def test_a_cut_has_its_own_parts_and_no_coding_of_images() -> None:
    assert rows_by_cut(run_of(*items_of("pruned"))) == [
        ("pruned", "conv4_1", "1.5000", "0.1250", "0.1250", "0.2500", ""),
        ("pruned", "whole", "", "", "", "", "2.0000"),
    ]


def test_a_few_variants_show_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    print_run(run_of(*items_of("pruned")))
    output = capsys.readouterr().out
    assert "preprocess" in output
    assert "p90 ms" in output


def test_of_many_variants_failures_are_still_told(capsys: pytest.CaptureFixture[str]) -> None:
    broken = item("head", variant="conv4_1-3", failure="CoopexportError: it broke")
    print_run(run_of(*(part for number in range(5) for part in items_of(f"conv4_1-{10 + number}")), broken))
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines() if "conv4_1-" in line]
    assert len(rows) == 11
    assert rows[-1][:5] == ["conv4_1-3", "│", "conv4_1", "│", "failed"]
    assert "failed: conv4_1-3 conv4_1 head: CoopexportError: it broke" in captured.err
