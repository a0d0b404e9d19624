"""Which coder a run measured is read from its file, and nothing is made up where there is none."""

from __future__ import annotations

from pathlib import Path

from small_runs import HOST, item, run_of

from benchmarks.latency.run import write_run
from benchmarks.prediction.entropy_coders import entropy_coders


def test_runs_say_their_coder_the_earliest_first(tmp_path: Path) -> None:
    runs = [
        run_of(item(), minute=minute, host={**HOST, **({"rans": coder} if coder else {})})
        for minute, coder in ((7, "c"), (3, "python"), (5, None))
    ]
    for run in runs:
        write_run(tmp_path, run)
    (tmp_path / "damaged.json").write_text("{", encoding="utf-8")
    found = entropy_coders(tmp_path, [*(run.run for run in runs), "damaged", "missing", "../elsewhere"])
    assert list(found.items()) == [(runs[1].run, "python"), (runs[0].run, "c")]
    assert entropy_coders(tmp_path / "nowhere", ["missing"]) == {}
