"""A run keeps every sample, and an item has samples or a reason, never both and never neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from small_runs import item, run_of

from benchmarks.latency.run import GpuMs, LatencyRun, RunItem, read_run, write_run
from jetson.errors import CoopexportError

WHERE = {"variant": "pruned", "layer": "conv4_1", "part": "head"}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"samples_ms": (1.0,), "failure": "it broke"},
        {"samples_ms": None, "failure": None},
        {"samples_ms": ()},
        {"failure": ""},
        {"samples_ms": (1.0, -0.5)},
        {"samples_ms": (np.nan,)},
        {"samples_ms": (1.0, np.inf)},
    ],
)
def test_an_item_has_samples_or_a_failure(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RunItem(**WHERE, **fields)


def test_what_an_item_may_be() -> None:
    assert RunItem(**WHERE, samples_ms=(0.0, 1.5)).failure is None
    assert RunItem(**WHERE, failure="RuntimeError: no").samples_ms is None


text = st.text(min_size=1, max_size=20)
items = st.one_of(
    st.builds(RunItem, variant=text, layer=text, part=text, codec=st.none() | text, source_sha256=text, failure=text),
    st.builds(
        RunItem,
        variant=text,
        layer=text,
        part=text,
        samples_ms=st.lists(st.floats(0, 1e9), min_size=1, max_size=5).map(tuple),
    ),
)


@settings(max_examples=40)
@given(st.lists(items, max_size=5))
def test_what_is_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, made: list[RunItem]) -> None:
    folder = tmp_path_factory.mktemp("runs", numbered=True)
    run = run_of(*made)
    path = write_run(folder, run)
    assert path == folder / f"{run.run}.json"
    assert read_run(path) == run


def test_every_sample_is_kept_to_the_last_digit(tmp_path: Path) -> None:
    samples = tuple(np.random.default_rng(0).exponential(size=200).tolist())
    path = write_run(tmp_path, run_of(item(samples_ms=samples), item("tail", failure="ValueError: broken")))
    stored = json.loads(path.read_text())
    assert stored["schema"] == "coopexport.latency-run/1.1"
    assert tuple(stored["items"][0]["samples_ms"]) == samples
    assert "failure" not in stored["items"][0]
    assert "samples_ms" not in stored["items"][1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: run.pop("target"), "target"),
        (lambda run: run["items"][0].update(failure="as well"), "samples_ms or failure"),
        (lambda run: run["items"][0].pop("samples_ms"), "samples_ms or failure"),
        (lambda run: run["items"][0].update(samples_ms=["fast"]), r"items\.0\.samples_ms"),
        (lambda run: run["items"][0].update(samples_ms=[-1]), r"items\.0\.samples_ms"),
        (lambda run: run.update(items={}), "items"),
        (lambda run: run.update(schema="coopexport.latency-run/2.0"), "2.0"),
    ],
)
def test_a_malformed_run_is_refused_in_one_line(tmp_path: Path, change: Any, said: str) -> None:
    path = write_run(tmp_path, run_of(item()))
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(CoopexportError, match=said) as refusal:
        read_run(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_later_minor_versions_are_read(tmp_path: Path) -> None:
    path = write_run(tmp_path, run_of(item()))
    content = {**json.loads(path.read_text()), "schema": "coopexport.latency-run/1.4", "energy_mj": 3}
    path.write_text(json.dumps(content))
    assert read_run(path) == run_of(item())


def test_runs_of_1_0_are_read_and_what_nobody_looked_at_then_is_absent(tmp_path: Path) -> None:
    path = write_run(tmp_path, run_of(item()))
    content = {**json.loads(path.read_text()), "schema": "coopexport.latency-run/1.0"}
    for key in ("affinity", "conditions"):  # they are written when empty
        del content[key]
    path.write_text(json.dumps(content))
    run = read_run(path)
    assert run == run_of(item())
    assert (run.reference, run.steady, run.affinity, run.conditions) == (None, None, (), {})
    assert (run.items[0].load_ms, run.items[0].peak_memory_bytes, run.items[0].unsteady) == (None, None, None)


def test_all_that_1_1_adds_is_read_again(tmp_path: Path) -> None:
    run = run_of(
        item(load_ms=12.5, peak_memory_bytes=1 << 20, unsteady="it still got 9 % faster"),
        item("head", layer="pool3", gpu_ms=GpuMs(inputs=0.25, compute=2.0, outputs=0.5, enqueue=0.125)),
        item("tail", energy_mj=10.5, unknown={"energy_above_idle_mj": "why"}),
        reference=item("whole", variant="reference", layer="whole"),
        steady=False,
        affinity=(0, 3),
        conditions={"power_mode": "15W", "throttled_meanwhile": {"oc1": 2}},
    )
    assert read_run(write_run(tmp_path, run)) == run


@pytest.mark.parametrize(
    "change", [{"load_ms": -1.0}, {"peak_memory_bytes": -1}, {"energy_mj": float("nan")}, {"unsteady": ""}]
)
def test_an_item_has_no_negative_sizes_and_no_empty_reasons(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        item(**change)


def test_a_run_is_frozen() -> None:
    run: LatencyRun = run_of(item())
    with pytest.raises(ValidationError):
        run.rounds = 7  # type: ignore[misc]
