"""The handshake: a device says who it is and which pairs it has, a server which of them it serves, and under what
number.
"""

import json
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from jetson.errors import DamagedFileError, one_line

# Where a server listens, unless it is told otherwise.
DEFAULT_PORT = 7433
# Of a HELLO or WELCOME: thousands of pairs.
MOST_HELLO_BYTES = 1 << 20
_MOST_PAIRS = 4096
# Characters of any text in it.
MOST_TEXT = 200


class Pair(NamedTuple):
    """One way to compute that device and edge have to agree on.

    `kind`: "feature", where a head's feature crosses, or how the image is sent, one of IMAGE_CODINGS ("raw", "jpeg",
    "resized-webp", ...). `identity`: of a feature what its messages are bound to (`BundleManifest.associated_data`), of
    an image the SHA-256 of the whole network's graph, as text.
    """

    variant: str
    layer: str
    precision: str
    kind: str
    identity: str


class Hello(NamedTuple):
    """What a device asks for. `release`: what it runs; "" for any. `device`: its name, for logs and metrics."""

    release: str
    device: str
    pairs: Tuple[Pair, ...]


class Output(NamedTuple):
    """One tensor of a result: NumPy's name of its dtype, little-endian on the wire, and its shape with the batch."""

    name: str
    dtype: str
    shape: Tuple[int, ...]


class Route(NamedTuple):
    """What a server says of one pair: its outputs, or why it does not serve it."""

    outputs: Tuple[Output, ...] = ()
    refusal: Optional[str] = None


class Welcome(NamedTuple):
    """What a server answers. `routes`: one for each pair of the hello, whose place is the number of the route.

    `most_body_bytes`: of a request; `most_in_flight`: requests that may wait for an answer at once.
    """

    release: str
    server: str
    most_body_bytes: int
    most_in_flight: int
    routes: Tuple[Route, ...]


def hello_bytes(hello: Hello) -> bytes:
    """Return the body of a HELLO frame."""
    content = dict(hello._asdict(), pairs=[list(pair) for pair in hello.pairs])
    return json.dumps(content, separators=(",", ":"), sort_keys=True).encode("utf-8")


def welcome_bytes(welcome: Welcome) -> bytes:
    """Return the body of a WELCOME frame."""
    routes = [
        {"outputs": [list(output) for output in route.outputs]} if route.refusal is None else {"refusal": route.refusal}
        for route in welcome.routes
    ]
    content = dict(welcome._asdict(), routes=routes)
    return json.dumps(content, separators=(",", ":"), sort_keys=True).encode("utf-8")


def read_hello(body: bytes) -> Hello:
    """Return what a HELLO says; raises DamagedFileError for anything else than `hello_bytes` writes."""
    try:
        content = _object(body)
        pairs = content["pairs"]
        if not isinstance(pairs, list) or len(pairs) > _MOST_PAIRS:
            raise ValueError("it has no list of at most {} pairs".format(_MOST_PAIRS))
        found = tuple(Pair(*[_text(value) for value in pair]) for pair in pairs)
        return Hello(_text(content["release"]), _text(content["device"]), found)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError("what a device says of itself cannot be read: {}".format(one_line(error))) from None


def read_welcome(body: bytes) -> Welcome:
    """Return what a WELCOME says; raises DamagedFileError for anything else than `welcome_bytes` writes."""
    try:
        content = _object(body)
        return Welcome(
            _text(content["release"]),
            _text(content["server"]),
            _count(content["most_body_bytes"]),
            _count(content["most_in_flight"]),
            tuple(_route(route) for route in _list(content["routes"])),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError("what the server answers cannot be read: {}".format(one_line(error))) from None


def _route(content: Dict[str, Any]) -> Route:
    if "refusal" in content:
        return Route((), _text(content["refusal"]))
    outputs = []
    for name, dtype, shape in _list(content["outputs"]):
        if dtype not in ("float32", "float16", "int32", "int64", "uint8", "int8", "bool", "float64"):
            raise ValueError("{!r} is no dtype of an output".format(dtype))
        outputs.append(Output(_text(name), dtype, tuple(_count(size) for size in _list(shape))))
    return Route(tuple(outputs))


def _object(body: bytes) -> Dict[str, Any]:
    content = json.loads(body.decode("utf-8"))
    if not isinstance(content, dict):
        raise ValueError("it is no object")
    return content


def _list(value: Any) -> List[Any]:
    if not isinstance(value, list):
        raise TypeError("{!r} is no list".format(value))
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise TypeError("{!r} is no text of at most {} characters".format(str(value)[:MOST_TEXT], MOST_TEXT))
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError("{!r} is no number of things".format(value))
    return value
