"""What codes one sample's symbols, and this project's own coders: whole messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jetson.wire.feature import FeatureCodec, FeatureTensor
from jetson.wire.rans import ENVIRONMENT_VARIABLE, rans_implementation
from jetson.wire.symbol_model import SymbolModel

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
    models = {"rans": order_0, "rans-context": contexts, "zlib-huffman": None, "raw": None}
    tensors = {
        name: FeatureTensor("symbols", shape[1:], "affine", bits, "none", name, model) for name, model in models.items()
    }
    implementation = rans_implementation()
    made: list[Coder | Missing] = []
    for name, tensor in tensors.items():
        is_rans = tensor.model is not None
        if is_rans and implementation.name != "c":
            made.append(Missing(f"{name}, C", implementation.reason))
        else:
            made.append(_message_coder(f"{name}, C" if is_rans else name, tensor))
    for name in ("rans", "rans-context"):
        made.append(_in_python(_message_coder(f"{name}, Python", tensors[name])))
    return made


def _message_coder(name: str, tensor: FeatureTensor) -> Coder:
    codec = FeatureCodec((tensor,))
    return Coder(name, True, "", lambda sample: codec.encode([sample]), lambda message: codec.decode(message)[0])


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
