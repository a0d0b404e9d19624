"""The far end of a measured link: marks at arrivals, bytes that nothing compresses, answers; alone in a Python 3.6."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python36 import interpreters

from jetson.agent import link_end


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.integers(1, 40_000), st.floats(0, 2)), min_size=1), st.floats(0.01, 3))
def test_a_mark_is_an_arrival_at_least_a_window_after_the_last(
    arrivals: list[tuple[int, float]], window_s: float
) -> None:
    clock = Clock()
    coming = iter(arrivals)
    arrived: list[tuple[int, float]] = []
    marks: list[tuple[int, float]] = []

    def read() -> bytes:
        size, pause = next(coming, (0, 0.0))
        clock.now += pause
        # The first read is where time begins: what came with it has no beginning of its own.
        arrived.append((size + arrived[-1][0] if arrived else 0, clock.now))
        return bytes(size)

    def note(total: int, seconds: float) -> bool:
        marks.append((total, seconds))
        return False

    link_end.receive(read, note, window_s, clock)
    start = arrived[0][1]
    assert marks[0] == (0, 0.0)
    assert set(marks) <= {(total, moment - start) for total, moment in arrived}
    for before, after in itertools.pairwise(marks):
        assert after[1] - before[1] >= window_s - 1e-9
    # None was left out: whatever came a window after the last mark is one.
    for total, moment in arrived[:-1]:
        last = max(mark[1] for mark in marks if mark[1] <= moment - start)
        assert moment - start - last < window_s or (total, moment - start) in marks


def test_it_stops_reading_when_there_is_enough() -> None:
    clock, reads = Clock(), []

    def read() -> bytes:
        reads.append(clock.now)
        clock.now += 1.0
        return b"x"

    link_end.receive(read, lambda total, seconds: total == 3, 0.5, clock)
    assert len(reads) == 4
    link_end.receive(lambda: b"", lambda total, seconds: pytest.fail("nothing has arrived"), 0.5, clock)


@pytest.mark.parametrize("takes", [1, 1000, 1 << 20])
def test_what_is_sent_cannot_be_compressed_and_goes_on_where_a_short_write_ended(takes: int) -> None:
    written = bytearray()

    def write(data: memoryview) -> int:
        if len(written) > 200 * takes or len(written) > 300_000:
            raise BrokenPipeError
        written.extend(data[:takes])
        return min(takes, len(data))

    link_end.send(write, 60.0)
    assert len(zlib.compress(bytes(written), 9)) >= len(written)


def test_it_sends_the_same_block_again_and_no_longer_than_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_end, "BLOCK_BYTES", 1000)
    clock = Clock()
    written = bytearray()

    def write(data: memoryview) -> int:
        clock.now += 1.0
        written.extend(data[:300])
        return len(data[:300])

    link_end.send(write, 12.0, clock)
    assert len(written) == 12 * 250  # 300, 300, 300, 100, and again
    assert written[:1000] == written[1000:2000] == written[2000:]
    assert len(set(written[:1000])) > 200


@given(st.integers(1, 50), st.lists(st.integers(1, 20), max_size=40), st.integers(1, 7))
def test_whole_messages_come_back_however_they_are_cut(message_bytes: int, pieces: list[int], takes: int) -> None:
    sent = bytes(number % 251 for number in range(sum(pieces)))
    coming = iter(pieces)
    position, rest, returned = 0, 0, bytearray()

    def read(count: int) -> bytes:
        nonlocal position, rest
        rest = rest or next(coming, 0)
        size = min(rest, count)
        position, rest = position + size, rest - size
        return sent[position - size : position]

    def write(data: bytes) -> int:
        returned.extend(data[:takes])
        return min(takes, len(data))

    link_end.answer(read, write, message_bytes)
    assert returned == sent[: len(sent) - len(sent) % message_bytes]


@pytest.mark.parametrize("python", interpreters())
def test_its_text_alone_runs_in_a_python_of_the_device(python: str) -> None:
    source = Path(link_end.__file__).read_text()
    command = [sys.executable, "-I"] if python == "isolated" else [python]

    def run(what: str, value: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*command, "-c", source, what, value], input=data, capture_output=True, timeout=60)

    assert run("answer", "4", b"0123456789").stdout == b"01234567"
    ended = run("receive", "0", bytes(300_000))
    assert ended.stdout.startswith(link_end.READY)
    marks = [json.loads(line) for line in ended.stdout[len(link_end.READY) :].splitlines()]
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert marks[0] == {"bytes": 0, "seconds": 0.0}
    assert 300_000 - link_end.READ_BYTES <= marks[-1]["bytes"] < 300_000
    assert len(run("send", "0.01").stdout) >= link_end.READ_BYTES
