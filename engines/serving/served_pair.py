"""One pair as a server runs it: from the bytes of requests to the bytes of results, several at once where it may."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jetson.errors import ParityError
from jetson.stream.hello import Output, Pair

Arrays = list[NDArray[Any]]


def one_at_a_time(run: Callable[[Sequence[NDArray[Any]]], Arrays]) -> Callable[[Sequence[NDArray[Any]]], Arrays]:
    """Return a runner that several threads may call: engines take one call at a time."""
    lock = threading.Lock()

    def locked(arrays: Sequence[NDArray[Any]]) -> Arrays:
        with lock:
            return run(arrays)

    return locked


@dataclass(frozen=True)
class ServedPair:
    """A tail, or a whole network, behind the decoder of what devices send it.

    `decode`: a request's payload to the inputs for one sample, 1 x ... each; raises CoopexportError for what is not of
    this pair. `run`: from inputs of up to `most_batch` samples to the outputs, from any thread. `outputs`: for one
    sample.
    """

    pair: Pair
    outputs: tuple[Output, ...]
    most_batch: int
    decode: Callable[[bytes], Arrays]
    run: Callable[[Sequence[NDArray[Any]]], Arrays]


def run_batch(served: ServedPair, inputs: Sequence[Arrays]) -> list[tuple[bytes, ...]]:
    """Run samples, each as `decode` gave it, at once; return for each the bytes of its outputs, little-endian.

    Raises CoopexportError as `run` does, and ParityError for outputs of another shape or dtype than was agreed on: a
    device would read them as something else.
    """
    count = len(inputs)
    arrays = inputs[0] if count == 1 else [np.concatenate(parts) for parts in zip(*inputs, strict=True)]
    found = served.run(arrays)
    if len(found) < len(served.outputs):
        raise ParityError(f"{served.pair.layer}: the tail gave {len(found)} of {len(served.outputs)} outputs")
    results: list[list[bytes]] = [[] for _ in range(count)]
    for output, array in zip(served.outputs, found, strict=False):
        if array.shape != (count * output.shape[0], *output.shape[1:]) or array.dtype != output.dtype:
            raise ParityError(
                f"{served.pair.layer}: output {output.name} is {array.dtype} {array.shape}, agreed for {count} "
                f"samples is {output.dtype} {output.shape}"
            )
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        for index, result in enumerate(results):
            result.append(little[index * output.shape[0] : (index + 1) * output.shape[0]].tobytes())
    return [tuple(result) for result in results]
