"""The far end of a measured link: sends, receives or answers bytes through its standard streams.

`coopexport probe --link` hands this file to `python3 -c` over ssh, as it is: it stands alone, nothing is copied to the
other machine, and nothing stays there. The near end uses the same functions for what arrives there.
"""

import json
import os
import sys
import time
from typing import Any, Callable, List

READ_BYTES = 1 << 16
# Larger than the window of any compression below ssh: sending it again and again does not make it smaller.
BLOCK_BYTES = 4 << 20
READY = b"ready\n"


def receive(
    read: Callable[[], bytes],
    on_mark: Callable[[int, float], bool],
    window_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Read until the end, and mark how much has arrived by when, every `window_s` seconds or a little later.

    `on_mark` gets the bytes and seconds since the first read, and returns whether that is enough. A mark is always the
    moment at which something arrived, as is the first one (0 bytes, 0 s): ssh hands over whole packets of up to 32 KiB,
    and on a slow link a window of fixed length would hold one packet or none.
    """
    if not read():
        return
    start = last = clock()
    total = 0
    if on_mark(0, 0.0):
        return
    while True:
        data = read()
        if not data:
            return
        now = clock()
        total += len(data)
        if now - last >= window_s:
            last = now
            if on_mark(total, now - start):
                return


def send(write: Callable[[Any], int], seconds: float, clock: Callable[[], float] = time.perf_counter) -> None:
    """Write random bytes, which nothing can compress, until nobody reads them any more, at most for `seconds`."""
    block = memoryview(os.urandom(BLOCK_BYTES))
    end, position = clock() + seconds, 0
    try:
        while clock() < end:
            position += write(block[position : position + READ_BYTES])
            position %= BLOCK_BYTES
    except OSError:
        pass  # the other side has seen enough


def answer(read: Callable[[int], bytes], write: Callable[[bytes], int], message_bytes: int) -> None:
    """Send back every message of `message_bytes` bytes once it is here whole, until there are no more."""
    while True:
        message = read_exactly(read, message_bytes)
        if len(message) < message_bytes:
            return
        try:
            while message:
                message = message[write(message) :]
        except OSError:
            return


def read_exactly(read: Callable[[int], bytes], count: int) -> bytes:
    """Return the next `count` bytes of `read`, fewer where there are no more."""
    parts = []  # type: List[bytes]
    missing = count
    while missing:
        data = read(missing)
        if not data:
            break
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def main(arguments: List[str]) -> None:
    """Run one end on the standard streams: `receive WINDOW_S`, `send SECONDS` or `answer MESSAGE_BYTES`."""
    what, value = arguments
    if what == "receive":
        # Who sends before this process reads fills all buffers on the way, and they would empty faster than the link.
        os.write(1, READY)
        receive(lambda: os.read(0, READ_BYTES), _tell, float(value))
    elif what == "send":
        send(lambda data: os.write(1, data), float(value))
    else:
        answer(lambda count: os.read(0, count), lambda message: os.write(1, message), int(value))


def _tell(total: int, seconds: float) -> bool:
    try:
        os.write(1, (json.dumps({"bytes": total, "seconds": seconds}) + "\n").encode("ascii"))
    except OSError:
        return True  # nobody listens any more
    return False


if __name__ == "__main__":
    main(sys.argv[1:])
