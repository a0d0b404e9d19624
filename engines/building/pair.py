"""The running pair: head, bytes, tail, exactly as they run on two machines, here in one process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.backends.interface import Runner
from engines.building.build_items import items_of_layer
from engines.building.open_engine import open_engine
from engines.targets.lookup import Target
from exporter.bundles.bundle import read_feature_codec, read_split
from jetson.runtime import preprocessing
from jetson.runtime.preprocessing import Preprocessing
from jetson.wire.feature import FeatureCodec

Arrays = list[NDArray[Any]]


@dataclass(frozen=True)
class Pair:
    """Head and tail of one cut, opened, and what codes the feature between them; each takes one image at a time."""

    head: Runner
    tail: Runner
    codec: FeatureCodec
    preprocessing: Preprocessing

    def preprocess(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the head's input, 1 x ..., for one image (height x width x 3, RGB, uint8)."""
        return preprocessing.network_inputs(self.preprocessing, image[np.newaxis])

    def encode(self, head_outputs: Sequence[NDArray[Any]]) -> bytes:
        """Return the message that carries what the head sends (its first outputs): what goes over the link."""
        return self.codec.encode(head_outputs)

    def decode(self, message: bytes) -> Arrays:
        """Return what the tail takes out of a message; raises CoopexportError when it is not of this cut."""
        return self.codec.decode(message)

    def infer(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], int]:
        """Return the tail's first output (1 x ...) for one image, and the bytes that crossed."""
        message = self.encode(self.head([self.preprocess(image)]))
        return self.tail(self.decode(message))[0], len(message)


def open_pair(folder: Path, layer: str, device: Target, edge: Target) -> Pair:
    """Open the built head and tail of a bundle; raises CoopexportError when an engine is missing or stale."""
    bundle = read_split(folder, layer)
    head, tail = items_of_layer(folder, layer)
    return Pair(
        open_engine(head, device),
        open_engine(tail, edge),
        read_feature_codec(folder, bundle),
        bundle.declared_preprocessing(),
    )
