"""An engine is loaded only when it is the file that its identity names, and the identity is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetson.atomic_files import sha256_of_bytes
from jetson.engine_identity import (
    MAGIC,
    EngineIdentity,
    check_engine,
    check_magic,
    encode_identity,
    identity_path,
    read_identity,
)
from jetson.errors import CoopexportError

ENGINE = b"vtrt" + bytes(range(200))


def identity(engine: bytes = ENGINE, **fields: Any) -> EngineIdentity:
    plain = EngineIdentity(
        engine_sha256=sha256_of_bytes(engine),
        engine_bytes=len(engine),
        source_sha256="1" * 64,
        target_file_sha256="2" * 64,
        variant="pruned",
        layer="conv4_1",
        role="head",
        target="rtx-ada",
        backend="tensorrt-rtx",
        backend_version="1.7.1.116",
        compute_capability="8.9",
        precision="fp32",
        batch=1,
        inputs=[{"name": "images", "dtype": "float32", "shape": [1, 3, 32, 32]}],
        outputs=[{"name": "symbols_0", "dtype": "uint8", "shape": [1, 12, 4, 4]}],
        flags={"strongly_typed": True},
        platform="Linux x86_64",
        built_at="2026-08-01T10:00:00+00:00",
        parity_reason="no GPU here",
    )
    return plain._replace(**fields)


def write_engine(folder: Path, engine: bytes = ENGINE, of: EngineIdentity | None = None) -> str:
    """Write an engine and an identity, that of `ENGINE` unless given; return the engine's path."""
    path = folder / "conv4_1.head.engine"
    path.write_bytes(engine)
    Path(identity_path(str(path))).write_bytes(encode_identity(of or identity()))
    return str(path)


def edit(engine_path: str, **fields: Any) -> None:
    path = Path(identity_path(engine_path))
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_the_identity_lies_beside_the_engine() -> None:
    assert identity_path("a/b/conv4_1.head.engine") == "a/b/conv4_1.head.engine.json"
    assert identity_path("a/b/features.conv4_1.tail.onnx") == "a/b/features.conv4_1.tail.engine.json"
    assert identity_path("a.b/whole.onnx") == "a.b/whole.engine.json"


@pytest.mark.parametrize(
    "written",
    [
        identity(),
        identity(compute_capability=None),
        identity(parity_reason=None, parity=[{"check": "build", "error": 1e-7, "bound": 1e-3}]),
    ],
)
def test_what_is_written_is_read_again(tmp_path: Path, written: EngineIdentity) -> None:
    path = write_engine(tmp_path, of=written)
    assert read_identity(path) == check_engine(path) == written
    content = json.loads(Path(identity_path(path)).read_text())
    assert content["schema"] == "coopexport.engine/1.0"
    assert None not in content.values()


def test_later_minor_versions_are_read(tmp_path: Path) -> None:
    path = write_engine(tmp_path)
    edit(path, schema="coopexport.engine/1.7", signature="something newer")
    assert check_engine(path) == identity()


@given(st.integers(0, len(ENGINE) - 1), st.integers(1, 255))
def test_no_changed_byte_is_missed(tmp_path_factory: pytest.TempPathFactory, position: int, change: int) -> None:
    altered = bytearray(ENGINE)
    altered[position] ^= change
    path = write_engine(tmp_path_factory.getbasetemp(), bytes(altered))
    with pytest.raises(CoopexportError, match="not the file that its identity names: do not load it"):
        check_engine(path)


@pytest.mark.parametrize("altered", [b"", ENGINE[:-1], ENGINE + b"\0", ENGINE[::-1]])
def test_another_file_is_refused(tmp_path: Path, altered: bytes) -> None:
    with pytest.raises(CoopexportError, match="do not load it"):
        check_engine(write_engine(tmp_path, altered))


@pytest.mark.parametrize("wrong", [{"engine_bytes": len(ENGINE) + 1}, {"engine_sha256": "0" * 64}])
def test_another_size_or_hash_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(CoopexportError, match="do not load it"):
        check_engine(write_engine(tmp_path, of=identity()._replace(**wrong)))


def test_an_upper_case_hash_is_not_the_hash(tmp_path: Path) -> None:
    with pytest.raises(CoopexportError, match="do not load it"):
        check_engine(write_engine(tmp_path, of=identity(engine_sha256=sha256_of_bytes(ENGINE).upper())))


@pytest.mark.parametrize("beginning", [b"ftrt", b"ptrt", b"\x08\x08\x12\x07", b"#!/b"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, beginning: bytes) -> None:
    other = beginning + ENGINE[4:]
    path = write_engine(tmp_path, other, identity(other))
    with pytest.raises(CoopexportError, match="does not begin like an engine of tensorrt-rtx"):
        check_engine(path)
    assert not check_magic("tensorrt-rtx", other)


def test_magic_of_each_backend() -> None:
    assert MAGIC == {"tensorrt-rtx": b"vtrt", "tensorrt": b"ftrt"}
    assert check_magic("tensorrt", b"ftrt....")
    assert not check_magic("tensorrt", b"ftr")
    assert check_magic("onnxruntime", b"an ONNX file begins anyhow")


def test_a_missing_engine_or_identity_is_named(tmp_path: Path) -> None:
    path = write_engine(tmp_path)
    Path(identity_path(path)).unlink()
    with pytest.raises(CoopexportError, match=r"conv4_1\.head\.engine\.json is missing"):
        check_engine(path)
    Path(path).unlink()
    with pytest.raises(CoopexportError, match=r"conv4_1\.head\.engine is missing; make it with: coopexport build"):
        check_engine(path)


NEEDED = [name for name in EngineIdentity._fields if name not in ("compute_capability", "parity", "parity_reason")]


@pytest.mark.parametrize("field", NEEDED)
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    path = write_engine(tmp_path)
    content = json.loads(Path(identity_path(path)).read_text())
    del content[field]
    Path(identity_path(path)).write_text(json.dumps(content))
    with pytest.raises(CoopexportError, match=rf"conv4_1\.head\.engine\.json lacks {field}; build the engine again"):
        check_engine(path)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        *[(field, 5, "is no text") for field in NEEDED if isinstance(getattr(identity(), field), str)],
        ("compute_capability", 8.9, "is no text"),
        ("parity_reason", ["no GPU"], "is no text"),
        *[(field, value, "is no positive number") for field in ("engine_bytes", "batch") for value in ("1", 0, True)],
        *[(field, value, "is no list of objects") for field in ("inputs", "outputs") for value in (None, {}, ["x"])],
        ("flags", [], "is no object"),
        ("parity", "build", "is no list of objects"),
        ("parity", [{"check": "build"}], "and not both"),
        ("parity_reason", None, "it needs parity, or parity_reason"),
        ("parity_reason", "", "it needs parity, or parity_reason"),
    ],
)
def test_a_malformed_identity_is_refused_in_one_line(tmp_path: Path, field: str, value: Any, said: str) -> None:
    path = write_engine(tmp_path)
    edit(path, **{field: value})
    with pytest.raises(CoopexportError, match=r"conv4_1\.head\.engine\.json: ") as refusal:
        check_engine(path)
    assert said in str(refusal.value)
    assert field.split("_")[0] in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schema": "coopexport.engine/2.0"}', '{"engine_bytes": 5}'])
def test_a_file_that_is_no_identity_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = write_engine(tmp_path)
    Path(identity_path(path)).write_text(content)
    with pytest.raises(CoopexportError, match=r"conv4_1\.head\.engine\.json") as refusal:
        check_engine(path)
    assert "\n" not in str(refusal.value)
