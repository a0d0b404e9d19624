"""Frames through device and edge: each answered once, in order, in time, whatever the edge does."""

import numpy as np
import pytest
from cooperation_examples import ALONE, SPLIT, Runs, checked_release, device, frame
from stream_examples import serving

from benchmarks.links.emulation.profile import LinkProfile
from benchmarks.links.emulation.proxy import ShapingProxy
from jetson.client.cooperation import Cooperation, Settings
from jetson.client.stream_client import Address
from jetson.errors import DeviceError
from jetson.stream.hello import Route, Welcome


def test_frames_go_to_the_edge_once_the_link_is_known():
    with serving(checked_release()) as (_, address):
        runs = Runs(address, Settings())
        runs.until(SPLIT, 30)
        runs.finish()
    assert all(not result.why_alone for result in runs.results if result.way == SPLIT)
    assert runs.results[-1].sent_bytes == 60 + 4 + 14


def test_without_an_edge_the_device_answers_alone():
    runs = Runs(Address("127.0.0.1", 1), Settings(deadline_ms=200.0))
    runs.offer(5, 0.01)
    assert runs.finish() == [ALONE] * 5
    assert "cannot be reached" in runs.results[-1].why_alone


def test_a_server_that_dies_costs_no_frame_and_its_successor_is_found():
    with serving(checked_release()) as (_, first), serving(checked_release()) as (server, second):
        proxy = ShapingProxy(second.host, second.port, LinkProfile())
        runs = Runs(Address(*proxy.address), Settings(deadline_ms=200.0))
        runs.until(SPLIT)
        server.stop(1.0)
        runs.until(ALONE)
        proxy.retarget(first.host, first.port)
        runs.until(SPLIT)
        runs.finish()
        proxy.close()


@pytest.fixture
def shaped():
    with serving(checked_release()) as (_, address):
        proxy = ShapingProxy(address.host, address.port, LinkProfile(2e7, 0.5))
        runs = Runs(Address(*proxy.address), Settings(deadline_ms=120.0))
        runs.edge.await_client(5.0)
        yield proxy, runs
        proxy.close()


def test_an_outage_is_answered_alone_and_the_edge_used_again_afterwards(shaped):
    proxy, runs = shaped
    runs.until(SPLIT)
    proxy.set(LinkProfile(2e7, 0.5, is_up=False))
    runs.until(ALONE)
    proxy.set(LinkProfile(2e7, 0.5))
    runs.until(SPLIT)
    runs.finish()


def test_a_connection_that_breaks_costs_no_frame(shaped):
    proxy, runs = shaped
    for _ in range(4):
        runs.offer(20, 0.002)
        proxy.cut()
    runs.until(SPLIT)
    runs.finish()


def test_bytes_that_change_on_the_way_never_become_an_answer(shaped):
    proxy, runs = shaped
    runs.offer(30)
    state = {"count": 0}

    def tamper(data):
        state["count"] += 1
        if state["count"] % 3:
            return data
        return data[:-1] + bytes([data[-1] ^ 0x10])

    proxy.tamper = tamper
    runs.offer(60, 0.005)
    proxy.tamper = None
    runs.offer(20, 0.005)
    runs.finish()  # every answer is that of its own frame


class SilentEdge:
    """An edge that welcomes and then never answers; waiting for it is the only thing that takes time."""

    is_wanted, said = True, ""

    def __init__(self):
        self.now_s, self.sent = 50.0, []
        self.client = self
        self.can_send, self.welcome = True, Welcome("r1", "silent", 1 << 20, 64, (Route(),))

    def send(self, route, payload, deadline_ms):
        self.sent.append(deadline_ms)
        return len(self.sent)

    def probe(self, size_bytes):
        return 1000

    def watch(self):
        pass

    def collect(self, timeout_s):
        self.now_s += timeout_s
        return []


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_frame_that_the_edge_never_answers_is_answered_alone_within_its_deadline(depth):
    edge, results = SilentEdge(), []
    release_ = device()

    def compute(image):
        edge.now_s += 0.030  # as the plan says
        return [np.array([[-1.0, image[0, 0, 0]]], np.float32)]

    ways = {**release_.ways, ALONE: release_.ways[ALONE]._replace(compute=compute)}
    release_ = release_._replace(ways=ways, local=ways[ALONE])
    runs = Cooperation(
        release_, edge, {SPLIT: 0}, Settings(deadline_ms=250.0, depth=depth, way=SPLIT), results.append,
        lambda: edge.now_s,
    )  # fmt: skip
    for number in range(20):
        runs.offer(frame(number))
        runs.poll(0.005)
    runs.finish()
    assert [result.number for result in results] == list(range(20))
    assert max(result.total_ms for result in results) <= 250.0
    assert 0 < len(edge.sent) < 20  # it is tried, and then left alone
    assert edge.sent[0] == pytest.approx(250.0)


@pytest.mark.parametrize("has_probe", [False, True])
def test_a_connection_that_breaks_while_it_is_written_to_orphans_nothing(has_probe):
    class Breaking(SilentEdge):
        def broken(self, client, why):
            self.client = None

        def send(self, route, payload, deadline_ms):
            if self.sent:
                raise DeviceError("the connection to the server is lost: reset")
            return super().send(route, payload, deadline_ms)

    edge, results, release_ = Breaking(), [], device()
    way = None if has_probe else SPLIT
    runs = Cooperation(release_, edge, {SPLIT: 0}, Settings(way=way), results.append, lambda: edge.now_s)
    for number in range(5):
        runs.offer(frame(number))
    runs.finish()
    assert [result.number for result in results] == list(range(5))


def test_without_a_network_of_its_own_a_device_says_so_at_the_deadline():
    edge, results, release_ = SilentEdge(), [], device()
    release_ = release_._replace(ways={SPLIT: release_.ways[SPLIT]}, local=None)
    runs = Cooperation(
        release_, edge, {SPLIT: 0}, Settings(deadline_ms=100.0, way=SPLIT), results.append, lambda: edge.now_s
    )
    for number in range(3):
        runs.offer(frame(number))
    runs.finish()
    assert [result.number for result in results] == [0, 1, 2]
    assert all(result.outputs is None and result.failure for result in results)


def test_a_wrong_release_is_said_and_the_device_goes_on_alone():
    with serving(checked_release("another")) as (_, address):
        runs = Runs(address, Settings())
        runs.edge.await_client(0.5)
        runs.offer(3)
        assert runs.finish() == [ALONE] * 3
    assert "release another" in runs.results[-1].why_alone


def test_results_may_come_as_they_are_ready():
    with serving(checked_release()) as (_, address):
        runs = Runs(address, Settings(in_order=False, depth=4))
        runs.edge.await_client(5.0)
        runs.offer(60)
        runs.cooperation.finish()
        runs.edge.close()
    assert sorted(result.number for result in runs.results) == list(range(60))


def test_a_swap_of_the_server_moves_the_device_without_a_gap():
    with serving(checked_release()) as (server, address):
        runs = Runs(address, Settings())
        runs.until(SPLIT)
        before = runs.count
        server.swap(checked_release())
        runs.offer(20, 0.005)
        runs.finish()
    assert [result.way for result in runs.results[before:]] == [SPLIT] * 20
