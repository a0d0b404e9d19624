"""Whatever arrives, with a right checksum or a wrong one: the tensors that were agreed on come out, or an error."""

import shutil
import struct
import subprocess
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from symbol_examples import draw, random_channels, random_model

import jetson.wire
from jetson.errors import CoopexportError
from jetson.wire.message import decode_message, encode_message
from jetson.wire.specification import TensorSpecification, message_format_of

HEADER_BYTES = 5
WIRE = Path(jetson.wire.__file__).parent


def message_formats():
    """Return (tensors, specifications) of every codec and kind of model, small enough to be tried often."""
    generator = np.random.default_rng(7)
    made = []
    for bits, class_count, concentration in ((1, 1, 0.05), (2, 3, 0.3), (4, 4, 1.0), (8, 1, 0.1), (8, 16, 1.0)):
        model = random_model(generator, bits, class_count, concentration)
        symbols = draw(generator, model, (4, 5, 6))[np.newaxis]
        codec = "rans" if class_count == 1 else "rans-context"
        made.append(([symbols], [TensorSpecification("uint8", symbols.shape, codec, bits, model)]))
    model = random_channels(generator, 2, 4, 3, 4, 0.3)
    symbols = draw(generator, model, (4, 5, 6))[np.newaxis]
    made.append(([symbols], [TensorSpecification("uint8", symbols.shape, "rans-context", 2, model)]))
    odd = generator.integers(0, 8, (1, 50), dtype=np.uint8)
    floats = generator.normal(0, 1, (1, 30)).astype(np.float32)
    for codec in ("raw", "zlib-huffman"):
        made.append(([odd], [TensorSpecification("uint8", odd.shape, codec, 3)]))
        made.append(([floats], [TensorSpecification("float32", floats.shape, codec)]))
    made.append(tuple([part for one in made[:4] + made[6:8] for part in one[index]] for index in (0, 1)))
    return made


def seal(message_format, rest):
    """Return `rest` behind a header and a checksum that are right."""
    header = b"\xc4" + message_format.fingerprint
    return header + struct.pack("<I", zlib.crc32(rest, zlib.crc32(header, message_format.seed)))[:3] + rest


def damaged(generator, message, message_format):
    """Return something like `message`: bytes changed, cut off, added or all random, sealed again or not."""
    kind = generator.integers(6)
    rest = bytearray(message[HEADER_BYTES:])
    if kind == 0:  # a raw change that the checksum has to find
        wrong = bytearray(message)
        wrong[generator.integers(len(wrong))] ^= generator.integers(1, 256)
        return bytes(wrong)
    if kind == 1:
        return generator.bytes(generator.integers(0, 2 * len(message)))
    if kind == 2:
        return seal(message_format, generator.bytes(generator.integers(0, 2 * len(rest))))
    if kind == 3:
        return seal(message_format, bytes(rest[: generator.integers(len(rest))]))
    if kind == 4:
        return seal(message_format, bytes(rest) + generator.bytes(generator.integers(1, 40)))
    for _ in range(generator.integers(1, 5)):
        rest[generator.integers(len(rest))] = generator.integers(256)
    return seal(message_format, bytes(rest))


def fuzz(cases, seed, monkeypatch, implementation):
    """Try `cases` damaged messages; return how many were taken for right ones below their right checksum."""
    monkeypatch.setenv("COOPEXPORT_RANS", implementation)
    generator = np.random.default_rng(seed)
    prepared = []
    for tensors, specifications in message_formats():
        message = encode_message(tensors, specifications)
        for got, sent in zip(decode_message(message, specifications), tensors, strict=True):
            np.testing.assert_array_equal(got, sent)
        expected_bytes = sum(row.size_bytes for row in specifications)
        prepared.append((specifications, message, message_format_of(specifications, b""), expected_bytes))
    accepted = 0
    tracemalloc.start()
    try:
        for _ in range(cases):
            specifications, message, message_format, expected_bytes = prepared[generator.integers(len(prepared))]
            wrong = damaged(generator, message, message_format)
            tracemalloc.reset_peak()
            before_bytes = tracemalloc.get_traced_memory()[0]
            try:
                received = decode_message(wrong, specifications)
            except CoopexportError:
                received = None
            peak_bytes = tracemalloc.get_traced_memory()[1] - before_bytes
            assert peak_bytes < 40 * (expected_bytes + len(wrong)) + 50_000
            if received is None:
                continue
            accepted += 1
            for got, row in zip(received, specifications, strict=True):
                assert (got.dtype.name, got.shape) == (row.dtype, row.shape)
                assert row.bits == 8 or got.max() < 1 << row.bits
    finally:
        tracemalloc.stop()
    return accepted


@pytest.mark.parametrize("implementation", ["c", "python"])
def test_5000_damaged_messages(monkeypatch, implementation):
    accepted = fuzz(5_000, 0, monkeypatch, implementation)
    # Numbers sent raw are right whatever they are: some changes below a right checksum must pass, or it tests nothing.
    assert 0 < accepted < 1_500


@pytest.mark.full
@pytest.mark.parametrize("implementation", ["c", "python"])
def test_100000_damaged_messages(monkeypatch, implementation):
    assert 0 < fuzz(100_000, 1, monkeypatch, implementation) < 30_000


@pytest.mark.full
def test_rans_c_under_the_sanitizers(tmp_path):
    """The C alone, with random tables, symbols and codes, watched for reads and writes out of bounds."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        pytest.skip("left out: there is no C compiler")
    program = tmp_path / "driver"
    command = [compiler, "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-std=c99", "-I", str(WIRE)]
    command += [str(Path(__file__).with_name("rans_sanitizer_driver.c")), "-o", str(program)]
    plain = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert plain.returncode == 0, plain.stderr
    sanitized = [*command, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    if subprocess.run(sanitized, capture_output=True, timeout=120).returncode != 0:
        pytest.skip("left out: this compiler has no sanitizers")
    finished = subprocess.run([str(program), "100000"], capture_output=True, text=True, timeout=600)
    assert finished.returncode == 0, finished.stderr
    round_trips, refused, accepted = map(int, finished.stdout.split())
    assert round_trips == 100_000
    assert refused + accepted == 100_000
    assert refused > 90_000
