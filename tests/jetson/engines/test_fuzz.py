"""Damaged, foreign and mismatched engines: none reaches the deserialiser, whatever byte it is."""

from __future__ import annotations

import random
from importlib import util
from pathlib import Path

import pytest
from engine_examples import DESKTOP, ORIN, TENSORRT_ENGINE, rtx_identity, tensorrt_identity
from tensorrt_doubles.engine_file import decode_engine, encode_engine

from jetson.engines.identity import EngineIdentity, encode_identity, identity_path
from jetson.engines.machine import Machine
from jetson.engines.verification import Expected, verify_engine
from jetson.errors import CoopexportError

KINDS = ["real RTX engine", "plan of a double"]
COUNT = 1000


class RecordingLoader:
    """Loads an engine as every caller has to: what `verify_engine` hands over, and nothing else. Records what
    arrived.
    """

    def __init__(self, folder: Path, machine: Machine, expected: Expected) -> None:
        self.path = folder / "conv4_1.head.engine"
        self.machine, self.expected = machine, expected
        self.deserialised: list[bytes] = []

    def place(self, engine: bytes | None, identity: bytes | None) -> None:
        for path, content in ((self.path, engine), (Path(identity_path(str(self.path))), identity)):
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)

    def load(self) -> None:
        _, data = verify_engine(str(self.path), self.machine, self.expected)
        self.deserialised.append(data)


def original_of(kind: str, request: pytest.FixtureRequest) -> tuple[bytes, EngineIdentity, Machine]:
    if kind == "plan of a double":
        return TENSORRT_ENGINE, tensorrt_identity(), ORIN
    if util.find_spec("tensorrt_rtx") is None:
        pytest.skip("left out: TensorRT-RTX is Linux on x86-64 only")
    import tensorrt_rtx

    engine: bytes = request.getfixturevalue("real_rtx_engine")
    version = tensorrt_rtx.__version__
    return engine, rtx_identity(engine, backend_version=version), DESKTOP._replace(backends={"tensorrt-rtx": version})


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[RecordingLoader, bytes, EngineIdentity]:
    engine, identity, machine = original_of(request.param, request)
    expected = Expected(source_sha256=identity.source_sha256, layer=identity.layer, role=identity.role)
    loader = RecordingLoader(tmp_path, machine, expected)
    loader.place(engine, encode_identity(identity))
    loader.load()
    assert loader.deserialised.pop() == engine
    return loader, engine, identity


def corrupted(data: bytes, draw: random.Random) -> bytes:
    """Return `data` with bits, bytes or many of them changed, cut at an end, longer, zeroed or turned around."""
    kind = draw.randrange(8)
    position, length = draw.randrange(len(data)), draw.randint(1, 64)
    # Every other hit goes where it is hardest to notice otherwise: into the header.
    position = draw.randrange(min(64, len(data))) if draw.random() < 0.5 else position
    altered = bytearray(data)
    if kind == 0:
        altered[position] ^= 1 << draw.randrange(8)
    elif kind == 1:
        altered[position] ^= draw.randint(1, 255)
    elif kind == 2:
        for _ in range(length):
            altered[draw.randrange(len(data))] ^= draw.randint(1, 255)
    elif kind == 3:
        del altered[position:]
    elif kind == 4:
        del altered[: position + 1]
    elif kind == 5:
        altered[position:position] = bytes(draw.randrange(256) for _ in range(length))
    elif kind == 6:
        altered[position : position + length] = bytes(length)
    else:
        altered.reverse()
    return bytes(altered)


def test_random_corruptions_never_reach_the_deserialiser(
    case: tuple[RecordingLoader, bytes, EngineIdentity],
) -> None:
    loader, engine, identity = case
    written = encode_identity(identity)
    draw = random.Random(20261121)
    refused = 0
    while refused < COUNT:
        damaged = (corrupted(engine, draw), written) if draw.random() < 0.6 else (engine, corrupted(written, draw))
        if damaged == (engine, written):  # zeros over zeros
            continue
        loader.place(*damaged)
        with pytest.raises(CoopexportError) as refusal:
            loader.load()
        assert "\n" not in str(refusal.value)
        refused += 1
    assert loader.deserialised == []


def test_every_byte_of_the_header_counts(case: tuple[RecordingLoader, bytes, EngineIdentity]) -> None:
    loader, engine, identity = case
    for position in range(64):
        altered = bytearray(engine)
        altered[position] ^= 0x55
        loader.place(bytes(altered), encode_identity(identity))
        with pytest.raises(CoopexportError, match="do not load it"):
            loader.load()
    assert loader.deserialised == []


def test_honest_engines_of_something_else_never_reach_the_deserialiser(
    case: tuple[RecordingLoader, bytes, EngineIdentity],
) -> None:
    """Each of these has a true identity of its own: only the comparison with what is here and wanted tells."""
    loader, engine, identity = case
    mask = {"tensorrt-rtx": 4, "tensorrt": 0}[identity.backend]
    version = (9, 9, 9, 9)
    newer = encode_engine(identity.backend, version, b"graph", {}, 8 if mask else 0)
    elsewhere = encode_engine(identity.backend, tuple(map(int, identity.backend_version.split("."))), b"", {}, mask)
    make = rtx_identity if mask else tensorrt_identity
    same_backend = {"backend_version": identity.backend_version}
    others = {
        "version": (newer, make(newer, backend_version="9.9.9.9")),
        "SM": (elsewhere, make(elsewhere, compute_capabilities=("8.6",), **same_backend)),
        "platform": (engine, identity._replace(machine=Machine("Windows", "AMD64"))),
        "model": (engine, identity._replace(source_sha256="9" * 64)),
        "layer": (engine, identity._replace(layer="pool3")),
        "role": (engine, identity._replace(role="tail")),
    }
    for name, (data, own) in others.items():
        loader.place(data, encode_identity(own))
        with pytest.raises(CoopexportError) as refusal:
            loader.load()
        assert "; build it again" in str(refusal.value), name
    loader.place(engine, None)
    with pytest.raises(CoopexportError, match="nothing says what this engine is"):
        loader.load()
    loader.place(newer, encode_identity(identity))
    with pytest.raises(CoopexportError, match="do not load it"):
        loader.load()
    assert loader.deserialised == []


def test_without_admission_most_of_them_would_have_been_taken() -> None:
    """The double's own checks, which are the real library's, let a changed body through: the hash is not for show."""
    draw = random.Random(1)
    taken = 0
    for _ in range(200):
        altered = bytearray(TENSORRT_ENGINE)
        altered[draw.randrange(64, len(TENSORRT_ENGINE))] ^= 1
        try:
            decode_engine(bytes(altered), "tensorrt", (10, 3, 0, 30))
        except (ValueError, KeyError):
            continue
        taken += 1
    assert taken > 100
