"""The shaping proxy: nothing arrives before the link could have carried it, all of it arrives, bytes are counted."""

import math
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.links.emulation.profile import LinkProfile, Wire
from benchmarks.links.emulation.proxy import ShapingProxy
from jetson.errors import InputError
from jetson.stream.packets import SEGMENT_PAYLOAD_BYTES, packet_bytes


class Echo:
    """A server that sends back what it gets."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._run, daemon=True).start()
        return self.listener.getsockname()[:2]

    def __exit__(self, *_):
        self.listener.close()

    def _run(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(sock,), daemon=True).start()

    def _echo(self, sock):
        with sock:
            while data := sock.recv(1 << 16):
                sock.sendall(data)


def there_and_back(address, data):
    with socket.create_connection(address) as sock:
        begun_s = time.monotonic()
        threading.Thread(target=sock.sendall, args=(data,), daemon=True).start()
        found = b""
        while len(found) < len(data):
            piece = sock.recv(1 << 16)
            assert piece
            found += piece
        return found, time.monotonic() - begun_s


@pytest.mark.parametrize(
    ("size", "rate_bps", "delay_ms"), [(60, 1e6, 20.0), (20_000, 2e6, 5.0), (200_000, math.inf, 0.0)]
)
def test_all_bytes_arrive_and_none_before_the_link_could_carry_it(size, rate_bps, delay_ms):
    data = bytes(index % 251 for index in range(size))
    with Echo() as echo:
        proxy = ShapingProxy(*echo, LinkProfile(rate_bps, delay_ms))
        found, seconds = there_and_back(proxy.address, data)
        up, down = proxy.counted
        proxy.close()
    assert found == data
    assert up.stream_bytes == down.stream_bytes == size
    assert packet_bytes(size) <= up.wire_bytes
    assert seconds >= 2 * delay_ms / 1000 + 8 * packet_bytes(size) / rate_bps
    if size <= SEGMENT_PAYLOAD_BYTES:
        assert up.wire_bytes == packet_bytes(size)


def test_in_an_outage_nothing_arrives_and_afterwards_all_of_it():
    with Echo() as echo:
        proxy = ShapingProxy(*echo, LinkProfile(is_up=False))
        threading.Timer(0.2, proxy.set, [LinkProfile()]).start()
        found, seconds = there_and_back(proxy.address, b"x" * 5000)
        proxy.close()
    assert found == b"x" * 5000
    assert seconds >= 0.2


def test_a_cut_ends_connections_and_lets_new_ones_in():
    with Echo() as echo:
        proxy = ShapingProxy(*echo, LinkProfile())
        with socket.create_connection(proxy.address) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b"x"
            proxy.cut()
            assert sock.recv(1) == b""
        assert there_and_back(proxy.address, b"again")[0] == b"again"
        proxy.close()


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 5000)), min_size=1), st.floats(1e3, 1e8))
def test_a_wire_is_never_faster_than_its_rate_and_never_idle_while_something_waits(packets, rate_bps):
    wire, before_s, now_s = Wire(), 0.0, 0.0
    for pause_s, size in packets:
        now_s += pause_s
        departs_s = wire.departs_s(size, rate_bps, now_s)
        assert departs_s == pytest.approx(max(now_s, before_s) + 8 * size / rate_bps)
        before_s = departs_s


@pytest.mark.parametrize("values", [{"rate_bps": 0.0}, {"delay_ms": -1.0}, {"rate_bps": math.nan}])
def test_links_that_cannot_be_are_refused(values):
    with pytest.raises(InputError, match="cannot be"):
        LinkProfile(**values)
