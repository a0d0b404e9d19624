"""Traces: read line by line, weighted by time; quantiles and means against a plain expansion of every second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.links.trace import (
    GoodputDistribution,
    Trace,
    distribution,
    read_trace,
)
from jetson.errors import CoopexportError, DamagedFileError, InputError

STEPS = st.lists(st.tuples(st.integers(1, 9), st.sampled_from([1e5, 2e5, 1.1e6, 5.85e6])), min_size=2, max_size=12)


def write(folder: Path, text: str) -> Path:
    path = folder / "field.csv"
    path.write_text(text)
    return path


@given(STEPS, st.floats(0, 1))
def test_quantiles_and_mean_are_those_of_every_second(steps: list[tuple[int, float]], share: float) -> None:
    steps[-1] = (steps[-2][0], steps[-1][1])  # the last holds for as long as the one before it
    times = np.cumsum([0, *(seconds for seconds, _ in steps[:-1])])
    found = distribution(Trace(tuple(times.tolist()), tuple(goodput for _, goodput in steps)))
    seconds = np.repeat([goodput for _, goodput in steps], [length for length, _ in steps])
    assert found.mean_bps == pytest.approx(seconds.mean())
    assert sum(found.shares) == pytest.approx(1)
    quantile = found.quantile(share)
    # By what the word means, and by NumPy where it does not depend on rounding.
    assert (seconds <= quantile).mean() >= share - 1e-9
    assert quantile == seconds.min() or (seconds < quantile).mean() < share
    if abs(share * len(seconds) - round(share * len(seconds))) > 1e-6:
        assert quantile == np.quantile(seconds, share, method="inverted_cdf")


def test_equal_samples_are_one_value() -> None:
    trace = Trace((0.0, 1.0, 2.0, 3.0), (2e6, 1e6, 2e6, 2e6))
    assert distribution(trace) == GoodputDistribution((1e6, 2e6), (0.25, 0.75))
    assert distribution(Trace((4.0,), (3e6,))) == GoodputDistribution((3e6,), (1.0,))
    with pytest.raises(ValueError, match="no share"):
        distribution(trace).quantile(1.5)


def test_a_trace_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufefftime_s,goodput_bps\r\n0,1_000\r\n\r\n2.5,5.85e6\r\n".replace("1_000", "1100000"))
    trace = read_trace(path)
    assert trace == Trace((0.0, 2.5), (1.1e6, 5.85e6))
    assert trace.durations_s == (2.5, 2.5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1 is '': the header of a trace is time_s,goodput_bps"),
        ("time_s,goodput_mbps\n0,5.85\n", "line 1 is 'time_s,goodput_mbps': the header"),
        ("0,1e6\n", "line 1 is '0,1e6': the header"),
        ("time_s,goodput_bps\n\n", "the trace has no rows; give one per line: time_s,goodput_bps"),
        ("time_s,goodput_bps\n0,1e6\n\n1,0\n", "line 4: goodput_bps is 0, not a positive"),
        ("time_s,goodput_bps\n0,-3\n", "line 2: goodput_bps is -3, not a positive"),
        ("time_s,goodput_bps\n0,nan\n", "line 2: goodput_bps is 'nan', not a number"),
        ("time_s,goodput_bps\n0,inf\n", "line 2: goodput_bps is 'inf', not a number"),
        ("time_s,goodput_bps\nx,1e6\n", "line 2: time_s is 'x', not a number"),
        ("time_s,goodput_bps\n0,1e6\n2,1e6\n1,1e6\n", "line 4: time_s is 1 after 2: time has to go on"),
        ("time_s,goodput_bps\n0,1e6\n0,1e6\n", "line 3: time_s is 0 after 0: time has to go on"),
        ("time_s,goodput_bps\n0,1e6,3\n", "line 2 has 3 columns, not 2: '0,1e6,3'"),
        ("time_s,goodput_bps\n0;1e6\n", "line 2 has 1 columns, not 2: '0;1e6'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_line_and_value(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(CoopexportError) as refused:
        read_trace(path)
    assert str(refused.value).startswith(f"{path}: {words}")
    assert refused.value.path == str(path)


def test_what_is_no_trace_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^there is no trace .*gone.csv; check the path$"):
        read_trace(tmp_path / "gone.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_trace(tmp_path)
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(DamagedFileError, match="no text in UTF-8"):
        read_trace(tmp_path / "picture.csv")
