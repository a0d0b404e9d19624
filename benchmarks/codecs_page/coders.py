"""What codes one sample's symbols, and this project's own coders: whole messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jetson.wire import SymbolModel, TensorSpecification, pack, rans_implementation, unpack
from jetson.wire.rans import ENVIRONMENT_VARIABLE

Symbols = NDArray[np.uint8]


@dataclass(frozen=True)
class Coder:
    """One way to code a sample, uint8 1 x C x H x W. `form`: what the sample is turned into before, in words."""

    name: str
    own: bool
    form: str
    encode: Callable[[Symbols], bytes]
    decode: Callable[[bytes], Symbols]


@dataclass(frozen=True)
class Missing:
    """A coder that cannot run here, and why."""

    name: str
    reason: str


def own_coders(shape: tuple[int, ...], bits: int, order_0: SymbolModel, contexts: SymbolModel) -> list[Coder | Missing]:
    """Return this project's codecs as whole messages for samples of `shape`, 1 x C x H x W, under two models."""
    specifications = {
        "rans": TensorSpecification("uint8", shape, "rans", bits, order_0),
        "rans-context": TensorSpecification("uint8", shape, "rans-context", bits, contexts),
        "zlib-huffman": TensorSpecification("uint8", shape, "zlib-huffman", bits),
        "raw": TensorSpecification("uint8", shape, "raw", bits),
    }
    implementation = rans_implementation()
    made: list[Coder | Missing] = []
    for name, specification in specifications.items():
        is_rans = specification.model is not None
        if is_rans and implementation.name != "c":
            made.append(Missing(f"{name}, C", implementation.reason))
        else:
            made.append(_message_coder(f"{name}, C" if is_rans else name, specification))
    for name in ("rans", "rans-context"):
        made.append(_in_python(_message_coder(f"{name}, Python", specifications[name])))
    return made


def _message_coder(name: str, specification: TensorSpecification) -> Coder:
    agreed = [specification]
    return Coder(name, True, "", lambda sample: pack([sample], agreed), lambda message: unpack(message, agreed)[0])


def _in_python(coder: Coder) -> Coder:
    def encode(sample: Symbols) -> bytes:
        with _forced_python():
            return coder.encode(sample)

    def decode(message: bytes) -> Symbols:
        with _forced_python():
            return coder.decode(message)

    return Coder(coder.name, coder.own, coder.form, encode, decode)


@contextmanager
def _forced_python() -> Iterator[None]:
    before = os.environ.get(ENVIRONMENT_VARIABLE)
    os.environ[ENVIRONMENT_VARIABLE] = "python"
    try:
        yield
    finally:
        if before is None:
            del os.environ[ENVIRONMENT_VARIABLE]
        else:
            os.environ[ENVIRONMENT_VARIABLE] = before
