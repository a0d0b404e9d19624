"""Masks: which output channels a pruned network keeps, and what "masked" means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from jetson.errors import CoopexportError, DamagedFileError, InputError, reworded
from jetson.files.atomic_files import write_file
from jetson.files.json_files import same_major

SCHEMA = "coopexport.masks/1.0"
Meaning = Literal["channel", "weight"]


@dataclass(frozen=True)
class Masks:
    """Which output channels are kept, layer by layer.

    `keep`: boolean vectors, one entry per output channel, by the layer's name in the network.
    `meaning`: `channel`, a masked channel is zero after the layer's batch norm and activation;
    `weight`, its filter's weights and bias are zero and batch norm and activation still apply.
    """

    keep: Mapping[str, NDArray[np.bool_]]
    meaning: Meaning
    origin: str = field(default="")

    def __post_init__(self) -> None:
        if self.meaning not in get_args(Meaning):
            raise InputError(
                f'masks have the meaning "{self.meaning}"; it must be one of {", ".join(get_args(Meaning))}'
            )
        for name, keep in self.keep.items():
            if keep.dtype != np.bool_ or keep.ndim != 1:
                raise InputError(
                    f"the mask of {name} is {keep.dtype} of shape {keep.shape}; it must be a boolean vector with "
                    "one entry per output channel",
                    layer=name,
                )


def read_masks(path: Path) -> Masks:
    """Read a mask file; raises CoopexportError when it is missing, corrupt or of another schema."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"mask file {path} is missing", path=path, fix="check model.masks")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            keep = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, ValueError) as error:
        raise DamagedFileError(f"mask file {path} is corrupt: {error}", path=path) from None
    if not same_major(metadata.get("schema", ""), SCHEMA):
        raise DamagedFileError(
            f'mask file {path} has schema "{metadata.get("schema", "none")}"; this version reads {SCHEMA}', path=path
        )
    try:
        return Masks(keep, metadata.get("meaning", "none"), metadata.get("origin", ""))
    except CoopexportError as error:
        raise reworded(error, f"mask file {path}: {error}", path=path) from None


def write_masks(path: Path, masks: Masks) -> None:
    """Write a mask file atomically; raises OSError."""
    write_file(str(path), encode_masks(masks))


def encode_masks(masks: Masks) -> bytes:
    """Return what a mask file holds."""
    from safetensors.numpy import save

    metadata = {"schema": SCHEMA, "meaning": masks.meaning, "origin": masks.origin}
    return _reproducible(save({name: np.ascontiguousarray(keep) for name, keep in masks.keep.items()}, metadata))


def _reproducible(content: bytes) -> bytes:
    """Return a safetensors file with its metadata in order; the library writes them in any order.

    Source: https://huggingface.co/docs/safetensors (8 bytes of header size, header in JSON, tensors).
    """
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)  # tensors begin at a multiple of 8
    return len(encoded).to_bytes(8, "little") + encoded + content[start:]
