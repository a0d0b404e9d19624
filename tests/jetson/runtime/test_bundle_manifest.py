"""What a device reads of a bundle is what the workstation reads; whatever is wrong with it is named in one line."""

import copy
import hashlib
from pathlib import Path

import bundle_examples as examples
import numpy as np
import pytest
from bundle_examples import affine, manifest, tensor, write_manifest, write_tables
from packed_examples import WIDTHS, packed_by_hand, taken_by_hand

from exporter.bundles.bundle import read_feature_codec as read_feature_codec_above
from exporter.bundles.bundle import read_split
from jetson.errors import CoopexportError
from jetson.runtime.bundle_manifest import (
    RecordedFile,
    manifest_from_json,
    read_bundle_manifest,
    read_feature_codec,
    verify_file,
)
from jetson.runtime.preprocessing import Preprocessing
from jetson.wire.specification import CODEC_NAMES

SHAPE = (3, 4, 5)
FLOATS = [({"kind": kind, "bits": bits, "low": [], "step": [], "inverse_step": [], "packing": "none"}, codec)
          for kind, bits in (("float16", 16), ("float32", 32)) for codec in ("raw", "zlib-huffman")]  # fmt: skip
MODES = [(affine(bits, packing), codec) for bits, packing in WIDTHS for codec in CODEC_NAMES] + FLOATS


def name_of(mode):
    encoding, codec = mode
    return f"{encoding['kind']} {encoding['bits']} {encoding['packing']} {codec}"


def bundle_of(folder, encoding, codec):
    """Write a bundle with one tensor of a mode into `folder`; return the manifest's path, its JSON and the model."""
    model, record = None, None
    if codec in ("rans", "rans-context"):
        model, record = write_tables(folder, "conv4_1.tables_0.bin", encoding["bits"], codec)
    content = manifest([tensor("/relu", SHAPE, encoding, codec, record)])
    return write_manifest(folder, content), content, model


@pytest.mark.parametrize("mode", MODES, ids=name_of)
def test_a_device_reads_what_the_workstation_reads(tmp_path: Path, mode) -> None:
    encoding, codec_name = mode
    path, content, model = bundle_of(tmp_path, encoding, codec_name)
    found = read_bundle_manifest(path)
    above = read_split(tmp_path, "conv4_1")
    assert (found.variant, found.layer) == (above.variant, above.layer) == ("pruned", "conv4_1")
    for role in ("head", "tail", "golden"):
        record = getattr(above, role)
        assert getattr(found, role) == (record.file, record.sha256) == tuple(content[role].values())
    assert found.preprocessing == above.declared_preprocessing()
    assert found.preprocessing == Preprocessing("NCHW", "BGR", (32, 40), scale=0.5, mean=(1.0, 2.0, 3.0))
    (item,), (item_above,) = found.tensors, above.tensors
    assert (item.feature.name, item.feature.shape) == (item_above.name, item_above.shape) == ("/relu", SHAPE)
    assert (item.feature.kind, item.feature.codec) == (item_above.encoding.kind, item_above.codec)
    assert item.feature == item_above.feature
    if item.feature.kind == "affine":
        assert item.feature.bits == item_above.encoding.bits == encoding["bits"]
        assert item.feature.packing == item_above.encoding.packing == encoding["packing"]
    assert item.feature.dtype == item_above.encoding.symbol_dtype
    assert item.feature.head_shape == item_above.encoding.symbol_shape(SHAPE)
    assert item.feature.tail_shape == item_above.encoding.tail_shape(SHAPE)
    assert (item.tables is None) == (item_above.tables is None) == (model is None)

    for batch in (1, 3):
        codec = read_feature_codec(str(tmp_path), found, batch)
        assert codec == read_feature_codec_above(tmp_path, above, batch)
        assert codec.tensors[0].model == model
        pair = (hashlib.sha256(role).hexdigest() for role in (b"head", b"tail"))
        assert codec.associated_data == " ".join(pair).encode()
        sent, taken = example(encoding, batch)
        (arrived,) = codec.decode(codec.encode([sent]))
        assert (arrived.dtype, arrived.tobytes()) == (taken.dtype, taken.tobytes())


def example(encoding, batch):
    """Return something that leaves the head, and what the tail has to get of it."""
    generator = np.random.default_rng(batch)
    if encoding["kind"] != "affine":
        numbers = generator.normal(size=(batch, *SHAPE)).astype(encoding["kind"])
        return numbers, numbers
    bits, packing = encoding["bits"], encoding["packing"]
    symbols = generator.integers(0, 1 << bits, (batch, *SHAPE), dtype=np.uint8)
    return packed_by_hand(symbols, bits, packing), taken_by_hand(symbols, bits, packing)


def test_what_docs_formats_shows_can_be_read(tmp_path: Path) -> None:
    """Floats need no more than their kind."""
    tensors = [tensor("a", (2,), {"kind": "float16"}), tensor("b", (3,), {"kind": "float32"}, "zlib-huffman")]
    found = read_bundle_manifest(write_manifest(tmp_path, manifest(tensors)))
    codec = read_feature_codec(str(tmp_path), found)
    sent = [np.ones((1, 2), np.float16), np.ones((1, 3), np.float32)]
    assert [one.tobytes() for one in codec.decode(codec.encode(sent))] == [one.tobytes() for one in sent]


def test_later_minor_versions_are_read(tmp_path: Path) -> None:
    content = manifest([tensor("a", SHAPE, affine(4))])
    expected = read_bundle_manifest(write_manifest(tmp_path, content))
    content.update(schema="coopexport.split/2.9", more={"to": "come"})
    content["tensors"][0].update(more=1)
    content["tensors"][0]["encoding"].update(more=1)
    assert read_bundle_manifest(write_manifest(tmp_path, content)) == expected


def assert_refused(function, *words):
    with pytest.raises(CoopexportError) as caught:
        function()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def edit_encoding(**changes):
    return lambda content: content["tensors"][0]["encoding"].update(changes)


def edit_tensor(**changes):
    return lambda content: content["tensors"][0].update(changes)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda content: content.update(schema="coopexport.split/3.0"), "coopexport.split/3.0, this version reads"),
        (lambda content: content.update(schema="coopexport.whole/1.0"), "coopexport.whole/1.0, this version reads"),
        (lambda content: content.pop("head"), ": head is missing; make it again with: coopexport split"),
        (lambda content: content.pop("preprocessing"), ": preprocessing is missing"),
        (lambda content: content["tail"].pop("file"), ": tail.file is missing"),
        (lambda content: content["tail"].update(sha256="A" * 64), ": tail.sha256 is not a SHA-256 in lower-case"),
        (lambda content: content["tail"].update(sha256="a" * 64 + "\n"), ": tail.sha256 is not a SHA-256"),
        (lambda content: content.update(tensors={}), ": tensors is not a list"),
        (lambda content: content.update(tensors=[3]), ": tensors.0 is not an object"),
        (lambda content: content["preprocessing"].update(mean=[0] * 2), "preprocessing.mean has 2 values for 3"),
        (edit_tensor(shape="large"), ": tensors.0.shape is not a list"),
        (edit_tensor(shape=[3, 4.0]), ": tensors.0.shape.1 is 4.0, and must be a whole number of 1 or more"),
        (edit_tensor(shape=[3, -1]), ": tensors.0.shape.1 is -1"),
        (edit_tensor(shape=[True]), ": tensors.0.shape.0 is True"),
        (edit_tensor(codec="gzip"), ": tensors.0.codec is 'gzip'; this version knows raw, zlib-huffman, rans"),
        (edit_tensor(name=None), ": tensors.0.name is not text"),
        (edit_tensor(tables="a file"), ": tensors.0.tables is not an object"),
        (edit_encoding(kind="delta"), ": tensors.0.encoding.kind is 'delta'; this version knows affine, float16"),
        (edit_encoding(bits=9), ": tensors.0.encoding.bits is 9, and a symbol has at most 8"),
        (edit_encoding(bits=0), ": tensors.0.encoding.bits is 0"),
        (edit_encoding(bits="4"), ": tensors.0.encoding.bits is '4'"),
        (edit_encoding(packing="nibbles"), ": tensors.0.encoding.packing is 'nibbles'; this version knows none"),
        (edit_encoding(packing="words", bits=5), ": tensors.0.encoding.packing is 'words', and 5-bit symbols do not"),
    ],
)  # fmt: skip
def test_a_malformed_manifest_is_named_with_its_key(tmp_path: Path, edit, said: str) -> None:
    content = manifest([tensor("a", SHAPE, affine(4))])
    edit(content)
    path = write_manifest(tmp_path, content)
    if said.startswith(": "):
        said = path + said
    assert_refused(lambda: read_bundle_manifest(path), said)


def places(value, path=()):
    """Yield the path of every value inside of parsed JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inside in items:
        yield (*path, key)
        yield from places(inside, (*path, key))


def test_whatever_stands_at_any_place_is_read_or_refused_in_one_line(tmp_path: Path) -> None:
    _, record = write_tables(tmp_path, "tables.bin", 4, "rans")
    whole = manifest([tensor("a", SHAPE, affine(4), "rans", record), tensor("b", SHAPE, {"kind": "float16"})])
    read, refused = 0, 0
    for path in places(whole):
        for value in (None, True, -1, 2.5, "", "text", [], [None], [[1]], {}, {"a": 1}):
            content = copy.deepcopy(whole)
            inside = content
            for key in path[:-1]:
                inside = inside[key]
            inside[path[-1]] = value
            try:
                read_feature_codec(str(tmp_path), manifest_from_json(content, "any.split.json"))
                read += 1
            except CoopexportError as error:
                assert "\n" not in str(error)
                refused += 1
    assert read > 100
    assert refused > 100


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "a.split.json")
    assert_refused(lambda: read_bundle_manifest(path), f"{path} is missing")


# Tables, and what no message can carry.


@pytest.fixture
def with_tables(tmp_path: Path):
    """A folder with a bundle of rANS, the manifest, and the path of its tables."""
    path, _, _ = bundle_of(tmp_path, affine(4), "rans-context")
    return tmp_path, read_bundle_manifest(path), tmp_path / "conv4_1.tables_0.bin"


def test_damaged_or_missing_tables_are_named(with_tables) -> None:
    folder, found, tables = with_tables
    content = tables.read_bytes()
    for place in (0, 5, len(content) // 2, len(content) - 1):
        tables.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert_refused(lambda: read_feature_codec(str(folder), found), f"{tables} is not the file that its manifest")
    tables.unlink()
    assert_refused(lambda: read_feature_codec(str(folder), found), f"{tables} is missing", "coopexport split")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "the symbol model is corrupt"), (b"cxsm\x03\x04\x01\x01", "of version 3, this side reads 1 and 2")],
)
def test_tables_that_are_none_are_named(with_tables, content: bytes, said: str) -> None:
    folder, found, tables = with_tables
    tables.write_bytes(content)
    record = RecordedFile(tables.name, hashlib.sha256(content).hexdigest())
    changed = found._replace(tensors=(found.tensors[0]._replace(tables=record),))
    assert_refused(lambda: read_feature_codec(str(folder), changed), f"{tables}: ", said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bits": 3}, "uint8 of 3 bits with a model of 4 bits"),
        ({"codec": "rans"}, "use rans-context"),
        ({"codec": "raw"}, "takes no symbol model"),
        ({"kind": "float16"}, "codec rans-context needs uint8"),
        ({"shape": (1,) * 8}, "9 dimensions"),
    ],
)
def test_what_no_message_can_carry_is_refused_before_the_first(with_tables, changes, said: str) -> None:
    folder, found, _ = with_tables
    item = found.tensors[0]
    changed = found._replace(tensors=(item._replace(feature=item.feature._replace(**changes)),))
    assert_refused(lambda: read_feature_codec(str(folder), changed), "the bundle of conv4_1: tensor 0 is", said)


def test_an_entropy_codec_needs_tables_and_a_message_tensors(with_tables) -> None:
    folder, found, _ = with_tables
    without = found._replace(tensors=(found.tensors[0]._replace(tables=None),))
    assert_refused(lambda: read_feature_codec(str(folder), without), "with no symbol model; codec rans-context needs")
    assert_refused(lambda: read_feature_codec(str(folder), found._replace(tensors=())), "1 to 16 tensors, not 0")
    assert_refused(lambda: read_feature_codec(str(folder), found, 0), "a batch of 0 was asked for")


def test_files_are_checked_by_their_hash(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"head")
    record = RecordedFile(**examples.recorded("a.onnx", b"head"))
    assert verify_file(str(tmp_path), record) == str(tmp_path / "a.onnx")
    (tmp_path / "a.onnx").write_bytes(b"heap")
    assert_refused(lambda: verify_file(str(tmp_path), record), f"{tmp_path / 'a.onnx'} is not the file")
