"""What a server serves at one time: the pairs of one plan under a release's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engines.serving.served_pair import ServedPair
from jetson.errors import one_line
from jetson.stream.hello import MOST_TEXT, Hello, Pair, Route


@dataclass(frozen=True)
class Release:
    """`name`: what devices have to run; `pairs`: what is served of it, `refused`: what is not, and why."""

    name: str
    pairs: Mapping[Pair, ServedPair]
    refused: Mapping[Pair, str]

    def routes_of(self, hello: Hello) -> tuple[Route, ...]:
        """Return what is said of each pair that a device has."""
        return tuple(self._route_of(pair) for pair in hello.pairs)

    def _route_of(self, pair: Pair) -> Route:
        served = self.pairs.get(pair)
        if served is not None:
            return Route(served.outputs)
        why = self.refused.get(pair, f"{pair.variant} at {pair.layer} is not in release {self.name}")
        return Route((), one_line(why)[:MOST_TEXT])
