"""All targets, put together from the tables of engines/targets/targets.toml."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Any

from engines.targets.target import Kind, Target, numbers_of
from jetson.errors import UnsupportedError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_CPU = "-cpu"
_ARM64 = "aarch64"
_PREFERRED_MAJOR = 6  # JetPack 6: the one that Orin boards in the field have


def all_targets() -> Iterator[Target]:
    """Yield every target: `cpu`, `arm64-cpu` and `cuda`, graphics cards by library, Jetsons by board and JetPack."""
    tables = _tables()
    yield Target("cpu", "any CPU, ONNX Runtime", "onnxruntime", ("CPUExecutionProvider",), fast_fp16=False)
    providers = ("CUDAExecutionProvider",)
    yield Target(
        "arm64-cpu",
        "any 64-bit Arm processor with Linux, ONNX Runtime",
        "onnxruntime",
        ("CPUExecutionProvider",),
        architecture=_ARM64,
    )
    yield Target("cuda", "NVIDIA GPU, ONNX Runtime with CUDA", "onnxruntime", providers, fast_fp16=True)
    for name, card in tables["gpu"].items():
        yield _card(f"tensorrt-{name}", card, "tensorrt", "TensorRT")
    for card in tables["gpu"].values():
        if "rtx" in card:
            yield _card(f"rtx-{card['rtx']}", card, "tensorrt-rtx", "TensorRT-RTX, built without a GPU")
    for name, board in tables["board"].items():
        for jetpack in board["jetpacks"]:
            yield _jetson(name, board, jetpack)
            yield _jetson_cpu(name, board, jetpack)


def full_name(name: str) -> str:
    """Return the name of the target that `name` stands for; itself where it stands for nothing.

    "orin-nano" is the board with its newest JetPack 6, or the newest that it has; "orin-nano@6.1" the board with the
    JetPack that ships the same TensorRT.
    """
    tables = _tables()
    machine, at, jetpack = name.partition("@")
    board = tables["board"].get(machine.removesuffix(_CPU))
    if board is None:
        return name
    if at:
        same = (release for release in board["jetpacks"] if jetpack in tables["jetpack"][release]["also"])
        return f"{machine}@{next(same, jetpack)}"
    preferred = [item for item in board["jetpacks"] if numbers_of(item)[0] == _PREFERRED_MAJOR]
    return f"{machine}@{max(preferred or board['jetpacks'], key=numbers_of)}"


def jetpacks_of(board: str) -> tuple[str, ...]:
    """Return the JetPack releases that a board has targets for; none for what is not a board."""
    return tuple(_tables()["board"].get(board, {}).get("jetpacks", ()))


def tensorrt_properties(version: str) -> dict[str, Any]:
    """Return what a TensorRT release can do: `opset`, `uint8`, `dla`; of the newest known one that is no newer.

    Raises CoopexportError when it is older than all that are known.
    """
    lines = {numbers_of(line): values for line, values in _tables()["tensorrt"].items()}
    older = [line for line in lines if line <= numbers_of(version)[:2]]
    if not older:
        raise UnsupportedError(f"TensorRT {version} is not supported; the oldest is {'.'.join(map(str, min(lines)))}")
    return dict(lines[max(older)])


@lru_cache(maxsize=1)
def _tables() -> dict[str, Any]:
    return tomllib.loads(files("engines.targets").joinpath("targets.toml").read_text(encoding="utf-8"))


def _card(name: str, card: dict[str, Any], backend: str, builder: str) -> Target:
    kind: Kind = card["kind"]
    capability = card["compute_capability"]
    return Target(
        name,
        f"{card['title']} (SM {capability}), {builder}",
        backend,
        compute_capability=capability,
        kind=kind,
        opset=_tables()["library"][backend]["opset"],
        fast_fp16=True,
        fast_int8=True,
    )


def _jetson(name: str, board: dict[str, Any], jetpack: str) -> Target:
    release = _tables()["jetpack"][jetpack]
    properties = tensorrt_properties(release["tensorrt"])
    return Target(
        f"{name}@{jetpack}",
        f"{board['title']}, JetPack {jetpack}, TensorRT {release['tensorrt']}",
        "tensorrt",
        compute_capability=board["compute_capability"],
        tensorrt=release["tensorrt"],
        opset=properties["opset"],
        dla_cores=board["dla_cores"] if properties["dla"] else 0,
        fast_fp16=True,
        fast_int8=board["fast_int8"],
        uint8=properties["uint8"],
        **_machine(name, board, jetpack),
    )


def _jetson_cpu(name: str, board: dict[str, Any], jetpack: str) -> Target:
    """Return the processor of a Jetson, through the ONNX Runtime that its Python can have."""
    version = _tables()["jetpack"][jetpack]["onnxruntime"]
    return Target(
        f"{name}{_CPU}@{jetpack}",
        f"{board['title']}'s processor, JetPack {jetpack}, ONNX Runtime {version}",
        "onnxruntime",
        ("CPUExecutionProvider",),
        onnxruntime=version,
        opset=_tables()["onnxruntime"][version].get("opset"),
        # Whether computing in half is faster where there is half arithmetic, nobody has measured.
        fast_fp16=None if board["half_arithmetic"] else False,
        **_machine(name, board, jetpack),
    )


def _machine(name: str, board: dict[str, Any], jetpack: str) -> dict[str, Any]:
    """Return what holds for a Jetson whatever builds for it."""
    release = _tables()["jetpack"][jetpack]
    first = max(board.get("first_l4t", "0"), release["l4t"][0], key=numbers_of)
    return {
        "kind": "jetson",
        "board": name,
        "chip": board["chip"],
        "architecture": _ARM64,
        "half_arithmetic": board["half_arithmetic"],
        "jetpack": jetpack,
        "l4t": first,
        "last_l4t": release["l4t"][1],
        "cuda": release["cuda"],
        "python": release["python"],
        "memory_bytes": board["memory_gib"] << 30,
        "power_modes": tuple(board.get("power_modes", {}).get(jetpack, ())),
    }
