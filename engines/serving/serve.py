"""Serve a plan's tails to devices, until told to stop: what `coopexport serve` does."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engines.serving.connection import ConnectionLimits, Event
from engines.serving.plan_pairs import Batches, OpenRelease, open_release
from engines.serving.queue import Limits, Queue
from engines.serving.stream_server import StreamServer
from engines.targets.target import Target
from exporter.progress import OnProgress, no_progress
from jetson.errors import CoopexportError, InputError
from jetson.stream.hello import DEFAULT_PORT

_WATCH_S = 0.2


@dataclass(frozen=True)
class ServeRequest:
    """What to serve and where. `host`: loopback unless said otherwise; `port`: 0 for any that is free.

    `certificate`, `key`: PEM files of this server: then the stream is TLS; `client_authority`: PEM file of who signs
    devices' certificates: then nobody without one gets an answer. `slots`: tails that compute at once. `batches`: that
    the engines were built for. `drain_s`: how
    long requests that are under way may take when the server stops.
    """

    plan: Path
    target: Target
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    certificate: Path | None = None
    key: Path | None = None
    client_authority: Path | None = None
    slots: int = 1
    batches: Batches = (1, 1, 1)
    most_waiting: int = 256
    most_waiting_bytes: int = 64 << 20
    drain_s: float = 10.0


@dataclass(frozen=True)
class Listening:
    """A server that serves. `refused`: pairs that it does not, by "variant at layer", and why."""

    host: str
    port: int
    release: str
    pairs: tuple[str, ...]
    refused: dict[str, str]
    is_encrypted: bool


@dataclass(frozen=True)
class ServeResult:
    """What came of it. `drained`: whether everything that was asked was answered."""

    drained: bool


def serve_plan(
    request: ServeRequest,
    stop: threading.Event,
    on_listening: Callable[[Listening], None],
    tell: Callable[[Event], None] = lambda _: None,
    on_reload_failed: Callable[[str], None] = lambda _: None,
    on_progress: OnProgress = no_progress,
) -> ServeResult:
    """Serve until `stop` is set; a plan that is replaced by another one meanwhile is served from then on.

    `on_listening`: called at the start, and after every change of plan; `on_reload_failed` gets why a new plan is not
    served: then the one before still is. Raises CoopexportError when the plan or the certificates cannot be used,
    OSError when the address is taken.
    """
    if request.batches[0] != 1:
        raise InputError(
            f"engines for at least {request.batches[0]} samples cannot serve a lone device",
            fix="build them with --batch 1-4-8, and serve with the same",
        )
    tls = _tls(request)
    seen = _signature(request.plan)
    opened = open_release(request.plan, request.target, on_progress, request.batches)
    queue = Queue(Limits(request.most_waiting, request.most_waiting_bytes, request.slots))
    server = StreamServer(queue, opened.release, tls=tls, tell=tell, limits=ConnectionLimits())
    retired: list[OpenRelease] = []
    try:
        host, port = server.start(request.host, request.port)
        on_listening(_listening(opened, host, port, tls))
        while not stop.wait(_WATCH_S):
            retired = _closed_where_left(retired, server)
            now = _signature(request.plan)
            if now in (seen, None):
                continue
            seen = now
            try:
                newer = open_release(request.plan, request.target, on_progress, request.batches)
            except (CoopexportError, OSError) as error:
                on_reload_failed(str(error))
                continue
            server.swap(newer.release)
            retired.append(opened)
            opened = newer
            on_listening(_listening(opened, host, port, tls))
        drained = server.stop(request.drain_s)
    except BaseException:
        drained = server.stop(0.0)
        raise
    finally:
        if drained:  # else a thread may still compute with them
            for one in (*retired, opened):
                one.close()
    return ServeResult(drained)


def _closed_where_left(retired: list[OpenRelease], server: StreamServer) -> list[OpenRelease]:
    """Close the engines of releases that no device has any more; return the others."""
    used = {id(connection.release) for connection in server.connections()}
    kept = []
    for number, one in enumerate(retired):
        if id(one.release) in used or number == len(retired) - 1:  # devices of the last one may still come back
            kept.append(one)
        else:
            one.close()
    return kept


def _listening(opened: OpenRelease, host: str, port: int, tls: ssl.SSLContext | None) -> Listening:
    release = opened.release
    return Listening(
        host,
        port,
        release.name,
        tuple(f"{pair.variant} at {pair.layer}" for pair in release.pairs),
        {f"{pair.variant} at {pair.layer}": why for pair, why in release.refused.items()},
        tls is not None,
    )


def _signature(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is replaced; None while there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _tls(request: ServeRequest) -> ssl.SSLContext | None:
    if request.certificate is None:
        if request.client_authority is not None or request.key is not None:
            raise InputError(
                "certificates of devices are asked for without one of the server", fix="give --certificate"
            )
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(request.certificate, request.key)
        if request.client_authority is not None:
            context.load_verify_locations(request.client_authority)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise InputError(f"the certificates cannot be used: {error}", path=request.certificate) from None
    return context
