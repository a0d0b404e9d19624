"""Weights with what they were made from, in one safetensors file: what an interrupted run goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from exporter.project.freshness import FORMAT, MadeFrom, changed_inputs
from jetson.files.atomic_files import write_file


def write_weights(
    path: Path, tensors: Mapping[str, torch.Tensor], schema: str, made_from: MadeFrom, content: Mapping[str, Any]
) -> None:
    """Write tensors, and `made_from` and `content` as JSON beside them, atomically; raises OSError."""
    from safetensors.torch import save

    metadata = {"schema": schema, "made_from": json.dumps(dict(made_from)), "content": json.dumps(dict(content))}
    write_file(str(path), save({name: one.clone().contiguous() for name, one in tensors.items()}, metadata))


def read_weights(path: Path, schema: str, made_from: MadeFrom) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Return the tensors and the content that `write_weights` wrote.

    None when the file is missing or damaged, of another schema, or made from something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            stored = {**json.loads(metadata["made_from"]), FORMAT: metadata.get("schema")}
            if changed_inputs(stored, {**made_from, FORMAT: schema}):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
            return tensors, dict(json.loads(metadata["content"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
