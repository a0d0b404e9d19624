"""The header of engine files, of the doubles and of a real library."""

from __future__ import annotations

import struct
from importlib import util

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorrt_doubles.engine_file import encode_engine

from jetson.engines.header import MAGIC, EngineHeader, begins_like_engine, read_header
from jetson.errors import CoopexportError


@pytest.mark.parametrize("version", [(8, 6, 1, 6), (10, 3, 0, 30), (11, 4, 0, 106)])
def test_a_classic_plan_says_its_version_alone(version: tuple[int, ...]) -> None:
    said = ".".join(map(str, version))
    assert read_header(encode_engine("tensorrt", version, b"", {})) == EngineHeader("tensorrt", said, None, None)


@pytest.mark.parametrize("version", [(8, 2, 1, 9), (8, 4, 1, 5), (8, 5, 2, 2)])
def test_a_plan_from_before_8_6_begins_otherwise_and_says_no_version(version: tuple[int, ...]) -> None:
    engine = encode_engine("tensorrt", version, b"", {})
    assert engine[:4] == b"ptrt"
    assert read_header(engine) == EngineHeader("tensorrt", None, None, None)
    assert begins_like_engine("tensorrt", engine)
    assert not begins_like_engine("tensorrt-rtx", engine)


@pytest.mark.parametrize(
    ("mask", "capabilities"),
    [
        (0x01, ("7.5",)),
        (0x02, ("8.0",)),
        (0x04, ("8.6",)),
        (0x08, ("8.9",)),
        (0x10, ("12.0",)),
        (0x20, ("12.1",)),
        (0x0C, ("8.6", "8.9")),
        (0x81, ("7.5", "bit 7")),
        (0, ()),
    ],
)
def test_an_rtx_engine_says_version_size_and_gpus(mask: int, capabilities: tuple[str, ...]) -> None:
    engine = encode_engine("tensorrt-rtx", (1, 7, 1, 116), b"weights", {}, mask)
    assert read_header(engine) == EngineHeader("tensorrt-rtx", "1.7.1.116", len(engine), capabilities)
    assert read_header(engine[:64]) == read_header(engine)


@pytest.mark.parametrize(("serialisation", "major"), [(1, 10), (0, 0), (0, 200)])
def test_a_version_in_an_unknown_place_is_not_believed(serialisation: int, major: int) -> None:
    engine = bytearray(encode_engine("tensorrt", (major, 3, 0, 30), b"", {}))
    struct.pack_into("<I", engine, 4, serialisation)
    assert read_header(bytes(engine)).version is None


@pytest.mark.parametrize("beginning", [b"", b"ftr", b"PTRT" + bytes(60), b"\x08\x08\x12\x07" + bytes(60)])
def test_other_files_are_refused(beginning: bytes) -> None:
    with pytest.raises(CoopexportError, match="not like an engine"):
        read_header(beginning)


@given(st.sampled_from(sorted(MAGIC)), st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(backend: str, rest: bytes) -> None:
    data = MAGIC[backend] + rest
    if len(data) < 36:
        with pytest.raises(CoopexportError, match="within the header"):
            read_header(data)
    else:
        assert read_header(data).backend == backend


def test_magic_of_each_backend() -> None:
    assert MAGIC == {"tensorrt-rtx": b"vtrt", "tensorrt": b"ftrt"}
    assert begins_like_engine("tensorrt", b"ftrt....")
    assert not begins_like_engine("tensorrt", b"ftr")
    assert not begins_like_engine("tensorrt-rtx", b"ftrt")
    assert begins_like_engine("onnxruntime", b"an ONNX file begins anyhow")


@pytest.mark.skipif(util.find_spec("tensorrt_rtx") is None, reason="left out: TensorRT-RTX is Linux on x86-64 only")
def test_a_real_engine_is_read(real_rtx_engine: bytes) -> None:
    import tensorrt_rtx

    expected = EngineHeader("tensorrt-rtx", tensorrt_rtx.__version__, len(real_rtx_engine), ("8.9",))
    assert read_header(real_rtx_engine) == expected
