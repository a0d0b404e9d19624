"""The store under several real processes, under kills at any instant, and on a full disk."""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from python36 import interpreters
from store_process import engine_of
from tests_support import STUCK_S, files_below, unshare_command

import jetson
from jetson.engines.identity import encode_identity

REPOSITORY = Path(jetson.__file__).parents[1]
SCRIPT = Path(__file__).parents[1] / "store_process.py"
LIMIT_BYTES = 120_000  # six of the twelve engines
DONE = [*map(str, range(100)), "done"]


def command(role: str, root: Path, argument: object = "", python: str = "isolated") -> list[str]:
    # -S: no site-packages, which would be most of the start; nothing of them is needed.
    interpreter = [sys.executable, "-S"] if python == "isolated" else [python]
    return [*interpreter, str(SCRIPT), role, str(root), str(LIMIT_BYTES), str(argument)]


def start(role: str, root: Path, argument: object = "", python: str = "isolated") -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        command(role, root, argument, python),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process prints, once it has."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ended(process: subprocess.Popen[str]) -> list[str]:
    """Return the lines that a process printed, which gets no more input; it has to end well."""
    output, errors = process.communicate(timeout=STUCK_S)
    assert process.returncode == 0, errors
    return output.split()


@pytest.mark.parametrize("python", interpreters())
def test_of_several_processes_one_builds(tmp_path: Path, python: str) -> None:
    log = tmp_path / "log"
    processes = [start("obtain", tmp_path / "store", log, python) for _ in range(4)]
    first = [line_of(process) for process in processes]  # the builder goes on when it gets its input's end
    assert sorted(first) == ["building", "waiting", "waiting", "waiting"]
    builder = processes.pop(first.index("building"))
    assert ended(builder) == ["built"]
    assert [ended(process) for process in processes] == [["reused"]] * 3
    assert log.read_text() == "built\n"
    assert list((tmp_path / "store" / "locks").iterdir()) == []


@pytest.mark.parametrize("python", interpreters())
def test_identities_are_the_same_in_every_python_and_decide_the_same(tmp_path: Path, python: str) -> None:
    (printed,) = ended(start("admit", tmp_path / "store", tmp_path, python))
    assert printed == hashlib.sha256(encode_identity(engine_of(0)[0])).hexdigest()


def test_when_the_builder_is_killed_the_next_one_builds(tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = start("obtain", tmp_path / "store", log)
    assert line_of(first) == "building"
    second = start("obtain", tmp_path / "store", log)
    assert line_of(second) == "waiting"
    first.send_signal(signal.SIGKILL)
    assert ended(second) == ["building", "built"]
    assert log.read_text() == "built\n" * 2
    first.communicate(timeout=STUCK_S)
    assert first.returncode == -signal.SIGKILL


def test_processes_that_add_find_and_evict_at_the_same_time(tmp_path: Path) -> None:
    processes = [start("churn", tmp_path / "store", seed) for seed in range(4)]
    for process in processes:
        assert ended(process) == DONE
    assert ended(start("verify", tmp_path / "store")) == []
    assert not any(name.endswith(".part") for name in files_below(tmp_path / "store"))


def kill_at_random_instants(root: Path, count: int, seed: int) -> int:
    """Start `count` pairs of processes one after the other and kill one of each; returns how often it left a trace."""
    draw = random.Random(seed)
    traces = 0
    for round_ in range(count):
        victim, other = start("churn", root, 1000 + round_), start("churn", root, 2000 + round_)
        for number in range(draw.randrange(1, 90)):
            assert line_of(victim) == str(number)
        victim.send_signal(signal.SIGKILL)
        victim.communicate(timeout=STUCK_S)
        assert victim.returncode in (0, -signal.SIGKILL)
        assert ended(other) == DONE, "a kill hinders nobody else"
        traces += any(".part" in name or name.startswith("locks/") for name in files_below(root))
        assert ended(start("verify", root)) == []
    return traces


def test_a_kill_at_any_instant_leaves_a_whole_store(tmp_path: Path) -> None:
    kill_at_random_instants(tmp_path / "store", 6, seed=1)


@pytest.mark.full
def test_a_hundred_kills(tmp_path: Path) -> None:
    kill_at_random_instants(tmp_path / "store", 100, seed=2)


@pytest.mark.parametrize("instant", range(8))
def test_a_kill_at_each_step_of_writing_leaves_a_whole_store(tmp_path: Path, instant: int) -> None:
    """Steps of `add`: three files flushed and renamed or removed, in whatever order they come."""
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(SCRIPT.parent)!r})
from store_process import add, engine_of, EngineStore, key_of
store = EngineStore({str(tmp_path / "store")!r}, 60000)
for number in range(3):
    add(store, key_of(engine_of(number)[0]), *engine_of(number))
count = 0
def dying(function):
    def call(*arguments, **keywords):
        global count
        if count == {instant}:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        return function(*arguments, **keywords)
    return call
for name in ("replace", "fsync", "unlink"):
    setattr(os, name, dying(getattr(os, name)))
add(store, key_of(engine_of(3)[0]), *engine_of(3))
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    killed = subprocess.run([sys.executable, "-S", "-c", script], env=environment, timeout=STUCK_S, check=False)
    assert killed.returncode == -signal.SIGKILL
    root = tmp_path / "store"
    assert ended(start("verify", root)) == []
    assert ended(start("churn", root, 5)) == DONE
    left = files_below(root)
    assert not any(".part" in name for name in left), left
    assert len([name for name in left if name.startswith("blobs/")]) == len(
        [name for name in left if name.startswith("keys/")]
    )


@pytest.mark.system
def test_a_full_disk_keeps_what_it_has_and_hinders_no_build(tmp_path: Path) -> None:
    unshare = unshare_command()
    if unshare is None:
        pytest.skip("left out: needs its own mounts; run as root, or allow unprivileged user namespaces")
    root = tmp_path / "store"
    root.mkdir()
    script = f"mount -t tmpfs -o size=80k none {root} && {shlex.join(command('fill', root, 8))}"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    filled = subprocess.run(
        [*unshare, script], env=environment, capture_output=True, text=True, timeout=STUCK_S, check=False
    )
    assert filled.returncode == 0, filled.stderr
    assert 0 < int(filled.stdout) < 6


@pytest.mark.system
def test_a_read_only_store_is_read_and_hinders_no_build(tmp_path: Path) -> None:
    unshare = unshare_command()
    if unshare is None:
        pytest.skip("left out: needs its own mounts; run as root, or allow unprivileged user namespaces")
    root, log = tmp_path / "store", tmp_path / "log"
    obtain = shlex.join(command("obtain", root, log))
    root.mkdir()
    script = (
        f"mount -t tmpfs -o size=1m none {root} && mount -o remount,ro {root} && {obtain} && "
        f"mount -o remount,rw {root} && {obtain} && mount -o remount,ro {root} && {obtain}"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    tried = subprocess.run(
        [*unshare, script], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=STUCK_S,
        check=False,
    )  # fmt: skip
    assert tried.returncode == 0, tried.stderr
    assert tried.stdout.split() == ["building", "built", "building", "built", "reused"]
