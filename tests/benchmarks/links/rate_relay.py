"""A TCP relay of a known rate and delay: every byte takes its time, the first ones too (a token bucket has a burst)."""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

# What an Ethernet frame holds: a message in one such piece has arrived when its last bit has.
PIECE_BYTES = 1448


@dataclass
class Relay:
    """A running relay. `to_server`, `to_client`: bytes that have passed so far."""

    port: int
    to_server: int = 0
    to_client: int = 0
    threads: list[threading.Thread] = field(default_factory=list)


@contextlib.contextmanager
def rate_relay(server_port: int, to_server_bps: float, to_client_bps: float, one_way_s: float = 0.0) -> Iterator[Relay]:
    """Yield a relay on the loopback to `server_port`, for any number of connections."""
    with socket.socket() as listener:
        # Small buffers, as far as that goes: what waits in them is in no window, but has to be drained by the next.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        relay = Relay(listener.getsockname()[1])

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                server = socket.create_connection(("127.0.0.1", server_port))
                for source, sink, rate_bps, name in (
                    (client, server, to_server_bps, "to_server"),
                    (server, client, to_client_bps, "to_client"),
                ):
                    sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    _start(relay, source, sink, rate_bps, one_way_s, name)

        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        try:
            yield relay
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in relay.threads:
                thread.join()


def _start(
    relay: Relay, source: socket.socket, sink: socket.socket, rate_bps: float, delay_s: float, name: str
) -> None:
    """Pass on what comes out of `source`: one thread sends the pieces one bit after another, another delays them."""
    flying: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def serialise() -> None:
        free = 0.0
        while True:
            # What waits already follows right after the piece before, however late this thread woke up.
            waits = bool(select.select([source], [], [], 0)[0])
            try:
                piece = source.recv(PIECE_BYTES)
            except OSError:
                piece = b""
            free = (free if waits else max(free, time.perf_counter())) + 8 * len(piece) / rate_bps
            flying.put((free + delay_s, piece))
            if not piece:
                return
            _sleep_until(free)

    def deliver() -> None:
        while True:
            arrival, piece = flying.get()
            _sleep_until(arrival)
            try:
                sink.sendall(piece)
            except OSError:
                piece = b""
            if not piece:
                break
            setattr(relay, name, getattr(relay, name) + len(piece))
        for end in (sink, source):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    for run in (serialise, deliver):
        thread = threading.Thread(target=run, daemon=True)
        relay.threads.append(thread)
        thread.start()


def _sleep_until(moment: float) -> None:
    left = moment - time.perf_counter()
    if left > 0:
        time.sleep(left)
