"""Frame after frame through device and edge: the cut as the link has it, and the device alone where the edge fails.

One thread does all of it. While a frame travels the next one's head runs; whatever the edge does, a frame that would be
late without it is answered by the device's own network, once.
"""

import collections
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from jetson.client.chooser import Chooser
from jetson.client.device_pairs import DeviceRelease, Way
from jetson.client.edge import Edge
from jetson.client.link_estimate import CHANGED_RUN, LinkEstimate
from jetson.client.stream_client import Answer, StreamClient
from jetson.errors import CoopexportError
from jetson.stream.packets import packet_bytes
from jetson.stream.refusals import words_of

# The device's own network is begun while this much is left beside what it takes.
_MARGIN_MS, _LOCAL_SHARE = 5.0, 1.2
# After so many frames in a row that the edge failed, it is left alone for a while, which doubles.
_MOST_FAILURES = 2
_FIRST_REST_S, _LONGEST_REST_S = 0.5, 8.0
# Sixty bytes say nothing of a goodput; these do. None is sent sooner after the one before, however little is known.
PROBE_BYTES, PROBE_PAUSE_S = 8192, 0.5
_FIRST_PROBES = 3
# While the device is alone nothing tells of the link; empty messages now and then do.
_SILENT_S = 2.0
_WEIGHT = 0.3
_FOREVER_S = 60.0


class Settings(NamedTuple):
    """How frames are run. `deadline_ms`: from taking a frame to its result; None for none.

    `depth`: frames that may be under way to the edge at once. `in_order`: results come in the order of the frames.
    `way`: a candidate that is always used where it can be, instead of the plan's choice.
    """

    deadline_ms: Optional[float] = None
    depth: int = 2
    in_order: bool = True
    way: Optional[int] = None


class FrameResult(NamedTuple):
    """What a frame gave. `way`: the candidate that answered it. `failure`: why it has no outputs; "" where it has.

    `why_alone`: why the device answered though another way was chosen; "" elsewhere. Times in milliseconds: `device_ms`
    of what the device computed, `link_ms` on the way, `edge_ms` at the server with its queue, `total_ms` from taking
    the frame to its result.
    """

    number: int
    outputs: Optional[List[Any]]
    way: int
    why_alone: str
    failure: str
    device_ms: float
    link_ms: float
    edge_ms: float
    total_ms: float
    sent_bytes: int
    received_bytes: int


class _Flying(NamedTuple):
    number: int
    image: Any
    taken_s: float
    way: Way
    device_ms: float
    client: StreamClient
    sequence: int


class Cooperation:
    """Runs frames of one release: `offer` takes one, `poll` what came back; each has one result, for `on_result`."""

    def __init__(
        self,
        release: DeviceRelease,
        edge: Edge,
        routes: Dict[int, int],
        settings: Settings,
        on_result: Callable[[FrameResult], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`routes`: of each candidate that crosses, its place in the hello."""
        self.link = LinkEstimate()
        self.probe_bytes = 0
        self.late_answers = 0
        self._release, self._edge, self._routes, self._settings = release, edge, routes, settings
        self._on_result, self._clock = on_result, clock
        self._chooser = Chooser(release.policy, ())
        self._usable: Set[int] = set()
        self._served: Optional[StreamClient] = None
        self._flying: Dict[Tuple[StreamClient, int], _Flying] = collections.OrderedDict()
        self._probes: Set[Tuple[StreamClient, int]] = set()
        self._sizes_to_probe: List[int] = []
        self._waiting: Dict[int, FrameResult] = {}
        self._incoming_s: Optional[float] = None
        self._taken = self._told = 0
        self._failures, self._rest_s, self._resting_until_s = 0, _FIRST_REST_S, 0.0
        self._probed_s = -PROBE_PAUSE_S
        self._local_ms = release.local.device_ms if release.local is not None else 0.0

    def offer(self, image: Any) -> None:
        """Take a frame (height x width x 3, uint8) and have it answered, sooner or later; waits while too many are
        under way.
        """
        taken_s, number = self._clock(), self._taken
        self._taken += 1
        self._incoming_s = taken_s
        self.poll(0.0)
        while len(self._flying) >= self._settings.depth:
            self.poll(0.05)
        client = self._client()
        if client is not None and self._patience_s() <= 0.0:
            client = None  # those before it waited too long for the edge
        self._incoming_s = None
        way = self._choose(client)
        if way is None or way.encode is None or client is None:
            self._rescue(ahead=1)
            self._alone(number, image, taken_s, self._why_alone(client), way)
            if client is not None:
                self._probe_if_doubtful(client)
            return
        begun_s = self._clock()
        payload = way.encode(image)
        device_ms = 1000.0 * (self._clock() - begun_s)
        left_ms = 0.0
        if self._settings.deadline_ms is not None:
            left_ms = max(1.0, self._settings.deadline_ms - 1000.0 * (self._clock() - taken_s))
        try:
            sequence = client.send(self._routes[way.number], payload, left_ms)
        except CoopexportError as error:
            self._edge.broken(client, str(error))
            self._lose(client, str(error))
            self._alone(number, image, taken_s, str(error), None)
            return
        self._flying[(client, sequence)] = _Flying(number, image, taken_s, way, device_ms, client, sequence)
        self._probe_if_doubtful(client)
        client.watch()

    def poll(self, timeout_s: float) -> None:
        """Take in what came back, and answer alone what cannot wait any longer; wait at most `timeout_s`."""
        for arrived in self._edge.collect(min(timeout_s, self._patience_s())):
            for answer in arrived.answers:
                self._take(arrived.client, answer)
            if arrived.lost:
                self._lose(arrived.client, arrived.lost)
        self._rescue()

    def finish(self) -> None:
        """Wait until every frame has its result."""
        while self._flying:
            self.poll(0.05)

    def _client(self) -> Optional[StreamClient]:
        """Return the connection to use now; None while there is none, or the edge is left alone."""
        client = self._edge.client
        if client is None or not client.can_send or self._clock() < self._resting_until_s:
            return None
        if client is not self._served:
            self._served = client
            refused = [route.refusal is not None for route in client.welcome.routes]
            usable = {number for number, place in self._routes.items() if not refused[place]}
            usable |= {number for number, way in self._release.ways.items() if way.pair is None}
            self._usable = usable
            self._chooser = Chooser(self._release.policy, usable)
            self._sizes_to_probe = [0, PROBE_BYTES] * _FIRST_PROBES
            self._probe_if_doubtful(client)
        return client

    def _why_alone(self, client: Optional[StreamClient]) -> str:
        """Return why the edge is not asked; "" where it could be, and the plan has the device alone."""
        if client is not None or not self._edge.is_wanted:
            return ""
        if self._clock() < self._resting_until_s:
            return "the edge failed, and is left alone for a while"
        return self._edge.said or "the edge is not reached, or too slow"

    def _choose(self, client: Optional[StreamClient]) -> Optional[Way]:
        ways = self._release.ways
        if client is None:
            return self._release.local
        if self._settings.way is not None:
            return ways.get(self._settings.way) if self._settings.way in self._chooser else self._release.local
        state = self.link.state_at(self._clock())
        if state is None:
            return self._release.local if self._release.local is not None else self._any(client)
        number = self._chooser.choose(state)
        return None if number is None else ways.get(number)

    def _any(self, client: StreamClient) -> Optional[Way]:
        """Return the way with the fewest bytes, for a device without a network of its own on a link not known yet."""
        found = [self._release.ways[number] for number in self._usable]
        return min(found, key=lambda way: way.payload_bytes, default=None)

    def _take(self, client: StreamClient, answer: Answer) -> None:
        key = (client, answer.sequence)
        busy_ms = answer.queue_ms + answer.compute_ms
        transit_ms = max(0.0, 1000.0 * (answer.arrived_s - answer.sent_s) - busy_ms)
        # What is refused does not say how long the server was busy with it.
        if client is self._served and answer.is_exact and not answer.reason:
            crossed = packet_bytes(answer.sent_bytes) + packet_bytes(answer.received_bytes)
            self.link.observe(crossed, transit_ms, answer.arrived_s)
        if key in self._probes:
            self._probes.discard(key)
            self._probe_if_doubtful(client)
            return
        flying = self._flying.pop(key, None)
        if flying is None:
            self.late_answers += 1
            return
        if answer.outputs is None:
            self._failed()
            why = "{}: {}".format(words_of(answer.reason), answer.words)
            self._alone(flying.number, flying.image, flying.taken_s, why, None)
            return
        self._failures, self._rest_s = 0, _FIRST_REST_S
        self._result(
            FrameResult(
                flying.number, answer.outputs, flying.way.number, "", "", flying.device_ms, transit_ms, busy_ms,
                1000.0 * (self._clock() - flying.taken_s), answer.sent_bytes, answer.received_bytes,
            )
        )  # fmt: skip

    def _lose(self, client: StreamClient, why: str) -> None:
        """Answer alone what was under way on a connection that broke."""
        gone = [key for key, flying in self._flying.items() if flying.client is client]
        self._probes = {key for key in self._probes if key[0] is not client}
        if gone:
            self._failed()
        for key in gone:
            flying = self._flying.pop(key)
            self._alone(flying.number, flying.image, flying.taken_s, why, None)

    def _rescue(self, ahead: int = 0) -> None:
        """Answer alone, the eldest first, as long as one of those under way would be late if all had to be.

        `ahead`: frames that the device is about to answer before them.
        """
        failed = False
        while self._flying and self._patience_s(ahead) <= 0.0:
            _, flying = self._flying.popitem(last=False)  # type: ignore[call-arg]  # an OrderedDict
            if not failed:
                self._failed()
            failed = True
            self._alone(flying.number, flying.image, flying.taken_s, "the edge did not answer in time", None)

    def _patience_s(self, ahead: int = 0) -> float:
        """Return for how long nothing has to be done for all frames to be in time, should the edge fail them.

        Those under way, and the one that waits to be sent: the device can answer them only one after the other.
        """
        deadline_ms = self._settings.deadline_ms
        if deadline_ms is None:
            return _FOREVER_S
        now_s, least_s = self._clock(), _FOREVER_S
        taken = [flying.taken_s for flying in self._flying.values()]
        for index, taken_s in enumerate(taken + ([] if self._incoming_s is None else [self._incoming_s])):
            needed_ms = _LOCAL_SHARE * self._local_ms * (ahead + index + 1) + _MARGIN_MS
            least_s = min(least_s, taken_s + (deadline_ms - needed_ms) / 1000.0 - now_s)
        return max(0.0, least_s)

    def _failed(self) -> None:
        """Count that the edge failed a frame; leave it alone for a while when that was not the first time."""
        self._failures += 1
        if self._failures >= _MOST_FAILURES:
            self._resting_until_s = self._clock() + self._rest_s
            self._rest_s = min(_LONGEST_REST_S, 2 * self._rest_s)
            self._failures = _MOST_FAILURES - 1  # one more failure after the rest is enough

    def _alone(self, number: int, image: Any, taken_s: float, why: str, chosen: Optional[Way]) -> None:
        """Answer a frame by the device's own network: the one chosen, where it is one."""
        way = chosen if chosen is not None and chosen.compute is not None else self._release.local
        if way is None or way.compute is None:
            total_ms = 1000.0 * (self._clock() - taken_s)
            failure = why or "there is no edge, and the plan has no network for this device alone"
            self._result(FrameResult(number, None, -1, why, failure, 0.0, 0.0, 0.0, total_ms, 0, 0))
            return
        begun_s = self._clock()
        outputs = way.compute(image)
        ended_s = self._clock()
        device_ms = 1000.0 * (ended_s - begun_s)
        if way is self._release.local:
            self._local_ms += _WEIGHT * (device_ms - self._local_ms)
        self._result(
            FrameResult(number, outputs, way.number, why, "", device_ms, 0.0, 0.0, 1000.0 * (ended_s - taken_s), 0, 0)
        )

    def _result(self, result: FrameResult) -> None:
        if not self._settings.in_order:
            self._on_result(result)
            return
        self._waiting[result.number] = result
        while self._told in self._waiting:
            self._on_result(self._waiting.pop(self._told))
            self._told += 1

    def _probe_if_doubtful(self, client: StreamClient) -> None:
        """Send a probe where one is due: of two sizes, one after the other, so that each arrival is seen."""
        if self._probes:
            return
        now_s = self._clock()
        if not self._sizes_to_probe and now_s - self._probed_s >= PROBE_PAUSE_S and self._settings.way is None:
            state = self.link.state_at(now_s)
            if state is None or self._chooser.is_doubtful(state):
                self._sizes_to_probe = [0, PROBE_BYTES]
            elif now_s - self.link.heard_s > _SILENT_S:
                self._sizes_to_probe = [0] * CHANGED_RUN  # enough to notice that the link is another one
        if not self._sizes_to_probe:
            return
        size_bytes = self._sizes_to_probe.pop(0)
        self._probed_s = now_s
        try:
            self._probes.add((client, client.probe(size_bytes)))
            client.watch()
        except CoopexportError as error:
            self._edge.broken(client, str(error))
            self._lose(client, str(error))
            return
        self.probe_bytes += size_bytes
