"""The lock between processes: one holder at a time, released by whatever end, no file left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests_support import STUCK_S

from jetson.files import file_lock
from jetson.files.file_lock import locked

REPOSITORY = Path(file_lock.__file__).parents[2]
HOLDER = """
import sys
from jetson.files.file_lock import locked
with locked(sys.argv[1]) as held:
    print(held, flush=True)
    sys.stdin.read()
"""
COUNTER = """
import sys
from jetson.files.file_lock import locked
for _ in range(int(sys.argv[3])):
    with locked(sys.argv[1]):
        with open(sys.argv[2]) as file:
            count = int(file.read())
        with open(sys.argv[2], "w") as file:
            file.write(str(count + 1))
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-S", "-c", script, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_file_is_there_while_the_lock_is_held(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a.lock"
    with locked(str(path)) as held:
        assert held
        assert path.exists()
    assert list((tmp_path / "locks").iterdir()) == []
    with pytest.raises(RuntimeError), locked(str(path)):
        raise RuntimeError
    assert not path.exists()


def test_a_second_one_waits_and_is_told_so_once(tmp_path: Path) -> None:
    path = str(tmp_path / "a.lock")
    with start(HOLDER, path) as holder:
        assert said(holder) == "True"
        assert holder.stdin is not None
        waits: list[int | None] = []

        def let_go() -> None:
            waits.append(holder.poll())
            holder.stdin.close()  # type: ignore[union-attr]

        with locked(path, let_go):
            assert holder.wait(timeout=STUCK_S) == 0
            assert waits == [None]


def test_a_kill_releases_it(tmp_path: Path) -> None:
    path = str(tmp_path / "a.lock")
    with start(HOLDER, path) as holder:
        assert said(holder) == "True"
        holder.send_signal(signal.SIGKILL)
        with locked(path) as held:
            assert held
    assert not Path(path).exists()


def test_no_two_hold_it_although_the_file_comes_and_goes(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    processes = [start(COUNTER, str(tmp_path / "a.lock"), str(counter), "200") for _ in range(4)]
    assert [process.wait(timeout=STUCK_S) for process in processes] == [0] * 4
    assert counter.read_text() == "800"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter"]


def test_without_locks_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    with locked(str(tmp_path / "file" / "a.lock")) as held:
        assert not held

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with locked(str(tmp_path / "a.lock")) as held:
        assert not held
    assert not (tmp_path / "a.lock").exists()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
