"""What the framed stream costs: `python -m benchmarks.studies.stream --output docs/stream.md`.

A trivial tail behind `engines.serving`, asked by `jetson.client`, beside a bare socket, in the same interleaved rounds
over loopback; each server is a process of its own. Then 32 devices at once. Takes a minute.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import statistics
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.latency.host import describe_host
from benchmarks.studies.markdown import filled, holds, provenance, table
from benchmarks.studies.page_command import deliver, page_parser, say
from engines.serving.queue import Limits, Queue
from engines.serving.release import Release
from engines.serving.served_pair import ServedPair
from engines.serving.stream_server import StreamServer
from jetson.client.stream_client import Address, StreamClient, connect
from jetson.stream.hello import Hello, Output, Pair

COMMAND = "python -m benchmarks.studies.stream --output docs/stream.md"
SIZES = (1_000, 16_000, 300_000)
REPLY = 4  # float32 numbers
WANTED_RATIO = 2.0
WANTED_RATE, WANTED_P99_MS, DEVICES = 2_000, 30.0, 32
_ROUNDS, _REQUESTS, _RATE_S = 5, 300, 8.0
_PAIR = Pair("trivial", "nothing", "fp32", "feature", "trivial")
_LENGTH = struct.Struct("!I")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code."""
    return deliver(make_page, page_parser(__doc__, "docs/stream.md").parse_args(arguments).output)


def make_page() -> str:
    """Measure, and return the page."""
    host = describe_host()
    with _Server(_serve_stream) as stream, _Server(_serve_bare) as bare:
        say("comparing with a bare socket")
        rows = [_compare(size, stream.address, bare.address) for size in SIZES]
        say(f"{DEVICES} devices at once")
        rate, p99_ms = _load(stream.address)
    introduction = (
        "A payload of some bytes there, 16 bytes back, over loopback; client and server are processes of their own, in "
        f"Python. Median of {_ROUNDS} interleaved rounds of {_REQUESTS} requests. *Bare*: blocking sockets with a "
        "length in front, no handshake, checksum, queue, deadline or route."
    )
    wanted = (
        f"Wanted: at most {WANTED_RATIO:g} times the bare socket. With {DEVICES} devices that ask for 1 kB one after "
        f"the other, at least {WANTED_RATE:,} requests a second, and p99 at most {WANTED_P99_MS:g} ms: "
        f"{rate:,.0f} a second, p99 {p99_ms:.1f} ms; holds: "
        f"{holds(rate >= WANTED_RATE and p99_ms <= WANTED_P99_MS)}."
    )
    header = ("payload bytes", "bare us", "stream us", "ratio", "holds")
    cells = [
        (f"{size:,}", f"{bare_us:.0f}", f"{stream_us:.0f}", f"{stream_us / bare_us:.2f}",
         holds(stream_us <= WANTED_RATIO * bare_us))
        for size, bare_us, stream_us in rows
    ]  # fmt: skip
    where = provenance(host, {"NumPy": np.__version__}, COMMAND)
    title = "# What the framed stream costs"
    return "\n\n".join((title, filled(introduction), table(header, cells, left=0), filled(wanted), where)) + "\n"


def _compare(size: int, stream: tuple[str, int], bare: tuple[str, int]) -> tuple[int, float, float]:
    """Return size, and medians in microseconds of a request to the bare socket and through the stream."""
    client, sock = _client(stream), socket.create_connection(bare)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    payload = os.urandom(size)

    def ask_stream() -> None:
        client.send(0, [payload])
        while not client.collect(1.0):
            pass

    def ask_bare() -> None:
        sock.sendall(_LENGTH.pack(size) + payload)
        _receive(sock, _LENGTH.size + 4 * REPLY)

    medians: dict[Callable[[], None], list[float]] = {ask_bare: [], ask_stream: []}
    for _ in range(_ROUNDS):
        for ask, found in medians.items():
            times = []
            for _ in range(_REQUESTS):
                begun = time.perf_counter()
                ask()
                times.append(time.perf_counter() - begun)
            found.append(1e6 * statistics.median(times))
    client.close()
    sock.close()
    return size, statistics.median(medians[ask_bare]), statistics.median(medians[ask_stream])


def _load(address: tuple[str, int]) -> tuple[float, float]:
    """Return requests a second and the 99th percentile in milliseconds, of many devices in one process."""
    clients = [_client(address) for _ in range(DEVICES)]
    times: list[float] = []
    end_s = time.monotonic() + _RATE_S
    payload = os.urandom(1_000)

    def device(client: StreamClient) -> None:
        while time.monotonic() < end_s:
            begun = time.perf_counter()
            client.send(0, [payload])
            while not client.collect(1.0):
                pass
            times.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=device, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    return len(times) / _RATE_S, 1000 * float(np.percentile(times, 99))


def _client(address: tuple[str, int]) -> StreamClient:
    return connect(Address(*address), Hello("trivial", "study", (_PAIR,)), 5.0)


class _Server:
    """A server in a process of its own."""

    def __init__(self, serve: Callable[[Connection], None]) -> None:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        self._process = context.Process(target=serve, args=(there,), daemon=True)
        self._process.start()
        self.address: tuple[str, int] = here.recv()

    def __enter__(self) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


def _serve_stream(told: Connection) -> None:
    reply = np.zeros((1, REPLY), np.float32)
    served = ServedPair(
        _PAIR, (Output("y", "float32", (1, REPLY)),), 1, lambda payload: [reply], lambda arrays: [arrays[0]]
    )  # fmt: skip
    server = StreamServer(Queue(Limits()), Release("trivial", {_PAIR: served}, {}))
    told.send(server.start())
    threading.Event().wait()


def _serve_bare(told: Connection) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    told.send(listener.getsockname()[:2])
    reply = _LENGTH.pack(4 * REPLY) + bytes(4 * REPLY)
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sock:
            while len(head := _receive(sock, _LENGTH.size)) == _LENGTH.size:
                _receive(sock, _LENGTH.unpack(head)[0])
                sock.sendall(reply)


def _receive(sock: socket.socket, count: int) -> Any:
    """Return the next `count` bytes of a socket that blocks, fewer at the end."""
    data = bytearray(count)
    view, got = memoryview(data), 0
    while got < count and (more := sock.recv_into(view[got:])):
        got += more
    return bytes(data[:got])


if __name__ == "__main__":
    sys.exit(main())
