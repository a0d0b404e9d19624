"""Whatever happens to link and server, every frame has one answer, the right one, and nothing leaks."""

import random
import threading
import time
from pathlib import Path

import pytest
from cooperation_examples import SPLIT, Runs, checked_release
from stream_examples import serving

from benchmarks.links.emulation.profile import LinkProfile
from benchmarks.links.emulation.proxy import ShapingProxy
from jetson.client.cooperation import Settings
from jetson.client.stream_client import Address

GOOD = LinkProfile(2e7, 1.0)


class Faults:
    """A server behind an emulated link, and what may happen to them."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.context = serving(checked_release())
        self.server, address = self.context.__enter__()
        self.proxy = ShapingProxy(address.host, address.port, GOOD, seed)
        self.happened, self.to_come = [], []

    def strike(self):
        """Let one thing happen; what lasts is over after the next one."""
        self.proxy.set(GOOD)
        self.proxy.tamper = None
        if not self.to_come:
            self.to_come = ["nothing", "cut", "outage", "delay", "corrupt", "restart", "swap"]
            self.random.shuffle(self.to_come)
        fault = self.to_come.pop()
        self.happened.append(fault)
        if fault == "cut":
            self.proxy.cut()
        elif fault == "outage":
            self.proxy.set(LinkProfile(2e7, 1.0, is_up=False))
        elif fault == "delay":
            self.proxy.set(LinkProfile(2e7, 2000.0))
        elif fault == "corrupt":
            self.proxy.tamper = self.corrupt
        elif fault == "restart":
            self.context.__exit__(None, None, None)
            self.context = serving(checked_release())
            self.server, address = self.context.__enter__()
            self.proxy.retarget(address.host, address.port)
        elif fault == "swap":
            self.server.swap(checked_release())

    def corrupt(self, data):
        if self.random.random() < 0.7:
            return data
        place = self.random.randrange(len(data))
        return data[:place] + bytes([data[place] ^ 1 << self.random.randrange(8)]) + data[place + 1 :]

    def end(self):
        self.proxy.close()
        self.context.__exit__(None, None, None)


@pytest.mark.parametrize(("seed", "count"), [(1, 500), pytest.param(2, 10_000, marks=pytest.mark.full)])
def test_every_frame_is_answered_once_and_right(seed, count):
    threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    faults = Faults(seed)
    runs = Runs(Address(*faults.proxy.address), Settings(deadline_ms=250.0))
    runs.edge.await_client(5.0)
    while runs.count < count:
        runs.offer(min(count - runs.count, faults.random.randint(20, 80)), 0.005)
        faults.strike()
    ways = runs.finish()  # checks numbers, order and that each answer is of its own frame
    faults.end()
    assert len(set(faults.happened)) == 7
    by_edge = ways.count(SPLIT)
    assert 10 <= by_edge <= count - 10, f"the edge answered {by_edge}: this run says nothing of the other way"
    end_s = time.monotonic() + 5.0
    while time.monotonic() < end_s and threading.active_count() > threads:
        time.sleep(0.05)
    assert threading.active_count() <= threads
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors + 1
