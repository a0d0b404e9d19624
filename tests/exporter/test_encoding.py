"""The NumPy reference and the ONNX functions are one quantiser, for every float32 there is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper

from exporter.encoding import (
    DOMAIN,
    DOMAIN_VERSION,
    ClipRange,
    EncodeSpecification,
    affine_specification,
    decode,
    decode_function,
    decode_node,
    encode,
    encode_function,
    encode_node,
)
from exporter.onnx_session import open_session
from jetson.errors import CoopexportError

SYMBOLS = np.arange(256, dtype=np.uint8)
any_float32 = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)
features = arrays.arrays(np.float32, st.integers(1, 64), elements=any_float32)


def specification_of(low: float, high: float) -> EncodeSpecification:
    return affine_specification(ClipRange(low, high, "minmax", None, 8, low, high))


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


def in_runtime(specification: EncodeSpecification, feature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return symbols and decoded feature as ONNX Runtime computes the two functions."""
    model = helper.make_model(
        helper.make_graph(
            [encode_node(specification, "x", "s"), decode_node(specification, "s", "y")],
            "coding",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
            [
                helper.make_tensor_value_info("s", TensorProto.UINT8, ["n"]),
                helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"]),
            ],
        ),
        functions=[encode_function(13), decode_function(13)],
        opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    symbols, decoded = open_session(model, "disabled").run(None, {"x": feature})
    return symbols, decoded


@settings(max_examples=200)
@given(ranges(), features)
def test_reference_and_graph_agree_in_every_bit(limits: tuple[float, float], feature: np.ndarray) -> None:
    specification = specification_of(*limits)
    # The drawn numbers rarely fall into the range: add some that do, and both ends.
    inside = np.linspace(*limits, 50, dtype=np.float32)
    feature = np.concatenate([feature, inside, np.float32([np.nan, np.inf, -np.inf, 1e-45, -0.0, 3.4e38, -3.4e38])])
    symbols, decoded = in_runtime(specification, feature)
    expected = encode(specification, feature)
    assert expected.dtype == symbols.dtype == np.uint8
    assert np.array_equal(symbols, expected)
    assert np.array_equal(decoded.view(np.uint32), decode(specification, expected).view(np.uint32))


@given(ranges(), features)
def test_reference_is_the_documented_formula(limits: tuple[float, float], feature: np.ndarray) -> None:
    specification = specification_of(*limits)
    low, inverse = np.float32(specification.low), np.float32(specification.inverse_step)
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
    assert np.abs(difference).max() <= specification.step * (0.5 + 1e-4) + rounding


def test_a_feature_that_ends_in_relu_keeps_its_zeros() -> None:
    specification = specification_of(0.0, 3.7)
    assert decode(specification, encode(specification, np.float32([0.0, -0.0]))).tolist() == [0.0, 0.0]


def test_float32_is_sent_as_it_is() -> None:
    specification = EncodeSpecification("float32")
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


def test_other_numbers_of_bits_are_refused() -> None:
    with pytest.raises(CoopexportError, match="4 bits"):
        affine_specification(ClipRange(0.0, 1.0, "minmax", None, 8, 0.0, 1.0), bits=4)


def test_the_widest_range_of_float32_works() -> None:
    largest = float(np.finfo(np.float32).max)
    specification = specification_of(-largest / 2, largest / 2 * 0.999)
    assert np.array_equal(encode(specification, decode(specification, SYMBOLS)), SYMBOLS)
    assert np.isfinite(decode(specification, SYMBOLS)).all()
