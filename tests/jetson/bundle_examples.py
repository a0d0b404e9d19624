"""Manifests of split bundles as docs/formats.md defines them, written by hand, with their tables beside them."""

import hashlib
import json

import numpy as np
from symbol_examples import random_model

from jetson.wire.symbol_model import model_to_bytes

PREPROCESSING = {"layout": "NCHW", "colour_order": "BGR", "resize": [32, 40], "scale": 0.5, "mean": [1.0, 2.0, 3.0]}


def affine(bits, packing="none"):
    """Return the encode specification of symbols, its range made up."""
    clip = {"low": [-0.25], "high": [3.0], "method": "minmax", "samples": 8, "minimum": [-0.25], "maximum": [3.0]}
    low, step, inverse_step = [-0.25], [0.0123], [81.3]
    return {"kind": "affine", "bits": bits, "low": low, "step": step, "inverse_step": inverse_step, "packing": packing,
            "clip": clip}  # fmt: skip


def manifest(tensors, layer="conv4_1"):
    """Return the JSON of a manifest with everything that docs/formats.md names."""
    files = {role: recorded(f"{layer}.{end}", role.encode()) for role, end in
             (("head", "head.onnx"), ("tail", "tail.onnx"), ("golden", "golden.npz"))}  # fmt: skip
    return {
        "schema": "coopexport.split/2.0", "variant": "pruned", "layer": layer, "position": "post-activation",
        "source_sha256": "a" * 64, "model_sha256": "b" * 64, **files, "tensors": tensors,
        "preprocessing": dict(PREPROCESSING), "parity": [],
        "payload_bytes": {"mean": 10.5, "least": 9, "largest": 12, "samples": 2},
        "metric": {"name": "top1", "value": 0.5, "reference": 0.5, "samples": 2}, "recipe_sha256": "c" * 64,
    }  # fmt: skip


def recorded(file, content):
    return {"file": file, "sha256": hashlib.sha256(content).hexdigest()}


def tensor(name, shape, encoding, codec="raw", tables=None):
    """Return the record of a tensor that crosses; `tables`: record of a file."""
    made = {"name": name, "shape": list(shape), "encoding": encoding, "codec": codec}
    return {**made, "tables": tables} if tables else made


def write_tables(folder, name, bits, codec):
    """Write a random symbol model; return it and its record."""
    model = random_model(np.random.default_rng(bits), bits, 1 if codec == "rans" else 3)
    content = model_to_bytes(model)
    (folder / name).write_bytes(content)
    return model, recorded(name, content)


def write_manifest(folder, content):
    """Write a manifest; return its path as text."""
    path = folder / f"{content['layer']}.split.json"
    path.write_text(json.dumps(content))
    return str(path)
