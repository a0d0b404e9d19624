"""An engine is handed over only where it belongs: each refusal says what is here, what the engine is, what to do."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_examples import DESKTOP, ORIN, RTX_ENGINE, TENSORRT_ENGINE, rtx_identity, tensorrt_identity, write_engine
from hypothesis import given
from hypothesis import strategies as st
from tensorrt_doubles.engine_file import encode_engine

from jetson.engines.build_settings import BuildSettings
from jetson.engines.identity import EngineIdentity, identity_path
from jetson.engines.machine import Machine
from jetson.engines.verification import (
    Expected,
    describe_incompatibility,
    file_problems,
    read_engine,
    same_l4t,
    same_version,
    unchecked,
    verify_engine,
)
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes

ANYTHING = Expected()
RTX_HERE = DESKTOP._replace(backends={"tensorrt-rtx": "1.7.1.116"})


def onnx_identity(**fields: Any) -> EngineIdentity:
    plain = rtx_identity(b"an ONNX file", backend="onnxruntime", backend_version="1.31.1", compute_capabilities=())
    return plain._replace(target="cpu", settings=BuildSettings(), **fields)


@pytest.mark.parametrize(
    ("engine", "identity", "machine"),
    [
        (RTX_ENGINE, rtx_identity(), RTX_HERE),
        (TENSORRT_ENGINE, tensorrt_identity(), ORIN),
        (
            TENSORRT_ENGINE,
            tensorrt_identity(),
            ORIN._replace(l4t="36.4.7", board="NVIDIA Jetson AGX Orin Developer Kit"),
        ),
        (TENSORRT_ENGINE, tensorrt_identity(), Machine("Linux", "aarch64")),
        (b"an ONNX file", onnx_identity(), ORIN._replace(backends={"onnxruntime": "1.10.0"})),
    ],
    ids=["rtx", "plan", "plan of a sister board", "nothing known", "onnx elsewhere"],
)
def test_what_belongs_here_is_handed_over(
    tmp_path: Path, engine: bytes, identity: EngineIdentity, machine: Machine
) -> None:
    path = write_engine(tmp_path, engine, identity)
    assert verify_engine(path, machine, ANYTHING) == (identity, engine)
    assert read_engine(path) == (identity, engine)


BUILD_HERE = (
    "; build it again on this device: python3 coop-agent.pyz build "
    "(or coopexport build --target orin-nano --device user@host)"
)


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (ORIN._replace(backends={"tensorrt": "10.13.3.9"}), "TensorRT 10.13.3.9 here, engine built by 10.3.0.30"),
        (ORIN._replace(backends={"tensorrt": "10.3.0.26"}), "TensorRT 10.3.0.26 here, engine built by 10.3.0.30"),
        (ORIN._replace(backends={"tensorrt": "10.4.0"}), "TensorRT 10.4.0 here, engine built by 10.3.0.30"),
        (
            ORIN._replace(backends={"onnxruntime": "1.23.2"}),
            "no usable TensorRT here, engine built by 10.3.0.30",
        ),
        (ORIN._replace(compute_capability="7.2"), "SM 7.2 here, engine built for 8.7"),
        (ORIN._replace(operating_system="QNX"), "QNX aarch64 here, engine built on Linux aarch64"),
        (ORIN._replace(architecture="x86_64"), "Linux x86_64 here, engine built on Linux aarch64"),
        (ORIN._replace(l4t="39.2.0"), "L4T 39.2.0 here, engine built on 36.4.3"),
        (ORIN._replace(l4t="36.5.0"), "L4T 36.5.0 here, engine built on 36.4.3"),
    ],
)
def test_a_plan_from_elsewhere_is_refused(tmp_path: Path, machine: Machine, said: str) -> None:
    path = write_engine(tmp_path, TENSORRT_ENGINE, tensorrt_identity())
    with pytest.raises(CoopexportError) as refusal:
        verify_engine(path, machine, ANYTHING)
    assert str(refusal.value) == f"engine {path}: {said}{BUILD_HERE}"
    assert describe_incompatibility(tensorrt_identity(), machine) == [said]


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (RTX_HERE._replace(compute_capability="8.6"), "SM 8.6 here, engine built for 8.9"),
        (RTX_HERE._replace(backends={"tensorrt-rtx": "1.4.0.76"}), "TensorRT-RTX 1.4.0.76 here, engine built by 1.7.1"),
        (RTX_HERE._replace(operating_system="Windows"), "Windows x86_64 here, engine built on Linux x86_64"),
    ],
)
def test_an_rtx_engine_from_elsewhere_is_refused(tmp_path: Path, machine: Machine, said: str) -> None:
    path = write_engine(tmp_path, RTX_ENGINE, rtx_identity())
    with pytest.raises(CoopexportError) as refusal:
        verify_engine(path, machine, ANYTHING)
    assert said in str(refusal.value)
    assert str(refusal.value).endswith("; build it again: coopexport build --target rtx-ada")


def test_an_rtx_engine_runs_on_each_gpu_that_it_was_built_for(tmp_path: Path) -> None:
    engine = encode_engine("tensorrt-rtx", (1, 7, 1, 116), b"x", {}, capability_mask=4 | 8)
    path = write_engine(tmp_path, engine, rtx_identity(engine, compute_capabilities=("8.9", "8.6")))
    for capability in ("8.6", "8.9"):
        verify_engine(path, RTX_HERE._replace(compute_capability=capability), ANYTHING)
    with pytest.raises(CoopexportError, match=r"SM 12\.0 here, engine built for 8\.9, 8\.6"):
        verify_engine(path, RTX_HERE._replace(compute_capability="12.0"), ANYTHING)


def test_a_backend_that_is_not_known_is_refused(tmp_path: Path) -> None:
    path = write_engine(tmp_path, b"x", rtx_identity(b"x", backend="openvino"))
    with pytest.raises(CoopexportError, match="its backend openvino is not known"):
        verify_engine(path, DESKTOP, ANYTHING)


def test_all_differences_are_listed() -> None:
    nano = Machine("Linux", "aarch64", l4t="32.7.1", compute_capability="5.3", backends={"tensorrt": "8.2.1.9"})
    assert describe_incompatibility(tensorrt_identity(), nano) == [
        "TensorRT 8.2.1.9 here, engine built by 10.3.0.30",
        "SM 5.3 here, engine built for 8.7",
        "L4T 32.7.1 here, engine built on 36.4.3",
    ]


def test_an_engine_for_a_dla_stays_on_its_board(tmp_path: Path) -> None:
    identity = tensorrt_identity(settings=BuildSettings("fp16", dla_core=0))
    path = write_engine(tmp_path, TENSORRT_ENGINE, identity)
    verify_engine(path, ORIN, ANYTHING)
    with pytest.raises(CoopexportError, match="AGX Orin here, engine built for the DLA of NVIDIA Jetson Orin Nano"):
        verify_engine(path, ORIN._replace(board="NVIDIA Jetson AGX Orin"), ANYTHING)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        (
            Expected(backend="tensorrt-rtx"),
            "is another one: needed is backend tensorrt-rtx, its identity says tensorrt",
        ),
        (Expected(target="xavier-nx"), "is another one: needed is target xavier-nx, its identity says orin-nano"),
        (Expected(variant="original"), "is another one: needed is variant original, its identity says pruned"),
        (Expected(layer="pool3"), "is another one: needed is layer pool3, its identity says conv4_1"),
        (Expected(role="tail"), "is another one: needed is role tail, its identity says head"),
        (Expected(precision="fp32"), "is another one: needed is precision fp32, its identity says fp16"),
        (Expected(source_sha256="9" * 64), "was built from another or older head of conv4_1 than the one here"),
        (Expected(target_file_sha256="9" * 64), "was built from another file for orin-nano"),
        (Expected(batch=2), "takes batches of 1, needed is 2"),
    ],
)
def test_another_models_engine_is_refused(tmp_path: Path, expected: Expected, said: str) -> None:
    path = write_engine(tmp_path, TENSORRT_ENGINE, tensorrt_identity())
    with pytest.raises(CoopexportError) as refusal:
        verify_engine(path, ORIN, expected)
    assert f"engine {path} {said}" in str(refusal.value)
    assert str(refusal.value).endswith(BUILD_HERE)


@pytest.mark.parametrize(("batch", "fits"), [(1, True), (3, True), (8, True), (9, False)])
def test_dynamic_batches_are_a_range(tmp_path: Path, batch: int, fits: bool) -> None:
    path = write_engine(tmp_path, TENSORRT_ENGINE, tensorrt_identity(settings=BuildSettings("fp16", (1, 4, 8))))
    if fits:
        verify_engine(path, ORIN, Expected(batch=batch))
    else:
        with pytest.raises(CoopexportError, match="takes batches of 1 to 8, needed is 9"):
            verify_engine(path, ORIN, Expected(batch=batch))


def test_the_engine_that_is_expected_is_handed_over(tmp_path: Path) -> None:
    identity = tensorrt_identity()
    fields = {name: getattr(identity, name) for name in Expected._fields if name != "batch"}
    verify_engine(write_engine(tmp_path, TENSORRT_ENGINE, identity), ORIN, Expected(batch=1, **fields))


def rewritten(offset: int, form: str, value: int) -> Callable[[bytes], bytes]:
    def change(engine: bytes) -> bytes:
        altered = bytearray(engine)
        struct.pack_into(form, altered, offset, value)
        return bytes(altered)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda engine: engine[:-1], "is truncated"),
        (lambda engine: b"", "is truncated (0 bytes"),
        (lambda engine: engine + b"\0", "is too long"),
        (lambda engine: engine[:80] + b"?" + engine[81:], "is not the file that its identity names"),
        (rewritten(0, "<I", 0), "does not begin like an engine of TensorRT-RTX"),
        (lambda engine: b"ftrt" + engine[4:], "does not begin like an engine of TensorRT-RTX but like one of TensorRT"),
        (rewritten(27, "<B", 117), "was written by TensorRT-RTX 1.7.1.117, its identity says 1.7.1.116"),
        (rewritten(16, "<Q", 5), "is of 5 bytes by its header"),
        (rewritten(32, "<I", 4), "is for SM 8.6 by its header, its identity says 8.9"),
        (rewritten(32, "<I", 0), "is for SM none by its header, its identity says 8.9"),
    ],
)
def test_a_file_that_is_not_what_its_identity_says_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], said: str
) -> None:
    path = write_engine(tmp_path, change(RTX_ENGINE), rtx_identity())
    with pytest.raises(CoopexportError) as refusal:
        verify_engine(path, RTX_HERE, ANYTHING)
    assert said in str(refusal.value)
    assert str(refusal.value).endswith("do not load it; build it again, or copy engine and identity again")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"backend_version": "1.7.0.1"}, "was written by TensorRT-RTX 1.7.1.116, its identity says 1.7.0.1"),
        ({"compute_capabilities": ("8.9", "12.0")}, "is for SM 8.9 by its header, its identity says 8.9, 12.0"),
        ({"compute_capabilities": ()}, "is for SM 8.9 by its header, its identity says none"),
    ],
)
def test_header_and_identity_have_to_agree_even_where_the_hash_does(
    tmp_path: Path, wrong: dict[str, Any], said: str
) -> None:
    path = write_engine(tmp_path, RTX_ENGINE, rtx_identity(**wrong))
    with pytest.raises(CoopexportError) as refusal:
        read_engine(path)
    assert said in str(refusal.value)


def test_a_plan_from_before_8_6_is_taken_for_one(tmp_path: Path) -> None:
    """Its header holds no version: whatever stands in that place says nothing against it."""
    engine = encode_engine("tensorrt", (8, 5, 2, 2), b"graph", {})
    identity = tensorrt_identity(engine, backend_version="8.5.2.2")
    assert read_engine(write_engine(tmp_path, engine, identity)) == (identity, engine)
    path = write_engine(tmp_path, engine, tensorrt_identity(engine))
    with pytest.raises(CoopexportError, match=r"like an engine of TensorRT before 8\.6, its identity says 10\.3"):
        read_engine(path)


def test_an_upper_case_hash_is_not_the_hash(tmp_path: Path) -> None:
    path = write_engine(tmp_path, RTX_ENGINE, rtx_identity(engine_sha256=sha256_of_bytes(RTX_ENGINE).upper()))
    with pytest.raises(CoopexportError, match="another SHA-256"):
        read_engine(path)


def test_a_missing_engine_or_identity_is_named(tmp_path: Path) -> None:
    path = write_engine(tmp_path, RTX_ENGINE, rtx_identity())
    Path(identity_path(path)).unlink()
    with pytest.raises(CoopexportError, match=r"conv4_1\.head\.engine\.json is missing: .*do not load it"):
        verify_engine(path, RTX_HERE, ANYTHING)
    Path(path).unlink()
    with pytest.raises(CoopexportError, match=r"conv4_1\.head\.engine is missing; make it with: coopexport build"):
        verify_engine(path, RTX_HERE, ANYTHING)


def test_the_file_is_opened_once_and_only_as_much_read_as_the_identity_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_engine(tmp_path, RTX_ENGINE, rtx_identity())
    os.truncate(path, 1 << 40)  # sparse: a terabyte that takes no room
    with pytest.raises(CoopexportError, match=r"too long \(1,099,511,627,776 bytes"):
        read_engine(path)
    Path(path).write_bytes(RTX_ENGINE)
    opened = []
    real_open = open

    def noting(name: Any, *arguments: Any, **keywords: Any) -> Any:
        opened.append(str(name))
        return real_open(name, *arguments, **keywords)

    monkeypatch.setattr("builtins.open", noting)
    assert verify_engine(path, RTX_HERE, ANYTHING)[1] == RTX_ENGINE
    assert opened == [identity_path(path), path]


def test_problems_of_bytes_in_memory() -> None:
    assert list(file_problems(rtx_identity(), RTX_ENGINE)) == []
    assert len(list(file_problems(rtx_identity(), RTX_ENGINE[:-1]))) == 2


@pytest.mark.parametrize(
    ("identity", "machine", "said"),
    [
        (rtx_identity(), RTX_HERE, []),
        (tensorrt_identity(), ORIN, []),
        (
            rtx_identity(),
            Machine("Linux", "x86_64"),
            [
                "the version of TensorRT-RTX here is not known, engine built by 1.7.1.116",
                "SM not known here, engine built for 8.9",
            ],
        ),
        (
            tensorrt_identity(compute_capabilities=()),
            ORIN._replace(l4t=None, backends={"tensorrt": "10.3.0"}),
            [
                "TensorRT 10.3.0 here, engine built by 10.3.0.30: only what both say was compared",
                "SM 8.7 here, engine built for one not known",
                "L4T not known here, engine built on 36.4.3",
            ],
        ),
        (
            tensorrt_identity(),
            ORIN._replace(board="NVIDIA Jetson AGX Orin"),
            ["NVIDIA Jetson AGX Orin here, engine tuned on NVIDIA Jetson Orin Nano Developer Kit"],
        ),
        (
            onnx_identity(),
            DESKTOP._replace(backends={"onnxruntime": "1.30.0"}),
            ["ONNX Runtime 1.30.0 here, engine built by 1.31.1"],
        ),
        (
            onnx_identity(parity=[{"check": "build"}], parity_reason=None),
            DESKTOP._replace(backends={"onnxruntime": "1.30.0"}),
            ["ONNX Runtime 1.30.0 here, engine checked with 1.31.1"],
        ),
        (
            onnx_identity(parity=[{"check": "build"}], parity_reason=None),
            ORIN._replace(backends={"onnxruntime": "1.31.1"}),
            ["Linux aarch64 here, engine checked on Linux x86_64"],
        ),
        (
            onnx_identity(),
            ORIN._replace(backends={"onnxruntime": "1.31.1"}),
            ["Linux aarch64 here, engine built and not checked on Linux x86_64"],
        ),
    ],
)
def test_what_was_not_compared_is_said(identity: EngineIdentity, machine: Machine, said: list[str]) -> None:
    assert describe_incompatibility(identity, machine) == []
    assert unchecked(identity, machine) == said


VERSIONS = st.lists(st.integers(0, 40), min_size=3, max_size=4)


@given(VERSIONS, VERSIONS)
def test_versions_agree_when_all_numbers_that_both_have_are_equal(one: list[int], other: list[int]) -> None:
    shared = min(len(one), len(other))
    agree = one[:shared] == other[:shared]
    texts = [".".join(map(str, numbers)) for numbers in (one, other)]
    assert same_version(*texts) == same_version(*reversed(texts)) == agree
    assert same_version(texts[0], texts[0])
    assert same_l4t(*texts) == (one[:2] == other[:2])
