"""From a head's outputs to a message to a tail's inputs: exact in every mode, and whatever is wrong is named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from packed_examples import WIDTHS, packed_by_hand, taken_by_hand
from symbol_examples import random_model

from jetson.errors import CoopexportError
from jetson.wire.feature import FeatureCodec, FeatureTensor, symbols_of, without_uint8
from jetson.wire.specification import CODEC_NAMES

PLAIN_CODECS = ("raw", "zlib-huffman")
MODELS = {
    (bits, codec): random_model(np.random.default_rng(bits), bits, class_count)
    for bits in range(1, 9)
    for codec, class_count in (("rans", 1), ("rans-context", 3))
}
shapes = arrays.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4)
any_float32 = st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=True)
quick = settings(deadline=None, max_examples=150)


def affine(shape, bits, packing="none", codec="raw", name="feature"):
    """Return a tensor of symbols, with a model where the codec needs one."""
    return FeatureTensor(name, tuple(shape), "affine", bits, packing, codec, MODELS.get((bits, codec)))


def draw_symbols(seed, bits, shape):
    return np.random.default_rng(seed).integers(0, 1 << bits, shape, dtype=np.uint8)


def assert_same(found, expected):
    """Same dtype, shape and bits; memory of its own."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()
    assert found.flags.writeable


@st.composite
def cases(draw):
    """Return one tensor that crosses, what leaves the head for it, and what the tail has to get."""
    batch, shape, seed = draw(st.integers(1, 4)), draw(shapes), draw(st.integers(0, 2**32 - 1))
    if draw(st.integers(0, 3)):
        bits, packing = draw(st.sampled_from(WIDTHS))
        tensor = affine(shape, bits, packing, draw(st.sampled_from(CODEC_NAMES)))
        symbols = draw_symbols(seed, bits, (batch, *shape))
        return tensor, packed_by_hand(symbols, bits, packing), taken_by_hand(symbols, bits, packing)
    kind = draw(st.sampled_from(["float16", "float32"]))
    numbers = draw(arrays.arrays(np.float32, (batch, *shape), elements=any_float32))
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = numbers.astype(kind)
    return FeatureTensor("feature", shape, kind, codec=draw(st.sampled_from(PLAIN_CODECS))), numbers, numbers


@given(cases(), st.binary(max_size=20))
@quick
def test_the_tail_gets_what_the_head_sent(case, associated_data):
    tensor, sent, expected = case
    codec = FeatureCodec((tensor,), associated_data, len(sent))
    assert (sent.dtype.name, sent.shape[1:]) == (tensor.dtype, tensor.head_shape)
    (found,) = codec.decode(codec.encode([sent]))
    assert_same(found, expected)
    assert found.shape[1:] == tensor.tail_shape
    # Without a message, for any number of samples.
    (direct,) = codec._replace(batch=99).tail_inputs(codec.symbols([sent]))
    assert direct.tobytes() == expected.tobytes()


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize(("bits", "packing"), WIDTHS)
def test_every_mode_with_batches(bits, packing, codec):
    for batch, shape in ((1, (3, 5, 7)), (3, (4, 3, 2)), (2, (11,))):
        symbols = draw_symbols(bits, bits, (batch, *shape))
        feature_codec = FeatureCodec((affine(shape, bits, packing, codec),), b"a pair", batch)
        message = feature_codec.encode([packed_by_hand(symbols, bits, packing)])
        assert_same(feature_codec.decode(message)[0], taken_by_hand(symbols, bits, packing))
        # How the head packs is not the link's business.
        assert message == FeatureCodec((affine(shape, bits, "none", codec),), b"a pair", batch).encode([symbols])


@given(st.lists(cases(), min_size=2, max_size=5), st.integers(0, 2))
@settings(deadline=None, max_examples=60)
def test_several_tensors_and_exits_behind_them(drawn, exits):
    batch = min(len(sent) for _, sent, _ in drawn)
    tensors = tuple(tensor._replace(name=f"t{index}") for index, (tensor, _, _) in enumerate(drawn))
    outputs = [sent[:batch] for _, sent, _ in drawn] + [np.full((batch, 3), np.nan, np.float64)] * exits
    codec = FeatureCodec(tensors, b"", batch)
    found = codec.decode(codec.encode(outputs))
    assert len(found) == len(drawn)
    for one, (_, _, expected) in zip(found, drawn, strict=True):
        assert_same(one, expected[:batch])


def test_memory_and_byte_order_of_the_outputs_do_not_matter():
    numbers = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    codec = FeatureCodec((FeatureTensor("f", (6, 4), "float32", codec="zlib-huffman"),), b"", 2)
    for same in (numbers.astype(">f4"), np.asfortranarray(numbers)):
        assert codec.encode([same]) == codec.encode([numbers])


@pytest.mark.parametrize("bits", range(1, 9))
def test_either_side_may_be_the_one_without_uint8(bits):
    shape = (3, 5, 7)
    symbols = draw_symbols(bits, bits, (2, *shape))
    tensor = affine(shape, bits, "bytes" if bits in (1, 2, 4, 8) else "none", "rans-context")
    words = without_uint8(tensor)
    assert words.packing == ("words" if bits in (1, 2, 4, 8) else "integers")
    assert without_uint8(words) == words
    there, here = FeatureCodec((tensor,), b"", 2), FeatureCodec((words,), b"", 2)
    message = here.encode([packed_by_hand(symbols, bits, words.packing)])
    assert message == there.encode([packed_by_hand(symbols, bits, tensor.packing)])
    assert_same(here.decode(message)[0], symbols.astype(np.int32))
    assert_same(there.decode(message)[0], taken_by_hand(symbols, bits, tensor.packing))


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_floats_are_the_same_without_uint8(kind):
    tensor = FeatureTensor("f", (4,), kind)
    assert without_uint8(tensor) == tensor


# What is refused.

SHAPE = (2, 3)
ONE = FeatureCodec((affine(SHAPE, 4, "none", "raw", "/a/Relu"),), b"this pair", 2)
TWO = FeatureCodec((affine(SHAPE, 4, "bytes"), FeatureTensor("/b/Add", (5,), "float32")), b"this pair", 2)
SYMBOLS = draw_symbols(0, 4, (2, *SHAPE))


def assert_refused(function, *words):
    with pytest.raises(CoopexportError) as caught:
        function()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (SYMBOLS.astype(np.float32), "as float32 of shape (2, 2, 3), and must be uint8 of shape (N, 2, 3)"),
        (SYMBOLS.astype(np.int8), "as int8 of shape (2, 2, 3), and must be uint8"),
        (SYMBOLS.astype(np.int32), "as int32 of shape (2, 2, 3), and must be uint8"),
        (SYMBOLS.reshape(2, 3, 2), "as uint8 of shape (2, 3, 2), and must be uint8 of shape (N, 2, 3)"),
        (SYMBOLS[0], "of shape (2, 3), and must be uint8 of shape (N, 2, 3)"),
        (SYMBOLS[:0], "of shape (0, 2, 3)"),
        (np.uint8(3), "of shape ()"),
    ],
)
def test_other_outputs_of_the_head_are_named(wrong, said):
    for function in (ONE.symbols, ONE.encode):
        assert_refused(lambda function=function: function([wrong]), "'/a/Relu' leaves the head", said, "same bundle")


def test_the_tensor_that_is_wrong_is_named():
    packed = packed_by_hand(SYMBOLS, 4, "bytes")
    assert_refused(lambda: TWO.encode([packed, np.zeros((2, 5), np.float16)]), "'/b/Add'", "float16", "float32")
    assert_refused(lambda: TWO.encode([packed[:, :-1], np.zeros((2, 5), np.float32)]), "'feature'", "(N, 3)")
    assert_refused(lambda: TWO.encode([packed]), "the head gave 1 outputs, and 2 tensors cross")


@pytest.mark.parametrize(("count", "batch"), [(1, 2), (3, 2), (2, 1)])
def test_another_number_of_samples_is_named(count, batch):
    outputs = [np.zeros((count, *SHAPE), np.uint8)]
    assert_refused(
        lambda: ONE._replace(batch=batch).encode(outputs),
        f"the head's outputs are of {count} samples, a message of this codec holds {batch}",
        f"for a batch of {count}",
    )


@pytest.mark.parametrize(("bits", "value"), [(4, 16), (4, -1), (8, 256), (3, 2**20), (1, -(2**31))])
def test_integers_that_are_no_symbols_are_not_cut_to_a_byte(bits, value):
    outputs = np.zeros((1, *SHAPE), np.int32)
    outputs[0, 1, 2] = value
    tensor = affine(SHAPE, bits, "integers")
    assert_refused(
        lambda: symbols_of(tensor, outputs), f"'feature' holds {value}, which is not a symbol of {bits} bits"
    )


def test_a_symbol_of_more_bits_is_not_sent():
    outputs = np.full((2, *SHAPE), 16, np.uint8)
    assert_refused(lambda: ONE.encode([outputs]), "a symbol is 16, specified are 4 bits")


def test_other_symbols_are_not_given_to_the_tail():
    floats = np.zeros((2, 5), np.float32)
    assert_refused(lambda: TWO.tail_inputs([SYMBOLS]), "symbols of 1 tensors were given, and 2 cross")
    assert_refused(lambda: TWO.tail_inputs([SYMBOLS, floats, floats]), "symbols of 3 tensors were given, and 2 cross")
    assert_refused(lambda: TWO.tail_inputs([SYMBOLS, floats.astype(np.float64)]), "tensor '/b/Add' is given as float64")
    assert_refused(lambda: TWO.tail_inputs([SYMBOLS[:, :1], floats]), "'feature' is given as uint8 of shape (2, 1, 3)")


@pytest.mark.parametrize(
    "other",
    [
        ONE._replace(associated_data=b"another pair"),
        ONE._replace(batch=1),
        ONE._replace(batch=3),
        ONE._replace(tensors=(affine(SHAPE, 5),)),
        ONE._replace(tensors=(affine((3, 2), 4),)),
        ONE._replace(tensors=(affine(SHAPE, 4, codec="zlib-huffman"),)),
        ONE._replace(tensors=(affine(SHAPE, 4, codec="rans"),)),
        ONE._replace(tensors=(FeatureTensor("/a/Relu", SHAPE, "float32"),)),
        TWO,
    ],
)
def test_a_message_of_another_codec_is_refused(other):
    message = ONE.encode([SYMBOLS])
    assert_refused(lambda: other.decode(message), "head and tail are not of the same cut")
    assert np.array_equal(ONE.decode(message)[0], SYMBOLS)


def test_tables_belong_to_the_message_format():
    one, other = (
        FeatureCodec((affine(SHAPE, 4, "none", "rans")._replace(model=random_model(np.random.default_rng(seed), 4)),))
        for seed in (1, 2)
    )
    assert_refused(lambda: other.decode(one.encode([SYMBOLS[:1]])), "not of the same cut")


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_a_damaged_message_is_refused(seed):
    generator = np.random.default_rng(seed)
    message = bytearray(TWO.encode([packed_by_hand(SYMBOLS, 4, "bytes"), np.ones((2, 5), np.float32)]))
    message[generator.integers(len(message))] ^= generator.integers(1, 256)
    assert_refused(lambda: TWO.decode(bytes(message)), "payload")
    assert_refused(lambda: TWO.decode(bytes(message)[: generator.integers(len(message))]), "payload")
