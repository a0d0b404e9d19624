"""The way to the edge: one warm connection, opened in the background, opened again when it breaks."""

import threading
import time
from typing import Callable, List, NamedTuple, Optional

from jetson.client.stream_client import Address, Answer, StreamClient, connect
from jetson.errors import CoopexportError, UnsupportedError
from jetson.stream.hello import Hello

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0


class Arrived(NamedTuple):
    """Answers of one connection, `lost` when it broke with them, in words."""

    client: StreamClient
    answers: List[Answer]
    lost: str = ""


class Edge:
    """Connects to one server and stays connected. Not for several threads; only the connecting is in another one.

    `address`: None where there is no server. `said`: why there is no connection now, or was none last.
    """

    def __init__(
        self,
        address: Optional[Address],
        hello: Hello,
        timeout_s: float = 3.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.said = ""
        self._address, self._hello, self._timeout_s, self._clock = address, hello, timeout_s, clock
        self._client: Optional[StreamClient] = None
        self._retiring: List[StreamClient] = []
        self._attempt: Optional[_Attempt] = None
        self._pause_s = _FIRST_PAUSE_S
        self._next_s = 0.0

    @property
    def is_wanted(self) -> bool:
        """Whether there is a server to connect to."""
        return self._address is not None

    @property
    def client(self) -> Optional[StreamClient]:
        """Return the connection for new requests; None while there is none. Never waits."""
        self._adopt()
        if self._client is not None and not self._client.is_closing:
            return self._client
        # One that asks to be left is used until there is another one: what is asked on it is answered.
        if self._address is not None and self._attempt is None and self._clock() >= self._next_s:
            self._attempt = _Attempt(self._address, self._hello, self._timeout_s)
        return self._client

    def await_client(self, timeout_s: float) -> Optional[StreamClient]:
        """Return the connection for new requests, after waiting at most so long for it."""
        end_s = self._clock() + timeout_s
        while self.client is None and self._clock() < end_s:
            time.sleep(0.005)
        return self.client

    def collect(self, timeout_s: float) -> List[Arrived]:
        """Return what has arrived on all connections; wait at most so long, on the newest one."""
        found: List[Arrived] = []
        clients = self._retiring + ([self._client] if self._client is not None else [])
        for client in clients:
            try:
                answers = client.collect(timeout_s if client is clients[-1] and not found else 0.0)
            except CoopexportError as error:
                found.append(Arrived(client, [], str(error)))
                self._drop(client, str(error))
            else:
                if answers:
                    found.append(Arrived(client, answers))
                client.watch()
                if client in self._retiring and not client.under_way:
                    self._retiring.remove(client)
                    client.close()
        if not clients and timeout_s > 0:
            time.sleep(min(timeout_s, 0.005))
        return found

    def broken(self, client: StreamClient, why: str) -> None:
        """Give up a connection that sent nonsense or broke while it was written to."""
        self._drop(client, why)

    def close(self) -> None:
        """Close all connections."""
        for client in self._retiring + ([self._client] if self._client is not None else []):
            client.close()
        self._client, self._retiring = None, []
        if self._attempt is not None:
            self._attempt.abandon()

    def _adopt(self) -> None:
        attempt = self._attempt
        if attempt is None or attempt.is_running:
            return
        self._attempt = None
        if attempt.client is None:
            self.said = attempt.said
            self._next_s = self._clock() + (_LONGEST_PAUSE_S if attempt.is_final else self._pause_s)
            self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s)
            return
        self.said, self._pause_s = "", _FIRST_PAUSE_S
        if self._client is not None:
            self._retiring.append(self._client)
        self._client = attempt.client

    def _drop(self, client: StreamClient, why: str) -> None:
        client.close()
        self.said = why
        if client in self._retiring:
            self._retiring.remove(client)
        if client is self._client:
            self._client = None
            self._next_s = self._clock()


class _Attempt:
    """One attempt to connect, in a thread of its own: an address that does not answer must not stop a frame."""

    def __init__(self, address: Address, hello: Hello, timeout_s: float) -> None:
        self.client: Optional[StreamClient] = None
        self.said = ""
        self.is_final = False
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, args=(address, hello, timeout_s), daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def abandon(self) -> None:
        """Close what comes of it."""
        self._abandoned = True
        if not self.is_running and self.client is not None:
            self.client.close()

    def _run(self, address: Address, hello: Hello, timeout_s: float) -> None:
        try:
            client = connect(address, hello, timeout_s)
        except CoopexportError as error:
            self.said, self.is_final = str(error), isinstance(error, UnsupportedError)
            return
        self.client = client
        if self._abandoned:
            client.close()
