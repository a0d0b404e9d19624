"""A device with two ways, split and alone, whose answers say which frame they are of."""

import time

import numpy as np
from stream_examples import PAIR, release

from jetson.client.cooperation import Cooperation
from jetson.client.device_pairs import DeviceRelease, Way
from jetson.client.edge import Edge
from jetson.runtime.partition_policy import PartitionPolicy
from jetson.stream.frames import with_checksum
from jetson.stream.hello import Hello

SPLIT, ALONE = 0, 1
CANDIDATES = [
    {"layer": "pool1", "device_ms": 0.1, "edge_ms": 0.1, "payload_bytes": 60, "wire_bytes": 190, "loss_points": 0.5},
    {"layer": "output", "device_ms": 30.0, "edge_ms": 0.0, "payload_bytes": 0, "wire_bytes": 0, "loss_points": 0.0},
]


def frame(number):
    return np.full((2, 2, 3), number % 200 + 1, np.uint8)


def device(candidates=CANDIDATES):
    def encode(image):
        return with_checksum(bytes([image[0, 0, 0]]) * 60)

    def compute(image):
        time.sleep(0.002)
        return [np.array([[-1.0, image[0, 0, 0]]], np.float32)]

    ways = {
        SPLIT: Way(SPLIT, PAIR, encode, None, 0.1, 0.1, 60.0),
        ALONE: Way(ALONE, None, None, compute, 30.0, 0.0, 0.0),
    }
    policy = PartitionPolicy([], candidates, {"hysteresis": {"percent": 5.0}, "bound": {}}, [])
    return DeviceRelease("r1", policy, ways, {}, ways[ALONE], ())


class Runs:
    """A device that runs frames and keeps their results."""

    def __init__(self, address, settings):
        self.results = []
        self.edge = Edge(address, Hello("r1", "test", (PAIR,)), timeout_s=1.0)
        self.cooperation = Cooperation(device(), self.edge, {SPLIT: 0}, settings, self.results.append)
        self.count = 0

    def offer(self, count, pause_s=0.0):
        for _ in range(count):
            self.cooperation.offer(frame(self.count))
            self.count += 1
            if pause_s:
                self.cooperation.poll(pause_s)

    def until(self, way, times=10, most_s=30.0):
        """Offer frames until so many in a row were answered this way: how soon depends on how busy the machine is."""
        end_s = time.monotonic() + most_s
        while [result.way for result in self.results[-times:]] != [way] * times:
            assert time.monotonic() < end_s, [result.why_alone for result in self.results[-times:]]
            self.offer(1, 0.01)

    def finish(self):
        self.cooperation.finish()
        self.edge.close()
        assert [result.number for result in self.results] == list(range(self.count))
        for result in self.results:
            assert result.outputs[0][0, 1] == frame(result.number)[0, 0, 0], "the answer of another frame"
        return [result.way for result in self.results]


def checked_release(name="r1"):
    """Return what a server has to serve to such a device."""
    return release(name, is_checked=True)
