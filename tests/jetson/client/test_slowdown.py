"""A device that is slower than this machine: the same results, after at least so many times as long."""

import time

import numpy as np
from cooperation_examples import ALONE, device, frame

from jetson.client.slowdown import slowed


def test_what_is_slowed_gives_the_same_and_takes_that_many_times_as_long():
    plain, slow = device(), slowed(device(), 5.0)
    begun_s = time.perf_counter()
    (found,) = slow.ways[ALONE].compute(frame(3))  # which sleeps for 2 ms
    assert time.perf_counter() - begun_s >= 5 * 0.002
    np.testing.assert_array_equal(found, plain.ways[ALONE].compute(frame(3))[0])
    assert slow.local is slow.ways[ALONE]
    assert slowed(plain, 1.0) is plain
