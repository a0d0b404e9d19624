"""The laws of the quantiser: its formula, saturation, exactly 2^bits symbols, packing that loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from exporter.encoding.specification import (
    FLOAT16,
    FLOAT32,
    MAX_FLOAT16,
    ClipRange,
    EncodeSpecification,
    affine_specification,
    decode,
    encode,
    feature_tensor,
    wire_specification,
)
from jetson.errors import CoopexportError
from jetson.wire.feature import FeatureCodec
from jetson.wire.message import decode_message, encode_message
from jetson.wire.packing import PACKABLE_BITS
from jetson.wire.specification import TensorSpecification

SYMBOLS = np.arange(256, dtype=np.uint8)
any_float32 = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)
features = arrays.arrays(np.float32, st.integers(1, 64), elements=any_float32)


def clip_of(lows: tuple[float, ...], highs: tuple[float, ...]) -> ClipRange:
    return ClipRange(lows, highs, "minmax", None, 8, lows, highs)


def specification_of(low: float, high: float, bits: int = 8) -> EncodeSpecification:
    return affine_specification(clip_of((low,), (high,)), bits)


@st.composite
def ranges(draw) -> tuple[float, float]:
    """Draw a clip range of any magnitude, wherever it lies, that float32 can hold."""
    width = np.float32(draw(st.floats(0.125, 8, width=32)) * 2.0 ** draw(st.integers(-100, 100)))
    offset = draw(st.sampled_from([0.0, -0.5, -1.0, 1.0, 100.0, -1e4, 1e7, -1e9]))
    low = offset * float(width)
    high = low + float(width)
    assume(max(abs(low), abs(high)) < 1e38)
    low, high = float(np.float32(low)), float(np.float32(high))
    assume(low < high)
    return low, high


def is_resolved(low: float, high: float) -> bool:
    """Tell whether float32 has a number of its own for each of 256 symbols: a step is at least one spacing."""
    return (high - low) / 255 >= np.spacing(np.float32(max(abs(low), abs(high))))


@given(ranges(), features)
def test_reference_is_the_documented_formula(limits: tuple[float, float], feature: np.ndarray) -> None:
    specification = specification_of(*limits)
    low, inverse = np.float32(specification.low[0]), np.float32(specification.inverse_step[0])
    for value, symbol in zip(feature, encode(specification, feature), strict=True):
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = np.float32(np.float32(value - low) * inverse)
        if np.isnan(scaled):
            assert symbol == 0
        else:
            assert symbol == min(max(round(float(scaled)) if np.isfinite(scaled) else scaled, 0), 255)


@given(ranges(), features)
def test_values_outside_saturate_and_order_is_kept(limits: tuple[float, float], feature: np.ndarray) -> None:
    low, high = limits
    specification = specification_of(low, high)
    symbols = encode(specification, feature)
    assert (symbols[feature <= low] == 0).all()
    assert (symbols[feature > high + (high - low)] == 255).all()
    ordered = np.sort(feature[~np.isnan(feature)])
    assert (np.diff(encode(specification, ordered).astype(int)) >= 0).all()
    assert encode(specification, np.float32([np.nan])) == [0]


@given(ranges())
def test_exactly_256_symbols_are_reached(limits: tuple[float, float]) -> None:
    low, high = limits
    assume(is_resolved(low, high))
    reached = encode(
        specification_of(low, high), np.linspace(low - (high - low), high + (high - low), 4096, dtype=np.float32)
    )
    assert sorted(set(reached.tolist())) == list(range(256))


@given(ranges())
def test_encoding_what_was_decoded_gives_the_same_symbols(limits: tuple[float, float]) -> None:
    """Holds wherever float32 can tell 256 symbols apart; see the next test for where it cannot."""
    assume(is_resolved(*limits))
    specification = specification_of(*limits)
    assert np.array_equal(encode(specification, decode(specification, SYMBOLS)), SYMBOLS)


def test_ranges_that_float32_cannot_resolve_lose_symbols_but_stay_close() -> None:
    """A range of 1e-5 around 1 holds some 80 float32 numbers: fewer symbols come back, none far off."""
    specification = specification_of(1.0, 1.00001)
    assert not is_resolved(1.0, 1.00001)
    again = encode(specification, decode(specification, SYMBOLS))
    assert len(set(again.tolist())) < 256
    assert np.abs(again.astype(int) - SYMBOLS).max() <= 2


@given(ranges(), st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_decoded_values_are_within_half_a_step(limits: tuple[float, float], places: list[float]) -> None:
    low, high = limits
    specification = specification_of(low, high)
    feature = np.clip(np.float32(low + (high - low) * np.array(places)), np.float32(low), np.float32(high))
    difference = decode(specification, encode(specification, feature)).astype(float) - feature
    rounding = 2 * np.spacing(np.float32(max(abs(low), abs(high))))  # of the subtraction and the addition
    assert np.abs(difference).max() <= specification.step[0] * (0.5 + 1e-4) + rounding


def test_a_feature_that_ends_in_relu_keeps_its_zeros() -> None:
    specification = specification_of(0.0, 3.7)
    assert decode(specification, encode(specification, np.float32([0.0, -0.0]))).tolist() == [0.0, 0.0]


def test_float32_is_sent_as_it_is() -> None:
    specification = FLOAT32
    feature = np.float32([1.5, -0.0, 1e-45])
    assert encode(specification, feature).tobytes() == feature.tobytes()
    assert decode(specification, feature).tobytes() == feature.tobytes()
    assert specification.symbol_dtype == "float32"


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (1.0, 1.0),
        (2.0, 1.0),
        (np.nan, 1.0),
        (0.0, np.inf),
        (-np.inf, 0.0),
        (0.0, 1e-44),
        (0.0, 1e39),
        (-1e39, 0.0),
        (-3e38, 3e38),
        (0.0, 1e300),
    ],
)
def test_unusable_ranges_are_refused(low: float, high: float) -> None:
    with pytest.raises(CoopexportError, match="calibrate again"):
        specification_of(low, high)


@pytest.mark.parametrize("bits", [0, 9, -1])
def test_other_numbers_of_bits_are_refused(bits: int) -> None:
    with pytest.raises(CoopexportError, match=f"^{bits} bits per symbol .* use 1 to 8"):
        specification_of(0.0, 1.0, bits)


@pytest.mark.parametrize("packing", ["bytes", "words"])
@pytest.mark.parametrize("bits", [3, 5, 6, 7])
def test_symbols_that_do_not_fill_a_byte_are_not_packed(bits: int, packing) -> None:
    with pytest.raises(CoopexportError, match=f"{bits}-bit symbols do not fill a byte"):
        affine_specification(clip_of((0.0,), (1.0,)), bits, packing)


def test_the_widest_range_of_float32_works() -> None:
    largest = float(np.finfo(np.float32).max)
    specification = specification_of(-largest / 2, largest / 2 * 0.999)
    assert np.array_equal(encode(specification, decode(specification, SYMBOLS)), SYMBOLS)
    assert np.isfinite(decode(specification, SYMBOLS)).all()


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_width_reaches_exactly_its_symbols_and_saturates(bits: int) -> None:
    specification = specification_of(-1.0, 3.0, bits)
    reached = encode(specification, np.linspace(-9, 9, 8192, dtype=np.float32))
    assert sorted(set(reached.tolist())) == list(range(1 << bits))
    extremes = encode(specification, np.float32([-np.inf, -1e38, np.nan, 1e38, np.inf]))
    assert extremes.tolist() == [0, 0, 0, (1 << bits) - 1, (1 << bits) - 1]
    ends = decode(specification, np.uint8([0, (1 << bits) - 1]))
    assert ends.tolist() == pytest.approx([-1.0, 3.0], rel=1e-6)


@given(st.integers(1, 8), st.integers(2, 5), st.data())
def test_each_channel_has_its_own_range(bits: int, channels: int, data: st.DataObject) -> None:
    """Encoding channel by channel is encoding each channel with its own range."""
    lows = data.draw(st.tuples(*[st.floats(-4, 4, width=32)] * channels))
    highs = tuple(float(np.float32(low + data.draw(st.floats(0.25, 8, width=32)))) for low in lows)
    feature = np.random.default_rng(0).normal(0, 4, (3, channels, 2, 4)).astype(np.float32)
    together = affine_specification(clip_of(lows, highs), bits)
    symbols = encode(together, feature)
    for channel in range(channels):
        alone = specification_of(lows[channel], highs[channel], bits)
        assert np.array_equal(symbols[:, channel], encode(alone, feature[:, channel]))
        assert np.array_equal(decode(together, symbols)[:, channel], decode(alone, symbols[:, channel]))


def test_a_constant_channel_keeps_its_value() -> None:
    specification = affine_specification(clip_of((0.0, 2.5), (1.0, 2.5)))
    feature = np.float32([[[0.5], [2.5]], [[1.0], [2.5]]])
    assert decode(specification, encode(specification, feature))[:, 1].ravel().tolist() == [2.5, 2.5]


def test_channels_that_are_all_constant_are_refused() -> None:
    with pytest.raises(CoopexportError, match="all channels are empty"):
        affine_specification(clip_of((0.0, 2.5), (0.0, 2.5)))


def test_an_unusable_channel_is_named() -> None:
    with pytest.raises(CoopexportError, match=r"of channel 1, 0\.0 to inf, is empty, or too wide"):
        affine_specification(clip_of((0.0, 0.0), (1.0, np.inf)))


@given(st.sampled_from(PACKABLE_BITS), st.sampled_from(["bytes", "words"]), st.integers(1, 40))
def test_packing_loses_nothing_and_is_as_small_as_it_says(bits: int, packing, count: int) -> None:
    plain = specification_of(0.0, 1.0, bits)
    packed = affine_specification(clip_of((0.0,), (1.0,)), bits, packing)
    feature = np.random.default_rng(count).random((3, count), np.float32)
    sent = encode(packed, feature)
    assert (sent.dtype, sent.shape[1:]) == (packed.symbol_dtype, packed.symbol_shape((count,)))
    assert sent.nbytes == 3 * (-(-count * bits // 8) if packing == "bytes" else 4 * -(-count * bits // 32))
    assert np.array_equal(decode(packed, sent, (count,)), decode(plain, encode(plain, feature)))
    codec = FeatureCodec((feature_tensor(packed, "f", (count,)),))
    assert np.array_equal(codec.symbols([sent])[0], encode(plain, feature))
    (taken,) = codec.tail_inputs(codec.symbols([sent]))
    assert (taken.dtype, taken.shape[1:]) == (packed.symbol_dtype, packed.tail_shape((count,)))


@given(st.integers(1, 8), st.integers(1, 40))
def test_integers_are_the_symbols_in_int32(bits: int, count: int) -> None:
    plain, packed = (affine_specification(clip_of((0.0,), (1.0,)), bits, packing) for packing in ("none", "integers"))
    feature = np.random.default_rng(count).random((3, count), np.float32)
    symbols, sent = encode(plain, feature), encode(packed, feature)
    assert (sent.dtype, packed.symbol_dtype) == (np.int32, "int32")
    assert packed.symbol_shape((count,)) == packed.tail_shape((count,)) == (count,)
    assert np.array_equal(sent, symbols)
    codec = FeatureCodec((feature_tensor(packed, "f", (count,)),))
    (found,) = codec.symbols([sent])
    assert found.dtype == np.uint8
    assert np.array_equal(found, symbols)
    assert codec.tail_inputs([symbols])[0].tobytes() == sent.tobytes()
    assert decode(packed, sent, (count,)).tobytes() == decode(plain, symbols).tobytes()


@pytest.mark.parametrize("packing", ["none", "bytes", "words", "integers"])
def test_the_specification_of_a_message_is_that_of_the_symbols(packing) -> None:
    packed = affine_specification(clip_of((0.0,), (1.0,)), 4, packing)
    assert wire_specification(packed, (5, 2), "zlib-huffman") == TensorSpecification(
        "uint8", (1, 5, 2), "zlib-huffman", 4
    )
    wire = wire_specification(FLOAT16, (5, 2), "raw", batch=3)
    assert wire == TensorSpecification("float16", (3, 5, 2))
    sent = encode(FLOAT16, np.random.default_rng(0).random((3, 5, 2), np.float32))
    assert np.array_equal(decode_message(encode_message([sent], [wire]), [wire])[0], sent)


def test_the_first_symbol_is_in_the_lowest_bits_of_bytes_and_words_alike() -> None:
    feature = np.float32([[1, 0, 0, 0, 0, 0, 0, 3]])
    for packing, expected in (("bytes", [[0b00000001, 0b11000000]]), ("words", [[0b11000000_00000001]])):
        specification = affine_specification(clip_of((0.0,), (3.0,)), 2, packing)
        assert encode(specification, feature).tolist() == expected


@given(features)
def test_float16_rounds_saturates_and_has_no_nan(feature: np.ndarray) -> None:
    sent = encode(FLOAT16, feature)
    assert sent.dtype == np.float16
    assert np.isfinite(sent).all()
    decoded = decode(FLOAT16, sent)
    assert (decoded[np.isnan(feature)] == 0).all()
    number = feature[~np.isnan(feature)]
    limited = np.clip(number.astype(np.float64), -MAX_FLOAT16, MAX_FLOAT16)
    assert (np.abs(decoded[~np.isnan(feature)] - limited) <= np.maximum(np.abs(limited) * 2.0**-11, 2.0**-25)).all()
