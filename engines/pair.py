"""The running pair: head, bytes, tail, exactly as they run on two machines, here in one process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.backends.interface import Runner
from engines.build import items_of_layer, open_engine
from engines.targets import Target
from exporter.bundle import read_split
from jetson import preprocessing
from jetson.preprocessing import Preprocessing
from jetson.wire import TensorSpecification, pack, unpack


@dataclass(frozen=True)
class Pair:
    """Head and tail of one cut, opened; each takes one image at a time."""

    head: Runner
    tail: Runner
    symbols: TensorSpecification
    contract: Preprocessing

    def preprocess(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the head's input, 1 x ..., for one image (height x width x 3, RGB, uint8)."""
        return network_input(self.contract, image)

    def encode(self, symbols: NDArray[Any]) -> bytes:
        """Return the message that carries the head's symbols: what goes over the link."""
        return pack([symbols], [self.symbols])

    def decode(self, message: bytes) -> NDArray[Any]:
        """Return the symbols of a message; raises CoopexportError when it is not of this cut."""
        return unpack(message, [self.symbols])[0]

    def infer(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], int]:
        """Return the outputs (1 x ...) for one image, and the bytes that crossed."""
        message = self.encode(self.head([self.preprocess(image)])[0])
        return self.tail([self.decode(message)])[0], len(message)


def network_input(contract: Preprocessing, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return one image (height x width x 3, RGB, uint8) as exported graphs take it: 1 x ..., always float32."""
    return preprocessing.apply(contract, image[np.newaxis]).astype(np.float32, copy=False)


def open_pair(folder: Path, layer: str, device: Target, edge: Target) -> Pair:
    """Open the built head and tail of a bundle; raises CoopexportError when an engine is missing or stale."""
    bundle = read_split(folder, layer)
    head, tail = items_of_layer(folder, layer)
    boundary = bundle.tensors[0]
    symbols = TensorSpecification(boundary.encoding.symbol_dtype, (1, *boundary.shape), bundle.codec)
    return Pair(open_engine(head, device), open_engine(tail, edge), symbols, bundle.contract())
