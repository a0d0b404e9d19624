"""A server of a trivial tail, and clients of it, for tests of the stream."""

import contextlib
import time

import numpy as np

from engines.serving.connection import ConnectionLimits
from engines.serving.queue import Limits, Queue
from engines.serving.release import Release
from engines.serving.served_pair import ServedPair
from engines.serving.stream_server import StreamServer
from jetson.client.stream_client import Address, connect
from jetson.errors import DamagedFileError
from jetson.stream.frames import without_checksum
from jetson.stream.hello import Hello, Output, Pair

PAIR = Pair("pruned", "pool1", "fp32", "feature", "head tail")


def served(run=None, pair=PAIR, is_checked=False):
    """Return a pair whose result is the length of the payload and its first byte.

    `is_checked`: payloads have a checksum in front, as those of real pairs have one of their own.
    """

    def decode(payload):
        if is_checked:
            payload = without_checksum(payload)
        if not payload:
            raise DamagedFileError("an empty message")
        return [np.array([[len(payload), payload[0]]], np.float32)]

    return ServedPair(pair, (Output("y", "float32", (1, 2)),), 8, decode, run or (lambda arrays: [arrays[0]]))


def release(name="r1", run=None, is_checked=False):
    """Return a release of that one pair."""
    return Release(name, {PAIR: served(run, is_checked=is_checked)}, {})


@contextlib.contextmanager
def serving(first=None, limits=None, queue_limits=None, tls=None, tell=lambda _: None):
    """Serve until the block ends; yields server and address."""
    queue = Queue(queue_limits or Limits())
    server = StreamServer(queue, first or release(), limits=limits or ConnectionLimits(), tls=tls, tell=tell)
    try:
        yield server, Address(*server.start())
    finally:
        server.stop(1.0)


@contextlib.contextmanager
def client_of(address, name="r1", pairs=(PAIR,)):
    """Connect, and close in the end."""
    client = connect(address, Hello(name, "test", tuple(pairs)), 5.0)
    try:
        yield client
    finally:
        client.close()


def collect(client, count, timeout_s=10.0):
    """Return so many answers, by sequence number."""
    found, end_s = {}, time.monotonic() + timeout_s
    while len(found) < count and time.monotonic() < end_s:
        for answer in client.collect(0.1):
            assert answer.sequence not in found
            found[answer.sequence] = answer
    assert len(found) == count
    return found
