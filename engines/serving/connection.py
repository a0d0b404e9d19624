"""One device's connection, as the server sees it: handshake, requests in, answers out in the order they are ready."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from engines.serving.queue import Queue, Refusal, Request, Result
from engines.serving.release import Release
from engines.serving.served_pair import ServedPair
from jetson.errors import CoopexportError, DamagedFileError, one_line
from jetson.stream import refusals
from jetson.stream.frames import (
    CLOSING,
    HELLO,
    LARGEST_NUMBER,
    PREFACE,
    PROBE,
    PROBED,
    REFUSED,
    REQUEST,
    RESULT,
    WELCOME,
    Bytes,
    Frame,
    FrameReader,
    write_frame,
)
from jetson.stream.hello import MOST_HELLO_BYTES, Welcome, read_hello, welcome_bytes

# Of what one system call takes in.
_READ_BYTES = 1 << 18
_LONGEST_WORDS = 200
_TENTHS_OF_MS = 100  # times go in units of 10 microseconds


@dataclass(frozen=True)
class ConnectionLimits:
    """What one connection may do.

    `most_unsent_bytes`: of answers that a device does not read; then it is closed. `most_silent_s`: for how long a
    device may neither read what is unsent nor go on with a frame that it began.
    """

    most_body_bytes: int = 16 << 20
    most_in_flight: int = 64
    most_unsent_bytes: int = 64 << 20
    most_silent_s: float = 30.0


@dataclass(frozen=True)
class Event:
    """What logs tell of. `what`: hello, refused, malformed, closed, turned away or error."""

    what: str
    device: str
    route: str = ""
    reason: str = ""


class Connection:
    """A device's connection on a socket that does not block; all methods may be called from any thread.

    `find_release`: by a device's wish, None where there is none like it. `on_unsent`: called when the socket takes no
    more for now; `flush` is to be called when it does again.
    """

    def __init__(
        self,
        sock: socket.socket,
        queue: Queue,
        server: str,
        find_release: Callable[[str], Release | None],
        current_name: Callable[[], str],
        limits: ConnectionLimits,
        tell: Callable[[Event], None],
        on_unsent: Callable[[Connection], None],
    ) -> None:
        self.sock = sock
        self.release: Release | None = None
        self.device = ""
        self.closed = False
        self.opened_s = queue.clock()
        self._queue, self._server, self._find_release = queue, server, find_release
        self._current_name, self._limits, self._tell = current_name, limits, tell
        self._on_unsent = on_unsent
        self._has_checksum = not isinstance(sock, ssl.SSLSocket)
        self._preface = bytearray()
        self._reader = FrameReader(MOST_HELLO_BYTES, self._has_checksum, from_server=False)
        self._routes: tuple[ServedPair | None, ...] = ()
        self._in_flight = 0
        self._unsent: deque[Bytes] = deque()
        self._unsent_bytes = 0
        self._moved_s = self.opened_s
        self._lock = threading.Lock()  # of the socket, and of what is unsent
        self._reading = threading.Lock()

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame that is not here whole."""
        return self._reader.pending_bytes

    def is_stuck(self, now_s: float) -> bool:
        """Tell whether the device has stopped in the middle of a frame, or of an answer."""
        is_between = not self._unsent and not self.pending_bytes
        return not is_between and now_s - self._moved_s > self._limits.most_silent_s

    def arm(self, modify: Callable[[bool], None]) -> None:
        """Call `modify` with whether something is unsent, which does not change meanwhile."""
        with self._lock:
            modify(bool(self._unsent))

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits for an answer, or to be sent."""
        return not self._in_flight and not self._unsent

    def receive(self) -> None:
        """Take in what has arrived and let its requests wait; closes the connection at the end, and for nonsense."""
        if not self._reading.acquire(blocking=False):
            return  # the thread that reads it goes on to the end
        try:
            while not self.closed:
                data = self._read()
                if data is None:
                    return
                if not data:
                    self.close()
                    return
                self._moved_s = self._queue.clock()
                for frame in self._frames(data):
                    self._take(frame)
                if len(data) < _READ_BYTES and self._has_checksum:
                    return  # whoever polls is told again
        except CoopexportError as error:
            self._tell(Event("malformed", self.device, reason=str(error)))
            self._refuse(0, refusals.MALFORMED, str(error))
            self.close()
        except OSError:
            self.close()
        finally:
            self._reading.release()

    def flush(self) -> None:
        """Send what could not be sent before."""
        with self._lock:
            self._flush()

    def announce_closing(self) -> None:
        """Ask the device to come back on another connection; requests that it sends until then are answered."""
        if self.release is not None:
            self._send(CLOSING, 0, 0, 0, b"")

    def close(self) -> None:
        """Close the socket; answers that come later are dropped."""
        with self._lock:
            if not self.closed:
                self.closed = True
                self._unsent.clear()
                with contextlib.suppress(OSError):
                    self.sock.shutdown(socket.SHUT_RDWR)

    def _read(self) -> bytes | None:
        """Return what has arrived, b"" at the end, None where nothing has."""
        with self._lock:
            try:
                return self.sock.recv(_READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return None

    def _frames(self, data: bytes) -> list[Frame]:
        missing = len(PREFACE) - len(self._preface)
        if missing:
            self._preface += data[:missing]
            data = data[missing:]
            if bytes(self._preface) != PREFACE[: len(self._preface)]:
                self.close()  # whoever this is does not speak the stream, and would not understand a frame
                return []
        return self._reader.feed(data)

    def _take(self, frame: Frame) -> None:
        if frame.kind == HELLO and self.release is None:
            self._greet(frame)
        elif frame.kind == HELLO:
            raise DamagedFileError("a device says hello once, and this one did it again")
        elif self.release is None:
            self._refuse(frame.sequence, refusals.MALFORMED, "say hello first")
            self.close()
        elif frame.kind == PROBE:
            self._send(PROBED, frame.sequence, 0, 0, b"")
        elif frame.kind == REQUEST:
            self._ask(frame)

    def _greet(self, frame: Frame) -> None:
        hello = read_hello(frame.body)
        device, wanted = one_line(hello.device), one_line(hello.release)
        release = self._find_release(hello.release)
        if release is None:
            words = f"this server has release {self._current_name()}, and the device {wanted}"
            self._tell(Event("refused", device, reason=words))
            self._refuse(frame.sequence, refusals.WRONG_RELEASE, words)
            self.close()
            return
        self.release, self.device = release, device
        self._routes = tuple(release.pairs.get(pair) for pair in hello.pairs)
        limits = self._limits
        self._reader.most_body_bytes = limits.most_body_bytes
        welcome = Welcome(
            release.name, self._server, limits.most_body_bytes, limits.most_in_flight, release.routes_of(hello)
        )
        self._tell(Event("hello", self.device))
        self._send(WELCOME, frame.sequence, 0, 0, welcome_bytes(welcome))

    def _ask(self, frame: Frame) -> None:
        served = self._routes[frame.first] if frame.first < len(self._routes) else None
        if served is None:
            self._refuse(frame.sequence, refusals.UNKNOWN_ROUTE, f"route {frame.first} is not served")
            return
        if self._in_flight >= self._limits.most_in_flight:
            self._refuse(frame.sequence, refusals.BUSY, f"{self._in_flight} requests of this device wait already")
            return
        sequence, route = frame.sequence, f"{served.pair.variant}/{served.pair.layer}"
        deadline_s = self._queue.clock() + frame.second / 1000 if frame.second else float("inf")

        def answer(found: Result | Refusal) -> None:
            with self._lock:
                self._in_flight -= 1
            if isinstance(found, Refusal):
                self._tell(Event("refused", self.device, route, found.words))
                self._refuse(sequence, found.reason, found.words)
                return
            times = (_number(found.queue_ms), _number(found.compute_ms))
            self._send(RESULT, sequence, *times, *found.outputs)  # which fits: plan_pairs has looked

        with self._lock:
            self._in_flight += 1
        refusal = self._queue.put(Request(served, frame.body, deadline_s, answer))
        if refusal is not None:
            answer(refusal)

    def _refuse(self, sequence: int, reason: int, words: str) -> None:
        self._send(REFUSED, sequence, reason, 0, words.encode("utf-8", "replace")[:_LONGEST_WORDS])

    def _send(self, kind: int, sequence: int, first: int, second: int, *body: Bytes) -> None:
        parts = write_frame(kind, sequence, first, second, body, self._has_checksum)
        with self._lock:
            if self.closed:
                return
            if not self._unsent:
                self._moved_s = self._queue.clock()
            self._unsent.append(parts[0] if len(parts) == 1 else b"".join(parts))
            self._unsent_bytes += sum(map(len, parts))
            self._flush()
            waits = bool(self._unsent)
        if waits:
            self._on_unsent(self)

    def _flush(self) -> None:
        """Send as much as the socket takes; the caller holds the lock."""
        while self._unsent and not self.closed:
            data = self._unsent[0]
            try:
                count = self.sock.send(data)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                break
            except OSError:
                self.closed = True
                self._unsent.clear()
                return
            self._unsent_bytes -= count
            self._moved_s = self._queue.clock()
            if count == len(data):
                self._unsent.popleft()
            else:
                self._unsent[0] = memoryview(data)[count:]
        if self._unsent_bytes > self._limits.most_unsent_bytes:
            self.closed = True
            self._unsent.clear()


def _number(time_ms: float) -> int:
    return min(LARGEST_NUMBER, max(0, round(_TENTHS_OF_MS * time_ms)))
