"""Bytes over a link, through ssh: in bulk from the other machine and to it, and small messages there and back.

Every stream has an ssh connection of its own. Times are taken where bytes arrive: what a sender has handed over may
still wait in the buffers of pipes, ssh and TCP, megabytes of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engines.device_builds import ssh
from engines.device_builds.ssh import Connection
from jetson.agent import link_end
from jetson.errors import DeviceError

# Gets bytes and seconds since the first arrival; returns whether that is enough.
OnMark = Callable[[int, float], bool]
# What the first bytes may take: to connect, to log in, to start Python there.
_FIRST_S = 60.0
_UNTIMED_MESSAGES = 3
_CHECK = "command -v python3 >/dev/null || { echo 'there is no python3 there; install it' >&2; exit 4; }"


@dataclass(frozen=True)
class _Stream:
    """A running far end. `write_fd` and `read_fd`: its standard input and output, as they come out of ssh here."""

    connection: Connection
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    write_fd: int
    read_fd: int

    def failure(self, doing: str, started: bool) -> DeviceError:
        """Return why the stream ended before we had enough; waits for ssh to end."""
        code = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace")
        if code == ssh.SSH_FAILED and started:
            words = f"the connection to {self.connection.name} was lost while {doing} ({ssh.last_line(said)})"
            return DeviceError(words, fix="run the same command again")
        return ssh.failure(self.connection, code, said, ssh.CONNECTING if code == ssh.SSH_FAILED else doing)


def receive_bulk(name: str, on_mark: OnMark, window_s: float, limit_s: float) -> None:
    """Have `name` ("user@host:port") send random bytes, until `on_mark` has enough or `limit_s` have passed.

    Raises CoopexportError when the machine cannot be reached, has no python3, or the connection is lost.
    """
    with _far_end(name, "send", str(_FIRST_S + limit_s)) as stream:
        reader = _Reader(stream.read_fd, limit_s)
        link_end.receive(reader.read, _remembering(reader, on_mark), window_s)
        _check_ended(stream, reader, "measuring how fast it sends")


def send_bulk(name: str, on_mark: OnMark, window_s: float, limit_s: float) -> None:
    """Send random bytes to `name`, as above; it tells what has arrived there by when."""
    with _far_end(name, "receive", str(window_s)) as stream:
        write_fd = stream.write_fd
        feeder = threading.Thread(
            target=link_end.send, args=(lambda data: os.write(write_fd, data), _FIRST_S + limit_s), daemon=True
        )
        reader = _Reader(stream.read_fd, limit_s)
        try:
            _await_ready(stream, reader)
            feeder.start()
            enough = _remembering(reader, on_mark)
            rest = b""
            while not reader.enough and (data := reader.read()):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    mark = _mark(line)
                    if mark is not None and enough(*mark):
                        break
            _check_ended(stream, reader, "measuring how fast it receives")
        finally:
            stream.process.kill()
            if feeder.ident is not None:
                feeder.join()  # before the pipe that it writes into is closed


def _await_ready(stream: _Stream, reader: _Reader) -> None:
    """Read until the far end says that it reads; raises CoopexportError when it never does."""
    said = b""
    while not said.endswith(link_end.READY):
        data = reader.read()
        if not data:
            _check_ended(stream, reader, "measuring how fast it receives")
            raise DeviceError(f"{stream.connection.name} does not say that it receives")
        said += data


def time_messages(name: str, message_bytes: int, count: int, limit_s: float) -> list[float]:
    """Send `count` messages to `name` and back, one after another; return the milliseconds that each took.

    All go through one channel that is open already: the first ones, which wait for it, are not kept. Fewer where
    `limit_s` have passed. Raises CoopexportError as above, and when other bytes come back.
    """
    samples_ms = []
    message = os.urandom(message_bytes)
    with _far_end(name, "answer", str(message_bytes)) as stream:
        reader = _Reader(stream.read_fd, limit_s)
        for number in range(_UNTIMED_MESSAGES + count):
            begin = time.perf_counter()
            try:
                os.write(stream.write_fd, message)
            except BrokenPipeError:
                raise stream.failure("timing messages", reader.started) from None
            returned = link_end.read_exactly(reader.read, message_bytes)
            end = time.perf_counter()
            if returned != message[: len(returned)]:
                raise DeviceError(
                    f"{name} prints {returned[:80].decode(errors='replace')!r} instead of what was sent: have its "
                    f"login script say nothing in a session without a terminal (ssh {name} true has to print nothing)"
                )
            if len(returned) < message_bytes:
                _check_ended(stream, reader, "timing messages")
                break
            if number >= _UNTIMED_MESSAGES:
                samples_ms.append(1000 * (end - begin))
    return samples_ms


@contextlib.contextmanager
def _far_end(name: str, what: str, value: str) -> Iterator[_Stream]:
    connection = ssh.apart(name)
    source = Path(link_end.__file__).read_text(encoding="utf-8")
    script = f"{_CHECK}; exec {shlex.join(['python3', '-c', source, what, value])}"
    with tempfile.TemporaryFile() as errors:
        command = [*connection.command, ssh.remote_command(script)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0)
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdin, process.stdout:
            try:
                yield _Stream(connection, process, errors, process.stdin.fileno(), process.stdout.fileno())
            finally:
                process.kill()
                process.wait()


class _Reader:
    """Reads what comes, for `limit_s` seconds from the first byte on; then, as at the end, there is nothing more."""

    def __init__(self, fd: int, limit_s: float) -> None:
        self._fd, self._limit_s = fd, limit_s
        self._end = time.perf_counter() + _FIRST_S
        self.started = self.late = self.enough = False

    def read(self, count: int = link_end.READ_BYTES) -> bytes:
        """Return the next bytes, at most `count`; none at the end, and when the time is over."""
        left_s = max(0.0, self._end - time.perf_counter())
        if left_s == 0 or not select.select([self._fd], [], [], left_s)[0]:
            self.late = True
            return b""
        data = os.read(self._fd, count)
        if data and not self.started:
            self.started, self._end = True, time.perf_counter() + self._limit_s
        return data


def _remembering(reader: _Reader, on_mark: OnMark) -> OnMark:
    def told(total: int, seconds: float) -> bool:
        reader.enough = on_mark(total, seconds)
        return reader.enough

    return told


def _check_ended(stream: _Stream, reader: _Reader, doing: str) -> None:
    """Raise DeviceError unless the stream ended because there was enough, or the time was over."""
    if reader.enough or (reader.late and reader.started):
        return
    if reader.late:
        raise DeviceError(f"{stream.connection.name} sent nothing in {_FIRST_S:.0f} s")
    raise stream.failure(doing, reader.started)


def _mark(line: bytes) -> tuple[int, float] | None:
    """Return bytes and seconds of a line of the far end; None for a line that is none of its own."""
    try:
        content = json.loads(line)
        return int(content["bytes"]), float(content["seconds"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
