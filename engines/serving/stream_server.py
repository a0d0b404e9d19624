"""The framed stream's server: a few threads that share one epoll, each of which reads, computes and answers.

A connection is given to one thread at a time (EPOLLONESHOT). That thread reads its frames, lets the poller have the
connection back, and then works on the queue, so that a lone request goes through without a change of thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable

from engines.serving.connection import Connection, ConnectionLimits, Event
from engines.serving.queue import Queue
from engines.serving.release import Release
from jetson.errors import one_line

_HANDSHAKE_S = 10.0
_POLL_S = 0.5
_SWEEP_S = 1.0
# Of frames that have begun, of all connections together.
_MOST_PENDING_BYTES = 256 << 20
_SPARE_DESCRIPTORS = 64
_DRAIN_POLL_S = 0.01


class StreamServer:
    """Listens on one address, from `start` to `stop`; serves one release, and the one before until its devices left."""

    def __init__(
        self,
        queue: Queue,
        release: Release,
        name: str = "coopexport",
        limits: ConnectionLimits | None = None,
        tls: ssl.SSLContext | None = None,
        tell: Callable[[Event], None] = lambda _: None,
        most_connections: int = 4096,
    ) -> None:
        self._queue, self._name, self._tls, self._told = queue, name, tls, tell
        self._limits = limits or ConnectionLimits()
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_DESCRIPTORS
        self._most_connections = max(1, min(most_connections, descriptors))
        self._release = release
        self._earlier: Release | None = None
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._is_full = False  # then the listener waits for the next sweep
        self._helper = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
        self._stopping = False
        self._draining = False
        self._swept_s = queue.clock()
        self._threads: list[threading.Thread] = []

    def connections(self) -> list[Connection]:
        """Return those that are open."""
        with self._lock:
            return list(self._connections.values())

    def start(self, host: str = "127.0.0.1", port: int = 0) -> tuple[str, int]:
        """Listen; returns the address and port. Raises OSError when the address is taken, or not this machine's."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=1024)
        listener.setblocking(False)
        self._listener = listener
        self._epoll.register(listener.fileno(), select.EPOLLIN | select.EPOLLONESHOT)
        self._epoll.register(self._helper, select.EPOLLIN)
        self._queue.on_waiting = lambda: os.eventfd_write(self._helper, 1)
        for number in range(self._queue.limits.slots + 1):
            thread = threading.Thread(target=self._serve, name=f"stream-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)
        address = listener.getsockname()
        return str(address[0]), int(address[1])

    def swap(self, release: Release) -> None:
        """Serve `release` from now on; who runs the one before is asked to come back, and answered until then."""
        with self._lock:
            self._earlier, self._release = self._release, release
        for connection in self.connections():
            if connection.release is not release:
                connection.announce_closing()

    def stop(self, drain_s: float = 10.0) -> bool:
        """Take no new connections, answer what was asked, close; returns whether all was answered within `drain_s`."""
        if self._stopping:
            return True
        self._draining = True
        if self._listener is not None:
            with contextlib.suppress(OSError, ValueError):
                self._epoll.unregister(self._listener.fileno())
            self._listener.close()
        for connection in self.connections():
            connection.announce_closing()
        end_s = self._queue.clock() + drain_s
        while not (done := self._is_idle()) and self._queue.clock() < end_s:
            time.sleep(_DRAIN_POLL_S)
        self._stopping = True
        for thread in self._threads:
            thread.join(2 * _POLL_S + 1)
        self._queue.on_waiting = lambda: None
        for connection in self.connections():
            self._forget(connection)
        self._epoll.close()
        os.close(self._helper)
        return done

    def _is_idle(self) -> bool:
        return self._queue.drain(0.0) and all(connection.is_idle for connection in self.connections())

    def _find(self, wanted: str) -> Release | None:
        """Return the release of this name, of the present one and the one before; the present one for no name."""
        for release in (self._release, self._earlier):
            if release is not None and wanted in ("", release.name):
                return release
        return None

    def _serve(self) -> None:
        while not self._stopping:
            try:
                for fd, events in self._epoll.poll(_POLL_S, 1):
                    self._handle(fd, events)
                self._queue.work()
                self._sweep()
            except Exception as error:  # noqa: BLE001  whatever one device causes, the thread serves the others
                self._tell(Event("error", "", reason=one_line(f"{type(error).__name__}: {error}")))

    def _handle(self, fd: int, events: int) -> None:
        if fd == self._helper:
            with contextlib.suppress(BlockingIOError):  # another thread was woken as well
                os.eventfd_read(self._helper)
            return
        if self._listener is not None and fd == self._listener.fileno():
            self._accept()
            return
        connection = self._connections.get(fd)
        if connection is None:
            return
        try:
            if events & select.EPOLLOUT:
                connection.flush()
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                connection.receive()
        except Exception:
            connection.close()
            raise
        finally:
            self._arm(connection)

    def _accept(self) -> None:
        listener = self._listener
        if listener is None or self._draining:
            return
        try:
            sock, _ = listener.accept()
        except OSError as error:  # gone again, or no descriptors are left
            self._is_full = error.errno in (errno.EMFILE, errno.ENFILE)
            self._listen_again()
            return
        self._is_full = len(self._connections) >= self._most_connections
        self._listen_again()
        if self._is_full:
            self._tell(Event("turned away", ""))
            sock.close()
            return
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        except OSError:  # who came has gone already
            sock.close()
            return
        connection = Connection(
            sock, self._queue, self._name, self._find, lambda: self._release.name, self._limits, self._tell,
            self._arm,
        )  # fmt: skip
        with self._lock:
            self._connections[sock.fileno()] = connection
        self._epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLONESHOT)

    def _listen_again(self) -> None:
        """Have the listener tell of the next one; after the next sweep where there is no room."""
        if self._listener is not None and not self._is_full:
            with contextlib.suppress(OSError, ValueError):
                self._epoll.modify(self._listener.fileno(), select.EPOLLIN | select.EPOLLONESHOT)

    def _arm(self, connection: Connection) -> None:
        """Have the poller tell when a connection can be read, or written where something is unsent."""
        if connection.closed:
            self._forget(connection)
            return

        def modify(has_unsent: bool) -> None:
            events = select.EPOLLIN | select.EPOLLONESHOT | (select.EPOLLOUT if has_unsent else 0)
            self._epoll.modify(connection.sock.fileno(), events)

        try:
            connection.arm(modify)
        except (OSError, ValueError):
            self._forget(connection)

    def _sweep(self) -> None:
        """Now and then, close connections that broke while they were answered, that are stuck, or never said hello."""
        now_s = self._queue.clock()
        if now_s - self._swept_s < _SWEEP_S:
            return
        self._swept_s = now_s
        pending_bytes = 0
        for connection in sorted(self.connections(), key=lambda one: one.pending_bytes):
            pending_bytes += connection.pending_bytes
            never_greeted = connection.release is None and now_s - connection.opened_s > _HANDSHAKE_S
            if connection.closed or never_greeted or connection.is_stuck(now_s) or pending_bytes > _MOST_PENDING_BYTES:
                self._forget(connection)
        if self._is_full:
            self._is_full = False
            self._listen_again()

    def _tell(self, event: Event) -> None:
        with contextlib.suppress(Exception):  # a log that cannot be written stops no device
            self._told(event)

    def _forget(self, connection: Connection) -> None:
        fd = connection.sock.fileno()
        with self._lock:
            if self._connections.get(fd) is not connection:
                return
            del self._connections[fd]
        connection.close()
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(fd)
        connection.sock.close()
        self._tell(Event("closed", connection.device))
