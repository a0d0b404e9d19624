"""Device memory of the doubles: host memory at integer addresses, and every misuse of it noticed.

Copies and runs that are queued on a stream happen when the stream is synchronised, as late as CUDA may: who reads
before, or lets go of memory that is still needed, gets what he deserves.
"""

import ctypes
import sys

import numpy as np

_POISON = 0xCD
TOTAL_BYTES = 8 << 30


class Misuse(AssertionError):
    """A use of device memory that would crash, or corrupt something, on a real device."""


class HostMemory:
    """All allocations, streams and events. `violations` repeats each Misuse, for callers that swallow exceptions.

    `durations_ms`: what copies `in`, runs and copies `out` take by the clock of the events, `now_ms`.
    """

    def __init__(self, limit_bytes=None):
        self.limit_bytes = limit_bytes
        self.live = {}
        self.freed = set()
        self.streams = {}
        self.violations = []
        self.durations_ms = {}
        self.now_ms = 0.0
        self.events = {}
        self._next_stream = 1000

    def allocate(self, size):
        """Return the address of `size` poisoned bytes, or None when there is no room."""
        self._check(isinstance(size, int) and size > 0, "an allocation of {!r} bytes".format(size))
        if self.limit_bytes is not None and size + sum(len(item) for item in self.live.values()) > self.limit_bytes:
            return None
        block = np.full(size, _POISON, np.uint8)
        address = block.ctypes.data
        self.live[address] = block
        self.freed.discard(address)
        return address

    def free(self, address):
        """Give an allocation back; freeing twice, or an address inside, is misuse."""
        self._check(address not in self.freed, "{} is freed twice".format(address))
        self._check(address in self.live, "{} was never allocated".format(address))
        waiting = [stream for stream, queue in self.streams.items() if queue]
        self._check(not waiting, "memory is freed while streams {} have work".format(waiting))
        del self.live[address]
        self.freed.add(address)

    def information(self):
        """Return how many bytes are free, and how many there are in all."""
        total = TOTAL_BYTES if self.limit_bytes is None else self.limit_bytes
        return total - sum(len(item) for item in self.live.values()), total

    def room(self, address):
        """Return how many bytes there are from `address` on; misuse when it is in no live allocation."""
        for start, block in self.live.items():
            if start <= address < start + len(block):
                return start + len(block) - address
        raise self._misuse("{} is in no live allocation".format(address))

    def read(self, address, size):
        """Return `size` bytes from `address`."""
        self._check(size <= self.room(address), "{} bytes read past an allocation's end".format(size))
        return ctypes.string_at(address, size)

    def write(self, address, content):
        """Write bytes to `address`."""
        self._check(len(content) <= self.room(address), "{} bytes written past an end".format(len(content)))
        ctypes.memmove(address, content, len(content))

    def make_stream(self):
        """Return the handle of a new stream."""
        self._next_stream += 1
        self.streams[self._next_stream] = []
        return self._next_stream

    def queue(self, stream, work, kind=None):
        """Do `work` when `stream` is synchronised; `kind`: what it takes by the clock of the events."""
        self._check(stream in self.streams, "stream {!r} does not exist".format(stream))

        def done():
            work()
            self.spend(kind)

        self.streams[stream].append(done)

    def spend(self, kind):
        """Let the time of a copy `in`, a `run` or a copy `out` go by."""
        self.now_ms += self.durations_ms.get(kind, 0.0)

    def make_event(self):
        """Return the handle of an event that has not been recorded."""
        self._next_stream += 1
        self.events[self._next_stream] = None
        return self._next_stream

    def record_event(self, event, stream):
        """Have an event note the time when the stream comes to it."""
        self._check(event in self.events, "event {!r} does not exist".format(event))
        self.events[event] = None
        self.queue(stream, lambda: self.events.update({event: self.now_ms}))

    def elapsed_ms(self, earlier, later):
        """Return the time between two events; None while one of them has not happened (cudaErrorNotReady)."""
        for event in (earlier, later):
            self._check(event in self.events, "event {!r} does not exist".format(event))
        times = self.events[earlier], self.events[later]
        return None if None in times else times[1] - times[0]

    def destroy_event(self, event):
        """End an event; ending it twice is misuse."""
        self._check(event in self.events, "event {!r} does not exist".format(event))
        del self.events[event]

    def synchronize(self, stream):
        """Do what is queued on a stream."""
        self._check(stream in self.streams, "stream {!r} does not exist".format(stream))
        queue, self.streams[stream] = self.streams[stream], []
        for work in queue:
            work()

    def destroy_stream(self, stream):
        """End a stream, which must have nothing left to do."""
        self._check(not self.streams.get(stream, [None]), "stream {!r} ends with work left".format(stream))
        del self.streams[stream]

    def copy_in(self, address, array, stream):
        """Queue a copy of a whole host array to `address`."""
        self._check(array.nbytes <= self.room(address), "a copy of {} bytes past an end".format(array.nbytes))
        self._check(array.flags["C_CONTIGUOUS"], "a copy of an array that is not contiguous")
        self.queue(stream, lambda: self.write(address, array.tobytes()), "in")

    def copy_out(self, array, address, stream):
        """Queue a copy from `address` that fills a host array."""
        self._check(array.nbytes <= self.room(address), "a copy of {} bytes past an end".format(array.nbytes))
        self._check(array.flags["C_CONTIGUOUS"] and array.flags["WRITEABLE"], "a copy to an array of another kind")
        # The array must be alive: the reference is the double's convenience, the address is what CUDA knows.
        self.queue(
            stream, lambda: ctypes.memmove(array.ctypes.data, self.read(address, array.nbytes), array.nbytes), "out"
        )

    def check_clean(self):
        """Fail for whatever was misused, and for memory and streams that nobody gave back."""
        assert not self.violations, self.violations
        assert not self.live, "{} allocations leak".format(len(self.live))
        assert not self.streams, "{} streams leak".format(len(self.streams))
        assert not self.events, "{} events leak".format(len(self.events))

    def _check(self, holds, what):
        if not holds:
            raise self._misuse(what)

    def _misuse(self, what):
        self.violations.append(what)
        return Misuse(what)


def process_memory():
    """Return the one memory of this process: what allocates and what executes are loaded apart from each other."""
    name = "_tensorrt_doubles_memory"
    if name not in sys.modules:
        sys.modules[name] = HostMemory()
    return sys.modules[name]


def forget_process_memory():
    """Let the next caller of `process_memory` begin with an empty one."""
    sys.modules.pop("_tensorrt_doubles_memory", None)
