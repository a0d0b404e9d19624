"""A shaping TCP proxy: needs no rights, and terminates TCP, so that it has neither loss nor slow start of its own.

It counts what TCP/IP would add on the emulated link, segment by segment; bytes leave at the link's rate and arrive
after its delay.
"""

from __future__ import annotations

import contextlib
import heapq
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.links.emulation.profile import LinkProfile, Wire
from jetson.stream.packets import SEGMENT_PAYLOAD_BYTES, packet_bytes

_SPIN_S = 0.0003  # a sleep ends late by about so much
_POLL_S = 0.05
# Changes bytes on their way, or returns them as they are: for faults.
Tamper = Callable[[bytes], bytes]


@dataclass
class Counted:
    """What went through one direction, in bytes: of the streams, and with TCP/IP's headers."""

    stream_bytes: int = 0
    wire_bytes: int = 0


@dataclass
class _Direction:
    wire: Wire = field(default_factory=Wire)
    counted: Counted = field(default_factory=Counted)
    lock: threading.Lock = field(default_factory=threading.Lock)


class ShapingProxy:
    """Listens on loopback and passes on to `host`:`port` over an emulated link; `set` changes the link at any time."""

    def __init__(self, host: str, port: int, profile: LinkProfile, seed: int = 0) -> None:
        self.profile = profile
        self.tamper: Tamper | None = None
        self._target = (host, port)
        self._random = random.Random(seed)  # noqa: S311  jitter, no secret
        self._up, self._down = _Direction(), _Direction()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)

    @property
    def address(self) -> tuple[str, int]:
        """Where to connect to instead of the server."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    @property
    def counted(self) -> tuple[Counted, Counted]:
        """Return what went to the server, and what came back."""
        return self._up.counted, self._down.counted

    def set(self, profile: LinkProfile) -> None:
        """Make the link another one, for what is handed over from now on."""
        self.profile = profile

    def retarget(self, host: str, port: int) -> None:
        """Pass new connections on to another server."""
        self._target = (host, port)

    def cut(self) -> None:
        """Break all connections that are open."""
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop; all connections end."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(2.0)

    def _start(self, function: Callable[..., None], *arguments: object) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, 2.0)
            except OSError:
                near.close()
                continue
            for sock in (near, far):
                sock.settimeout(None)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.add(sock)
            for source, sink, direction in ((near, far, self._up), (far, near, self._down)):
                queue = _Queue()
                self._start(self._take, source, queue, direction)
                self._start(self._give, sink, source, queue)

    def _take(self, source: socket.socket, queue: _Queue, direction: _Direction) -> None:
        """Read what a side sends, as long as there is room before the link, and say when it arrives."""
        while True:
            queue.await_room(self.profile.queue_bytes, self._closing)
            try:
                data = source.recv(SEGMENT_PAYLOAD_BYTES)
            except OSError:
                data = b""
            if not data:
                queue.end()
                return
            while not self.profile.is_up and not self._closing.is_set():
                time.sleep(0.005)
            profile = self.profile
            if self.tamper is not None:
                data = self.tamper(data)
            size = packet_bytes(len(data))
            with direction.lock:
                direction.counted.stream_bytes += len(data)
                direction.counted.wire_bytes += int(size)
                left_s = direction.wire.departs_s(size, profile.rate_bps, time.monotonic())
                later_ms = profile.delay_ms + self._random.uniform(0, profile.jitter_ms)
            queue.put(data, left_s, left_s + later_ms / 1000)

    def _give(self, sink: socket.socket, source: socket.socket, queue: _Queue) -> None:
        """Write what has arrived, in order, when its time has come."""
        try:
            while (data := queue.take()) is not None:
                sink.sendall(data)
        except OSError:
            pass
        for sock in (sink, source):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            self._sockets.discard(sock)
        queue.end()
        sink.close()


class _Queue:
    """What is on its way in one direction of one connection."""

    def __init__(self) -> None:
        self._on_way: deque[tuple[float, bytes]] = deque()
        self._leaving: list[tuple[float, int]] = []  # when, and how many bytes
        self._before_link = 0
        self._ended = False
        self._changed = threading.Condition()
        self._last_s = 0.0

    def await_room(self, most_bytes: int, closing: threading.Event) -> None:
        """Sleep until fewer bytes than that wait before the link."""
        while not closing.is_set():
            now_s = time.monotonic()
            while self._leaving and self._leaving[0][0] <= now_s:
                self._before_link -= heapq.heappop(self._leaving)[1]
            if self._before_link < most_bytes or self._ended:
                return
            time.sleep(min(_POLL_S, max(0.0, self._leaving[0][0] - now_s)))

    def put(self, data: bytes, leaves_s: float, arrives_s: float) -> None:
        """Send data off; it arrives no sooner than what was sent before it."""
        self._before_link += len(data)
        heapq.heappush(self._leaving, (leaves_s, len(data)))
        with self._changed:
            self._last_s = max(self._last_s, arrives_s)
            self._on_way.append((self._last_s, data))
            self._changed.notify()

    def end(self) -> None:
        """Say that nothing more comes."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def take(self) -> bytes | None:
        """Return the next data once it has arrived; None at the end."""
        with self._changed:
            while not self._on_way and not self._ended:
                self._changed.wait()
            if not self._on_way:
                return None
            arrives_s, data = self._on_way.popleft()
        left_s = arrives_s - time.monotonic()
        if left_s > _SPIN_S:
            time.sleep(left_s - _SPIN_S)
        while time.monotonic() < arrives_s:
            pass
        return data
