"""`run`: frames through this device and its edge server, by a plan, until there are no more."""

import json
import os
import socket
import ssl
import sys
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from jetson.client.cooperation import Cooperation, FrameResult, Settings
from jetson.client.device_pairs import DeviceRelease, open_device_release
from jetson.client.edge import Edge
from jetson.client.frame_sources import frames_of
from jetson.client.slowdown import slowed
from jetson.client.stream_client import Address
from jetson.device.probe import take_probe
from jetson.engines.identity import EngineIdentity
from jetson.errors import InputError
from jetson.files.system_files import device_root
from jetson.stream.hello import DEFAULT_PORT, Hello, Pair

_FIRST_CONNECTION_S = 3.0


class RunOptions(NamedTuple):
    """What `run` is given. `edge`: host:port, "" for none: then the device answers alone.

    `authority`: the PEM file of who signs the server's certificate; then the stream is TLS. `certificate`, `key`: this
    device's own. `rate`: frames per second at most, 0 for as many as can be.
    """

    plan: str
    frames: str
    target: str
    edge: str = ""
    name: str = ""
    deadline_ms: Optional[float] = None
    depth: int = 2
    in_order: bool = True
    way: Optional[int] = None
    authority: Optional[str] = None
    certificate: Optional[str] = None
    key: Optional[str] = None
    repeat: bool = False
    rate: float = 0.0
    slowdown: float = 1.0


def run(options: RunOptions, as_json: bool) -> int:
    """Run until the frames end or it is interrupted; print each result with `as_json`, and a summary; return 0.

    Returns 3 when a frame was not answered.
    """
    release = slowed(
        open_device_release(options.plan, options.target, take_probe(device_root()), _load), options.slowdown
    )
    for number, why in sorted(release.left_out.items()):
        sys.stderr.write("coop-agent: candidate {} is left out: {}\n".format(number, why))
    if options.way is not None and options.way not in release.ways:
        why = release.left_out.get(options.way, "the plan never chooses it; it has {}".format(sorted(release.ways)))
        raise InputError("--way {} cannot be used: {}".format(options.way, why))
    summary = _Summary()

    def on_result(result: FrameResult) -> None:
        summary.add(result)
        if as_json:
            sys.stdout.write(json.dumps(_row(result)) + "\n")
            sys.stdout.flush()

    pairs, routes = pairs_of(release)
    hello = Hello(release.name, options.name or socket.gethostname(), tuple(pairs))
    edge = Edge(_address(options), hello)
    try:
        if options.edge:
            edge.await_client(_FIRST_CONNECTION_S)
        settings = Settings(options.deadline_ms, options.depth, options.in_order, options.way)
        cooperation = Cooperation(release, edge, routes, settings, on_result)
        begun_s = time.monotonic()
        try:
            for number, image in enumerate(frames_of(options.frames, options.repeat)):
                while options.rate and time.monotonic() < begun_s + number / options.rate:
                    cooperation.poll(max(0.0, begun_s + number / options.rate - time.monotonic()))
                cooperation.offer(image)
        except KeyboardInterrupt:
            pass
        cooperation.finish()
        seconds = time.monotonic() - begun_s
    finally:
        edge.close()
        release.close()
    sys.stderr.write(summary.text(release, seconds, cooperation.probe_bytes, edge.said) + "\n")
    return 3 if summary.failed else 0


def pairs_of(release: DeviceRelease) -> Tuple[List[Pair], Dict[int, int]]:
    """Return the pairs of a release for the hello, each once, and of each candidate that crosses its place in them."""
    pairs: List[Pair] = []
    routes: Dict[int, int] = {}
    for number, way in sorted(release.ways.items()):
        if way.pair is not None:
            if way.pair not in pairs:
                pairs.append(way.pair)
            routes[number] = pairs.index(way.pair)
    return pairs, routes


def _address(options: RunOptions) -> Optional[Address]:
    if not options.edge:
        return None
    host, colon, port = options.edge.rpartition(":")
    if not colon:
        host, port = options.edge, str(DEFAULT_PORT)
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError("--edge {} is no address".format(options.edge), fix="give HOST or HOST:PORT")
    return Address(host.strip("[]"), int(port), _tls(options))


def _tls(options: RunOptions) -> Optional[ssl.SSLContext]:
    if options.authority is None:
        if options.certificate is not None or options.key is not None:
            raise InputError(
                "--certificate or --key without --authority", fix="name the PEM file of who signs the server's"
            )
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=options.authority)
        if options.certificate is not None:
            context.load_cert_chain(options.certificate, options.key)
    except (OSError, ValueError) as error:
        raise InputError("the certificates cannot be read: {}".format(error)) from None
    return context


def _load(data: bytes, identity: EngineIdentity) -> Any:
    if identity.backend == "onnxruntime":
        from jetson.onnxruntime_engines.session import load_on_cpu

        return load_on_cpu(data)
    from jetson.tensorrt_engines.library import TENSORRT, open_library
    from jetson.tensorrt_engines.runtime import load_engine

    names = [[tensor["name"] for tensor in tensors] for tensors in (identity.inputs, identity.outputs)]
    return load_engine(
        open_library(TENSORRT), data, dla_core=identity.settings.dla_core, input_names=names[0], output_names=names[1]
    )


def _row(result: FrameResult) -> Dict[str, Any]:
    row = dict(result._asdict())
    row["outputs"] = None if result.outputs is None else [one.tolist() for one in result.outputs]
    return row


class _Summary:
    """Counts results and says what came of them."""

    def __init__(self) -> None:
        self.failed = 0
        self._total_ms: List[float] = []
        self._ways: Dict[int, int] = {}
        self._alone: Dict[str, int] = {}
        self._bytes = [0, 0]

    def add(self, result: FrameResult) -> None:
        if result.outputs is None:
            self.failed += 1
            return
        self._total_ms.append(result.total_ms)
        self._ways[result.way] = self._ways.get(result.way, 0) + 1
        if result.why_alone:
            self._alone[result.why_alone] = self._alone.get(result.why_alone, 0) + 1
        self._bytes[0] += result.sent_bytes
        self._bytes[1] += result.received_bytes

    def text(self, release: DeviceRelease, seconds: float, probe_bytes: int, said: str) -> str:
        """Return the summary, several lines."""
        times = sorted(self._total_ms)
        count = len(times)
        lines = ["{} frames in {:.1f} s, {} of them not answered".format(count + self.failed, seconds, self.failed)]
        if count:
            lines[0] += "; median {:.2f} ms, slowest {:.2f} ms".format(times[count // 2], times[-1])
        for number, of_way in sorted(self._ways.items(), key=lambda item: -item[1]):
            candidate = release.policy.candidates[number]
            lines.append("{} by {} at {}".format(of_way, candidate["variant"], candidate["layer"]))
        for why, of_reason in sorted(self._alone.items(), key=lambda item: -item[1]):
            lines.append("{} by this device alone: {}".format(of_reason, why))
        lines.append("{:,} bytes sent, {:,} received, {:,} of probes".format(*self._bytes, probe_bytes))
        if said:
            lines.append("edge: " + said)
        return os.linesep.join(lines)
