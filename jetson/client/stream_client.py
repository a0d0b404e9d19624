"""The device's end of the framed stream: one warm connection, several requests under way."""

import collections
import select
import socket
import ssl
import threading
import time
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Sequence, Tuple

from jetson.errors import DamagedFileError, DeviceError, UnsupportedError, one_line
from jetson.stream import refusals
from jetson.stream.frames import (
    CLOSING,
    HELLO,
    LARGEST_NUMBER,
    MOST_BODY_BYTES,
    PREFACE,
    PROBE,
    PROBED,
    REFUSED,
    REQUEST,
    RESULT,
    SEQUENCES,
    WELCOME,
    Bytes,
    Frame,
    FrameReader,
    frame_bytes,
    write_frame,
)
from jetson.stream.hello import Hello, Output, Welcome, hello_bytes, read_welcome

_READ_BYTES = 1 << 18
_HELLO_SEQUENCE = 0
_MOST_SILENT_S = 5.0
_WATCH_S = 0.2  # between two looks at whether the connection is closed


class Address(NamedTuple):
    """Where the server listens. `tls`: how to know it, and what to show it; None for plain TCP."""

    host: str
    port: int
    tls: Optional[ssl.SSLContext] = None


class Answer(NamedTuple):
    """What came back for one request or probe. Times are of this machine's monotonic clock, in seconds.

    `is_exact`: whether `arrived_s` is when it arrived; else it may have waited to be read.

    `outputs`: of a result, as NumPy arrays; None where it was refused, for the `reason` (a number of
    jetson.stream.refusals), and of a probe. `queue_ms`, `compute_ms`: as the server took them, up to 655 ms.
    `sent_bytes`, `received_bytes`: of the frames.
    """

    sequence: int
    sent_s: float
    arrived_s: float
    outputs: Optional[List[Any]] = None
    reason: int = 0
    words: str = ""
    queue_ms: float = 0.0
    compute_ms: float = 0.0
    sent_bytes: int = 0
    received_bytes: int = 0
    is_exact: bool = True


class _Sent(NamedTuple):
    sent_s: float
    route: int
    sent_bytes: int


class StreamClient:
    """A connection that was welcomed. Not for several threads. Any error of it means: close it, and open another.

    `welcome`: what the server said. `is_closing`: it asks to be asked elsewhere; what is under way is still answered.
    """

    def __init__(self, sock: Any, welcome: Welcome, reader: FrameReader, has_checksum: bool) -> None:
        self.welcome = welcome
        self.is_closing = False
        self._sock, self._reader, self._has_checksum = sock, reader, has_checksum
        self._unsent: Deque[Bytes] = collections.deque()
        self._under_way: Dict[int, _Sent] = collections.OrderedDict()
        self._next = 1
        self._heard_s = time.monotonic()
        self._watch = _Watch(sock)

    @property
    def under_way(self) -> int:
        """How many requests and probes have no answer yet."""
        return len(self._under_way)

    @property
    def can_send(self) -> bool:
        """Whether the server takes one more request now."""
        return len(self._under_way) < self.welcome.most_in_flight

    def send(self, route: int, payload: Sequence[Bytes], deadline_ms: float = 0.0) -> int:
        """Send a request, as far as the socket takes it, and return its sequence number.

        `route`: place of the pair in the hello. `payload`: parts, sent one after the other. `deadline_ms`: from now on;
        0 for none, at most 65,535. Raises DeviceError when the connection is lost.
        """
        deadline = 0 if not deadline_ms else max(1, min(LARGEST_NUMBER, int(deadline_ms)))
        return self._send(REQUEST, route, deadline, payload)

    def probe(self, size_bytes: int) -> int:
        """Send that many bytes which the server acknowledges at once; returns the sequence number."""
        return self._send(PROBE, 0, 0, (bytes(size_bytes),))

    def collect(self, timeout_s: float = 0.0) -> List[Answer]:
        """Send what is left, and return the answers that have arrived; wait at most `timeout_s` for the first.

        Raises DeviceError when the connection is lost, or nothing came for seconds although something is under way;
        DamagedFileError for what no server sends.
        """
        now_s = time.monotonic()
        end_s = now_s + timeout_s
        seen_s = self._watch.take()
        while True:
            answers = self._read(seen_s)
            now_s = time.monotonic()
            if answers or now_s >= end_s:
                self._check_heard(now_s)
                return answers
            seen_s = time.monotonic() if self._wait(end_s - now_s) else None

    def watch(self) -> None:
        """Have a thread note when the next answer arrives, while this one computes; `collect` takes it into account."""
        if self._under_way:
            self._watch.begin()

    def _check_heard(self, now_s: float) -> None:
        """Raise DeviceError when the eldest request waits too long, and nothing was heard meanwhile.

        TCP alone would wait for minutes, and then send on what nobody wants any more.
        """
        for sent in self._under_way.values():
            if now_s - max(sent.sent_s, self._heard_s) > _MOST_SILENT_S:
                raise _lost("nothing came for {:.0f} s".format(_MOST_SILENT_S))
            return

    def close(self) -> None:
        """Close the connection; what is under way is lost."""
        self._under_way.clear()
        self._watch.end()
        self._sock.close()

    def _send(self, kind: int, first: int, second: int, payload: Sequence[Bytes]) -> int:
        sequence = self._next
        while sequence in self._under_way or sequence == _HELLO_SEQUENCE:
            sequence = (sequence + 1) % SEQUENCES
        self._next = (sequence + 1) % SEQUENCES
        parts = write_frame(kind, sequence, first, second, payload, self._has_checksum)
        size = sum(len(part) for part in parts)
        self._under_way[sequence] = _Sent(time.monotonic(), first, size)
        self._unsent.append(b"".join(parts) if size <= _READ_BYTES else parts[0])
        if size > _READ_BYTES:
            self._unsent.extend(parts[1:])
        self._flush()
        return sequence

    def _flush(self) -> None:
        while self._unsent:
            data = self._unsent[0]
            try:
                count = self._sock.send(data)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except (OSError, ValueError) as error:
                raise _lost(error) from None
            if count == len(data):
                self._unsent.popleft()
            else:
                self._unsent[0] = memoryview(data)[count:]

    def _wait(self, timeout_s: float) -> bool:
        """Wait until something arrived, or can be sent; flush, and tell whether anything arrived."""
        if isinstance(self._sock, ssl.SSLSocket) and self._sock.pending():
            return True
        try:
            readable, writable, _ = select.select([self._sock], [self._sock] if self._unsent else [], [], timeout_s)
        except (OSError, ValueError) as error:
            raise _lost(error) from None
        if writable:
            self._flush()
        return bool(readable)

    def _read(self, seen_s: Optional[float]) -> List[Answer]:
        """Return what has arrived; `seen_s`: when the first of it did, None where nobody looked."""
        answers: List[Answer] = []
        if self._unsent:
            self._flush()
        while True:
            try:
                data = self._sock.recv(_READ_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return answers
            except (OSError, ValueError) as error:
                raise _lost(error) from None
            if not data:
                raise _lost("the server closed it")
            self._heard_s = time.monotonic()
            for frame in self._reader.feed(data):
                arrived_s = self._heard_s if seen_s is None or answers else seen_s
                answer = self._answer(frame, arrived_s)
                if answer is not None:
                    answers.append(answer._replace(is_exact=seen_s is not None and not answers))
            if answers:
                return answers
            seen_s = None  # what completes an answer later, arrived later

    def _answer(self, frame: Any, arrived_s: float) -> Optional[Answer]:
        if frame.kind == CLOSING:
            self.is_closing = True
            return None
        if frame.kind == REFUSED and frame.sequence == _HELLO_SEQUENCE:
            raise DeviceError("the server closes the connection: {}".format(_words(frame)))
        sent = self._under_way.pop(frame.sequence, None)
        if sent is None:
            raise DamagedFileError("the server answers request {}, which was not asked".format(frame.sequence))
        size = frame_bytes(len(frame.body), self._has_checksum)
        answer = Answer(frame.sequence, sent.sent_s, arrived_s, sent_bytes=sent.sent_bytes, received_bytes=size)
        if frame.kind == RESULT:
            outputs = _arrays(frame.body, self.welcome.routes[sent.route].outputs)
            return answer._replace(outputs=outputs, queue_ms=frame.first / 100.0, compute_ms=frame.second / 100.0)
        if frame.kind == REFUSED:
            return answer._replace(reason=frame.first, words=_words(frame))
        if frame.kind != PROBED:
            raise DamagedFileError("the server answers a request with a frame of kind {}".format(frame.kind))
        return answer


class _Watch:
    """A thread that notes when a socket can be read, while its owner computes: what then waits is no slower link."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._seen_s: Optional[float] = None
        self._asked = threading.Event()
        self._lock = threading.Lock()
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Watch for the next arrival, unless one was seen that is not read yet."""
        with self._lock:
            if self._seen_s is None:
                self._asked.set()

    def take(self) -> Optional[float]:
        """Return since when there is something to read, None where that is not known, and watch no more."""
        with self._lock:
            seen_s, self._seen_s = self._seen_s, None
            self._asked.clear()
        return seen_s

    def end(self) -> None:
        """End the thread; it is gone before the socket is closed, whose number may then be another one's."""
        self._over = True
        self._asked.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._asked.wait()
            if self._over:
                return
            try:
                readable, _, _ = select.select([self._sock], [], [], _WATCH_S)
            except (OSError, ValueError):
                return
            now_s = time.monotonic()
            with self._lock:
                if readable and self._asked.is_set() and not self._over:
                    self._asked.clear()
                    self._seen_s = now_s


def connect(address: Address, hello: Hello, timeout_s: float) -> StreamClient:
    """Connect and shake hands within `timeout_s`; raises DeviceError, and UnsupportedError when the server refuses."""
    end_s = time.monotonic() + timeout_s
    where = "{}:{}".format(address.host, address.port)
    try:
        sock: Any = socket.create_connection((address.host, address.port), timeout_s)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or one_line(error)
        raise DeviceError("{} cannot be reached: {}".format(where, why)) from None
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if address.tls is not None:
            sock.settimeout(_left(end_s))
            sock = address.tls.wrap_socket(sock, server_hostname=address.host)
        has_checksum = address.tls is None
        reader = FrameReader(MOST_BODY_BYTES, has_checksum, from_server=True)
        parts = write_frame(HELLO, _HELLO_SEQUENCE, 0, 0, [hello_bytes(hello)], has_checksum)
        sock.settimeout(_left(end_s))
        sock.sendall(PREFACE + b"".join(parts))
        welcome = _welcome(sock, reader, end_s, where)
        if len(welcome.routes) != len(hello.pairs):
            raise DamagedFileError(
                "{} answers of {} pairs, asked were {}".format(where, len(welcome.routes), len(hello.pairs))
            )
        sock.setblocking(False)
    except (OSError, ValueError) as error:
        sock.close()
        why = "no answer in {:.1f} s".format(timeout_s) if isinstance(error, socket.timeout) else one_line(error)
        raise DeviceError("{} does not let this device in: {}".format(where, why)) from None
    except Exception:
        sock.close()
        raise
    return StreamClient(sock, welcome, reader, has_checksum)


def _welcome(sock: Any, reader: FrameReader, end_s: float, where: str) -> Welcome:
    while True:
        sock.settimeout(_left(end_s))
        data = sock.recv(_READ_BYTES)
        if not data:
            raise DeviceError("{} closed the connection in the handshake: is it a coopexport server?".format(where))
        for frame in reader.feed(data):
            if frame.kind == WELCOME:
                return read_welcome(frame.body)
            if frame.kind == REFUSED:
                raise UnsupportedError("{}: {}".format(where, _words(frame)))
            raise DamagedFileError("{} greets with a frame of kind {}".format(where, frame.kind))


def _words(frame: Frame) -> str:
    """Return why a server refuses something."""
    return one_line(frame.body.decode("utf-8", "replace")) or refusals.words_of(frame.first)


def _left(end_s: float) -> float:
    left_s = end_s - time.monotonic()
    if left_s <= 0:
        raise socket.timeout("timed out")
    return left_s


def _arrays(body: bytes, outputs: Tuple[Output, ...]) -> List[Any]:
    """Return a result's arrays, each its own memory; raises DamagedFileError unless the body is just these."""
    import numpy as np

    arrays, offset = [], 0
    for output in outputs:
        dtype = np.dtype(output.dtype).newbyteorder("<")
        count = 1
        for size in output.shape:
            count *= size
        if len(body) < offset + count * dtype.itemsize:
            raise DamagedFileError("a result of {} bytes is too short for its outputs".format(len(body)))
        array = np.frombuffer(body, dtype, count, offset).reshape(output.shape)
        arrays.append(array.astype(dtype.newbyteorder("=")))
        offset += count * dtype.itemsize
    if offset != len(body):
        raise DamagedFileError("a result of {} bytes, its outputs have {}".format(len(body), offset))
    return arrays


def _lost(why: Any) -> DeviceError:
    words = why.strerror if isinstance(why, OSError) and why.strerror else one_line(why)
    return DeviceError("the connection to the server is lost: {}".format(words))
