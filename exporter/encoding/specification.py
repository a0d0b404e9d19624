"""What happens to a tensor at the cut: the specification, and the NumPy reference of encoder and decoder.

JALAD (Li et al. 2018) and Cohen et al. 2021 quantise features affinely with a calibrated clipping range; this is
their quantiser with exactly 2^bits saturating symbols, for a whole tensor or channel by channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jetson.errors import InputError, UnsupportedError
from jetson.wire.feature import FeatureTensor
from jetson.wire.packing import PACKABLE_BITS, pack_bits, packed_dtype, packed_shape, tail_shape, unpack_bits
from jetson.wire.specification import TensorSpecification
from jetson.wire.symbol_model import SymbolModel

ClipMethod = Literal["minmax", "percentile", "mse", "kl"]
Granularity = Literal["tensor", "channel"]
Packing = Literal["none", "bytes", "words", "integers"]
MAX_FLOAT16 = 65504.0


@dataclass(frozen=True)
class ClipRange:
    """Range that is quantised, and where it comes from.

    `low` and `high`, in the feature's own units: one number for the tensor, or one for each of its channels
    (dimension 1). `minimum` and `maximum`: the true extremes over `samples` calibration samples, likewise; what is
    "bounded" by an activation needs no samples.
    `percentile` is None unless it is the method; `bits` are those that `mse` and `kl` chose the range for.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    method: ClipMethod | Literal["bounded"]
    percentile: float | None
    samples: int
    minimum: tuple[float, ...]
    maximum: tuple[float, ...]
    bits: int | None = None

    @property
    def granularity(self) -> Granularity:
        """Say whether there is one range for the whole tensor."""
        return "tensor" if len(self.low) == 1 else "channel"


@dataclass(frozen=True)
class EncodeSpecification:
    """How one tensor is encoded at the cut.

    `affine`: symbol = clip(round((x - low) * inverse_step), 0, 2^bits - 1) in float32, round half to even; NaN becomes
    symbol 0. `low`, `step` and `inverse_step`: one number, or one per channel. `packing`: how symbols lie in what
    leaves the head (jetson.wire.packing): `words` for TensorRT 8.2, which has no uint8, `integers` for widths that fill
    no byte there. `float16`: rounded, saturating at 65504, NaN becomes 0. `float32`: sent as it is.
    """

    kind: Literal["affine", "float16", "float32"]
    bits: int = 32
    low: tuple[float, ...] = ()
    step: tuple[float, ...] = ()
    inverse_step: tuple[float, ...] = ()
    packing: Packing = "none"
    clip: ClipRange | None = None

    @property
    def symbol_dtype(self) -> str:
        """NumPy's name for the dtype that leaves the head and that the tail takes."""
        return packed_dtype(self.packing) if self.kind == "affine" else self.kind

    @property
    def highest_symbol(self) -> int:
        """Largest symbol, 2^bits - 1."""
        return (1 << self.bits) - 1

    @property
    def symbols_per_byte(self) -> int:
        """How many symbols a byte of the head's output holds."""
        return 1 if self.packing in ("none", "integers") else 8 // self.bits

    def symbol_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of what leaves the head for a feature of `shape`, both without the batch dimension."""
        return packed_shape(shape, self.bits, self.packing) if self.kind == "affine" else tuple(shape)

    def tail_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of what the tail takes for a feature of `shape`, both without the batch dimension."""
        return tail_shape(shape, self.bits, self.packing) if self.kind == "affine" else tuple(shape)


FLOAT32 = EncodeSpecification("float32", 32)
FLOAT16 = EncodeSpecification("float16", 16)


def affine_specification(clip: ClipRange, bits: int = 8, packing: Packing = "none") -> EncodeSpecification:
    """Return the affine specification for a clip range.

    `bits`: 1 to 8. A channel whose range is empty (it is constant) gets a step of 1, which it never leaves. Raises
    CoopexportError when a number of bits cannot be packed, or when a range cannot be used.
    """
    if not 1 <= bits <= 8:
        raise InputError(f"{bits} bits per symbol were asked for", fix="use 1 to 8")
    if packing in ("bytes", "words") and bits not in PACKABLE_BITS:
        raise InputError(
            f"{bits}-bit symbols do not fill a byte", fix="pack 1, 2, 4 or 8 bits, or leave packing to the codec"
        )
    low, high = np.array(clip.low, np.float64), np.array(clip.high, np.float64)
    constant = (low == high) & (clip.granularity == "channel")
    if constant.all():
        raise UnsupportedError("the clip ranges of all channels are empty", fix="calibrate again, or cut elsewhere")
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        step = np.where(constant, 1, (high - low) / ((1 << bits) - 1)).astype(np.float32)
        inverse_step: NDArray[np.float32] = np.float32(1.0) / step
        reached = np.stack([low, high, step.astype(np.float64) * ((1 << bits) - 1)]).astype(np.float32)
    for index in range(len(low)):
        where = "" if len(low) == 1 else f" of channel {index}"
        limits = f"the clip range{where}, {low[index]} to {high[index]},"
        if not (np.isfinite(reached[:, index]).all() and (low[index] < high[index] or constant[index])):
            raise UnsupportedError(f"{limits} is empty, or too wide for float32", fix="calibrate again")
        if not np.isfinite(inverse_step[index]):
            raise UnsupportedError(f"{limits} is too narrow for float32", fix="calibrate again")
    return EncodeSpecification("affine", bits, _numbers(low), _numbers(step), _numbers(inverse_step), packing, clip)


def _numbers(values: NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values.astype(np.float32))


def per_channel(values: Sequence[float], dimensions: int) -> NDArray[np.float32]:
    """Return numbers, one or one per channel, as they broadcast over a tensor of `dimensions` (batch included)."""
    array = np.asarray(values, dtype=np.float32)
    return array.reshape(()) if len(values) == 1 else array.reshape(-1, *[1] * (dimensions - 2))


def encode(specification: EncodeSpecification, feature: NDArray[np.float32]) -> NDArray[Any]:
    """Return what `feature` (N x ..., float32) becomes at the cut: the reference that the graph must equal.

    N x `symbol_shape`, of `symbol_dtype`.
    """
    if specification.kind == "float32":
        return feature
    if specification.kind == "float16":
        limited = np.clip(feature, -MAX_FLOAT16, MAX_FLOAT16)
        numbers = np.where(np.isnan(limited), np.float32(0), limited) + np.float32(0)  # -0 becomes 0
        return np.asarray(numbers.astype(np.float16))
    low, inverse_step = (per_channel(v, feature.ndim) for v in (specification.low, specification.inverse_step))
    with np.errstate(invalid="ignore", over="ignore"):
        clipped = np.clip(np.rint((feature - low) * inverse_step), 0, specification.highest_symbol)
    symbols = np.where(np.isnan(clipped), np.float32(0), clipped).astype(np.uint8)
    return pack_bits(symbols, specification.bits, specification.packing)


def decode(
    specification: EncodeSpecification, head_output: NDArray[Any], shape: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """Return the feature (N x shape, float32) that `head_output`, as it left the head, stands for.

    `shape`: of the feature, without batch; needed where symbols are packed. The reference that the graph must equal.
    """
    if specification.kind != "affine":
        return np.asarray(head_output, dtype=np.float32)
    shape = head_output.shape[1:] if shape is None else shape
    symbols = unpack_bits(head_output, specification.bits, specification.packing, prod(shape)).reshape(
        len(head_output), *shape
    )
    step, low = (per_channel(v, symbols.ndim) for v in (specification.step, specification.low))
    return np.asarray(symbols.astype(np.float32) * step + low)


def feature_tensor(
    encoding: EncodeSpecification,
    name: str,
    shape: Sequence[int],
    codec: str = "raw",
    model: SymbolModel | None = None,
) -> FeatureTensor:
    """Return what carries the tensor `name`, a feature of `shape` (without the batch dimension) that is encoded so.

    `codec`: of jetson.wire.CODEC_NAMES; `model`: the tables of an entropy codec.
    """
    if encoding.kind != "affine":
        return FeatureTensor(name, tuple(shape), encoding.kind, codec=codec, model=model)
    return FeatureTensor(name, tuple(shape), "affine", encoding.bits, encoding.packing, codec, model)


def wire_specification(
    encoding: EncodeSpecification, shape: Sequence[int], codec: str, model: SymbolModel | None = None, batch: int = 1
) -> TensorSpecification:
    """Return what a message holds of a feature of `shape` (without the batch dimension) that is encoded so.

    `codec`: of jetson.wire.CODEC_NAMES; `model`: the tables of an entropy codec.
    """
    return feature_tensor(encoding, "", shape, codec, model).specification(batch)
