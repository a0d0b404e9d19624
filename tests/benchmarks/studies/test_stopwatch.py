"""The study of the stopwatch: two small sittings for real, and its figures on runs whose medians are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_runs import item, run_of

from benchmarks.latency.host import describe_host
from benchmarks.latency.run import LatencyRun
from benchmarks.studies.stopwatch import NOTHING, REFERENCE, added_us, main, measure, page, spread_table, spreads
from jetson.errors import CoopexportError


def run_with(reference_ms: float, network_ms: float, added_ms: float = 0.0001) -> LatencyRun:
    def of(variant: str, ms: float) -> object:
        return item("whole", variant=variant, layer="whole", samples_ms=(ms,) * 9)

    return run_of(of("small", network_ms), of(NOTHING, added_ms), reference=of(REFERENCE, reference_ms), steady=True)


def test_two_sittings_measure_networks_reference_and_nothing() -> None:
    runs = measure(2, 8, (16,))
    for run in runs:
        assert [one.variant for one in run.items] == ["VGG-16, widths / 16", NOTHING]
        assert [len(one.samples_ms or ()) for one in run.items] == [8, 8]
        assert run.reference is not None
    assert runs[0].run != runs[1].run
    assert (added_us(runs) < np.array([one.medians_ms.min() for one in spreads(runs)]).min() * 1000).all()
    text = page(runs, describe_host())
    assert "| VGG-16, widths / 16 |" in text
    assert max(map(len, text.splitlines())) <= 130


def test_ratios_are_to_the_reference_of_the_same_sitting() -> None:
    # The machine is three times slower in the last sitting; the network itself changed by 10 % in the second.
    runs = [run_with(1.0, 2.0), run_with(1.0, 2.2), run_with(1.01, 2.02), run_with(3.0, 6.0)]
    reference, network = spreads(runs)
    assert (reference.name, network.name) == (REFERENCE, "small")
    assert network.ratios == pytest.approx([2.0, 2.2, 2.0, 2.0])
    assert not network.holds
    _, _, first, second = spread_table([reference, network]).splitlines()
    assert [cell.strip() for cell in first.split("|")[1:-1]] == [REFERENCE, "1.0050", "199 %", "3 of 4", "", "", "", ""]
    assert [cell.strip() for cell in second.split("|")[1:-1]] == [
        "small", "2.1100", "190 %", "0 of 4", "2.000", "10 %", "3 of 4", "**no**",
    ]  # fmt: skip


@pytest.mark.parametrize(("off", "holds"), [(2, True), (3, False)])
def test_eighteen_of_twenty_have_to_be_near(off: int, holds: bool) -> None:
    runs = [run_with(1.0, 2.0)] * (20 - off) + [run_with(1.0, 2.1)] * off
    assert spreads(runs)[1].holds is holds


def test_what_the_harness_adds_is_judged_by_its_worst_sitting() -> None:
    host = describe_host()
    quick, slow = run_with(1.0, 2.0, 0.0002), run_with(1.0, 2.0, 0.0021)
    assert "0.20 microseconds (greatest of 2 sittings 0.20)" in page([quick, quick], host).replace("\n", " ")
    assert "holds: yes" in page([quick, quick], host)
    assert "holds: **no**" in page([quick, slow], host)


def test_numbers_of_sittings_that_make_no_sense_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--sittings", "0"])
    assert "must be at least 1" in capsys.readouterr().err


def test_a_network_that_cannot_be_measured_ends_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise CoopexportError("small cannot be measured: RuntimeError: no")

    monkeypatch.setattr("benchmarks.studies.stopwatch.measure", fails)
    assert main(["--output", str(tmp_path / "page.md")]) == 2
    assert capsys.readouterr().err == "small cannot be measured: RuntimeError: no\n"
    assert not (tmp_path / "page.md").exists()
