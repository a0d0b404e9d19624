"""An engine and its identity, for tests that need no real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorrt_doubles.engine_file import encode_engine

from jetson.engines.build_settings import BuildSettings
from jetson.engines.identity import EngineIdentity, encode_identity, identity_path
from jetson.engines.machine import Machine
from jetson.files.atomic_files import sha256_of_bytes

DESKTOP = Machine("Linux", "x86_64", gpu="NVIDIA GeForce RTX 4090", compute_capability="8.9", driver="580.1")
ORIN = Machine(
    "Linux",
    "aarch64",
    board="NVIDIA Jetson Orin Nano Developer Kit",
    chip="tegra234",
    l4t="36.4.3",
    compute_capability="8.7",
    cuda="12.6",
    backends={"tensorrt": "10.3.0.30"},
)
RTX_ENGINE = encode_engine("tensorrt-rtx", (1, 7, 1, 116), bytes(range(200)), {"a": 1}, capability_mask=8)
TENSORRT_ENGINE = encode_engine("tensorrt", (10, 3, 0, 30), bytes(range(200)), {"a": 1})


def rtx_identity(engine: bytes = RTX_ENGINE, **fields: Any) -> EngineIdentity:
    """Return the identity of a TensorRT-RTX engine for SM 8.9, with other fields where given."""
    plain = EngineIdentity(
        engine_sha256=sha256_of_bytes(engine),
        engine_bytes=len(engine),
        source_sha256="1" * 64,
        target_file_sha256="2" * 64,
        golden_sha256="3" * 64,
        variant="pruned",
        layer="conv4_1",
        role="head",
        target="rtx-ada",
        backend="tensorrt-rtx",
        backend_version="1.7.1.116",
        compute_capabilities=("8.9",),
        settings=BuildSettings(compute_capabilities=("8.9",)),
        flags={"strongly_typed": True},
        builder="tensorrt-rtx module",
        coopexport_version="0.1.0",
        machine=Machine("Linux", "x86_64", backends={"tensorrt-rtx": "1.7.1.116"}),
        inputs=[{"name": "images", "dtype": "float32", "shape": [1, 3, 32, 32]}],
        outputs=[{"name": "symbols_0", "dtype": "uint8", "shape": [1, 12, 4, 4]}],
        built_at="2026-08-01T10:00:00+00:00",
        build_seconds=0.25,
        parity_reason="no GPU here",
    )
    return plain._replace(**fields)


def tensorrt_identity(engine: bytes = TENSORRT_ENGINE, **fields: Any) -> EngineIdentity:
    """Return the identity of a classic TensorRT engine built on an Orin Nano, with other fields where given."""
    plain = rtx_identity(engine)._replace(
        target="orin-nano",
        backend="tensorrt",
        backend_version="10.3.0.30",
        compute_capabilities=("8.7",),
        settings=BuildSettings(precision="fp16"),
        builder="tensorrt module",
        machine=ORIN,
    )
    return plain._replace(**fields)


def write_engine(folder: Path, engine: bytes, identity: EngineIdentity) -> str:
    """Write an engine and an identity, of it or not; return the engine's path."""
    path = folder / "conv4_1.head.engine"
    path.write_bytes(engine)
    Path(identity_path(str(path))).write_bytes(encode_identity(identity))
    return str(path)
