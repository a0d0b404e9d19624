"""An identity is read as it was written, or refused: missing fields, malformed ones, and any change afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from engine_examples import DESKTOP, ORIN, RTX_ENGINE, rtx_identity, tensorrt_identity, write_engine
from hypothesis import given
from hypothesis import strategies as st

from jetson.engines import identity as engine_identity
from jetson.engines.build_settings import BuildSettings
from jetson.engines.identity import (
    EngineIdentity,
    decode_identity,
    encode_identity,
    for_another_owner,
    identity_path,
    read_identity,
    run_on,
    where_run,
)
from jetson.engines.machine import Machine
from jetson.errors import CoopexportError
from jetson.files.json_files import encode_json

OPTIONAL = ("parity", "parity_reason")
WRITTEN = encode_identity(rtx_identity())
NEEDED = [name for name in EngineIdentity._fields if name not in OPTIONAL]


def write(folder: Path, **fields: Any) -> str:
    return write_engine(folder, RTX_ENGINE, rtx_identity(**fields))


def edit(engine_path: str, **fields: Any) -> None:
    """Change fields of the file (None takes them out) and compute its digest anew, as an honest writer would."""
    path = Path(identity_path(engine_path))
    content = {**json.loads(path.read_text()), **fields}
    content = {key: value for key, value in content.items() if value is not None}
    content.pop("identity_sha256")
    path.write_bytes(encode_json(content["schema"], {**content, "identity_sha256": engine_identity._digest(content)}))


def test_the_identity_lies_beside_the_engine() -> None:
    assert identity_path("a/b/conv4_1.head.engine") == "a/b/conv4_1.head.engine.json"
    assert identity_path("a/b/features.conv4_1.tail.onnx") == "a/b/features.conv4_1.tail.engine.json"
    assert identity_path("a.b/whole.onnx") == "a.b/whole.engine.json"


@pytest.mark.parametrize(
    "written",
    [
        rtx_identity(),
        tensorrt_identity(),
        rtx_identity(compute_capabilities=()),
        rtx_identity(settings=BuildSettings("int8", (1, 4, 8), ("8.6", "8.9"), 1 << 28, 0, False, 3, True)),
        rtx_identity(parity_reason=None, parity=[{"check": "build", "error": 1e-7, "bound": 1e-3}]),
        rtx_identity(variant="größer ☃", flags={"2": [1.5, None, {"b": "ä"}], "10": True}),
    ],
)
def test_what_is_written_is_read_again(tmp_path: Path, written: EngineIdentity) -> None:
    path = write_engine(tmp_path, RTX_ENGINE, written)
    assert read_identity(path) == written
    content = json.loads(Path(identity_path(path)).read_text())
    assert content["schema"] == "coopexport.engine/2.0"
    assert None not in content.values()


def test_settings_and_machine_come_back_as_what_they_are() -> None:
    found = decode_identity(encode_identity(tensorrt_identity()), "x")
    assert (found.machine, found.machine.platform) == (ORIN, "Linux aarch64")
    assert (found.precision, found.batches) == ("fp16", (1, 1, 1))


def test_numbers_as_keys_do_not_change_the_digest() -> None:
    written = encode_identity(rtx_identity(flags={10: "a", 9: "b"}))
    assert decode_identity(written, "x").flags == {"10": "a", "9": "b"}


@pytest.mark.parametrize("indent", [None, 7])
def test_another_form_is_not_the_file_that_was_written(tmp_path: Path, indent: int | None) -> None:
    path = write(tmp_path)
    content = json.loads(Path(identity_path(path)).read_text())
    Path(identity_path(path)).write_text(json.dumps(content, indent=indent))
    with pytest.raises(CoopexportError, match="was altered since it was written"):
        read_identity(path)


def test_later_minor_versions_are_read(tmp_path: Path) -> None:
    path = write(tmp_path)
    settings = {**rtx_identity().settings.to_json(), "sparsity": "2:4"}
    machine = {**rtx_identity().machine.to_json(), "hypervisor": "none"}
    edit(path, schema="coopexport.engine/2.7", signature="something newer", settings=settings, machine=machine)
    assert read_identity(path) == rtx_identity()


@given(st.data())
def test_any_changed_byte_is_refused(data: st.DataObject) -> None:
    altered = bytearray(WRITTEN)
    altered[data.draw(st.integers(0, len(WRITTEN) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CoopexportError) as refusal:
        decode_identity(bytes(altered), "x")
    assert "\n" not in str(refusal.value)


@pytest.mark.full
def test_each_bit_of_each_byte_counts() -> None:
    for position in range(len(WRITTEN)):
        for bit in range(8):
            altered = bytearray(WRITTEN)
            altered[position] ^= 1 << bit
            with pytest.raises(CoopexportError):
                decode_identity(bytes(altered), "x")


@pytest.mark.parametrize(
    "change",
    [
        {"variant": "original"},
        {"backend_version": "1.7.1.117"},
        {"engine_bytes": 5},
        {"parity_reason": "none"},
        {"identity_sha256": "0" * 64},
        {"identity_sha256": None},
        {"schema": "coopexport.engine/2.1"},
        {"an_unknown_field": "added"},
    ],
)
def test_an_edited_identity_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write(tmp_path)
    content = json.loads(Path(identity_path(path)).read_text())
    content = {key: value for key, value in {**content, **change}.items() if value is not None}
    Path(identity_path(path)).write_bytes(encode_json(content["schema"], content))
    with pytest.raises(CoopexportError, match="was altered since it was written: do not load the engine"):
        read_identity(path)


@pytest.mark.parametrize("field", NEEDED)
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    path = write(tmp_path)
    edit(path, **{field: None})
    with pytest.raises(CoopexportError, match=rf"conv4_1\.head\.engine\.json lacks {field}; build the engine again"):
        read_identity(path)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        *[(field, 5, "is not text") for field in NEEDED if isinstance(getattr(rtx_identity(), field), str)],
        ("parity_reason", ["no GPU"], "is not text"),
        *[("engine_bytes", value, "is not a positive number") for value in ("1", 0, True, 1.5)],
        *[("build_seconds", value, "is not a number of seconds") for value in ("1", -0.5, True)],
        *[("compute_capabilities", value, "is not a list of texts") for value in ("8.9", [8.9], {})],
        *[(field, value, "is not a list of objects") for field in ("inputs", "outputs") for value in (5, {}, ["x"])],
        ("flags", [], "is not an object"),
        ("settings", [], "is not an object"),
        *[
            ("settings", {**rtx_identity().settings.to_json(), **change}, "settings are not those of a builder")
            for change in (
                {"batches": [1, 1]},
                {"batches": [1, 4, 2]},
                {"batches": [0, 1, 1]},
                {"batches": ["1", "1", "1"]},
                {"precision": 16},
                {"compute_capabilities": [8.9]},
            )
        ],
        ("settings", {"precision": "fp32"}, "settings are not those of a builder"),
        ("machine", "here", "the machine is not an object"),
        ("machine", {"operating_system": "Linux"}, "the machine lacks its architecture"),
        ("machine", {"operating_system": "Linux", "architecture": 64}, "the machine's architecture is not text"),
        (
            "machine",
            {"operating_system": "Linux", "architecture": "x86_64", "backends": {"tensorrt": 10}},
            "the machine's backends are not versions by name",
        ),
        ("parity", "build", "is not a list of objects"),
        ("parity", [{"check": "build"}], "and not both"),
        ("parity_reason", None, "it needs parity, or parity_reason"),
        ("parity_reason", "", "it needs parity, or parity_reason"),
    ],
)
def test_a_malformed_identity_is_refused_in_one_line(tmp_path: Path, field: str, value: Any, said: str) -> None:
    path = write(tmp_path)
    edit(path, **{field: value})
    with pytest.raises(CoopexportError, match=r"conv4_1\.head\.engine\.json: ") as refusal:
        read_identity(path)
    assert said in str(refusal.value)
    assert field.split("_")[0] in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schema": "coopexport.engine/1.0"}', '{"engine_bytes": 5}'])
def test_a_file_that_is_no_identity_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = write(tmp_path)
    Path(identity_path(path)).write_text(content)
    with pytest.raises(CoopexportError, match=r"conv4_1\.head\.engine\.json") as refusal:
        read_identity(path)
    assert "\n" not in str(refusal.value)


def test_a_missing_identity_says_not_to_load(tmp_path: Path) -> None:
    path = write(tmp_path)
    Path(identity_path(path)).unlink()
    with pytest.raises(CoopexportError, match=r"conv4_1\.head\.engine\.json is missing: .* do not load it"):
        read_identity(path)


@pytest.mark.parametrize("golden_sha256", ["3" * 64, "4" * 64])
def test_another_owner_keeps_the_checks_only_with_the_same_golden_data(golden_sha256: str) -> None:
    checked = rtx_identity(parity=[{"check": "build", "error": 0.0}], parity_reason=None)
    names = {"variant": "b", "layer": "pool3", "role": "tail", "target": "mine", "source_sha256": "5" * 64}
    again = for_another_owner(checked, golden_sha256=golden_sha256, **names)
    same = golden_sha256 == checked.golden_sha256
    assert again == checked._replace(
        golden_sha256=golden_sha256,
        parity=checked.parity if same else None,
        parity_reason=None if same else "built for pruned and not checked with these golden data",
        **names,
    )
    assert decode_identity(encode_identity(again), "x") == again


@pytest.mark.parametrize(
    ("machine", "backend", "said"),
    [
        (Machine("Linux", "x86_64", backends={"onnxruntime": "1.31.1"}), "onnxruntime",
         "Linux x86_64, ONNX Runtime 1.31.1"),
        (ORIN, "tensorrt", "NVIDIA Jetson Orin Nano Developer Kit, Linux aarch64, TensorRT 10.3.0.30"),
        (DESKTOP, "tensorrt-rtx", "NVIDIA GeForce RTX 4090, Linux x86_64, TensorRT-RTX of unknown version"),
    ],
)  # fmt: skip
def test_checks_say_where_they_were_run(machine: Machine, backend: str, said: str) -> None:
    checks = [{"check": "build", "error": 0.0}, {"check": "build", "error": 0.5}]
    recorded = run_on(checks, machine, backend)
    assert recorded == [{**check, "run_on": said} for check in checks]
    identity = rtx_identity(parity=recorded, parity_reason=None, machine=Machine("Linux", "ppc64le"))
    again = decode_identity(encode_identity(identity), "it")
    assert (again, where_run(again)) == (identity, said)
    # Older records do not say it: they were run where the engine was built.
    assert where_run(rtx_identity(parity=checks, parity_reason=None, machine=machine, backend=backend)) == said
