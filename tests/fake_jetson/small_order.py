"""Orders of the small network's head, tail and whole for a target, as the bundles' would be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from small_graphs import FEATURE_SHAPE, small_inputs, small_network, small_specification

from engines.encode_form import encode_form
from engines.orders import OrderedEngine, forms_of, order_engine
from engines.target import Target
from engines.target_file import target_file
from exporter.bundle import BoundaryTensor
from exporter.cut import cut
from exporter.encoded_halves import encode_halves
from exporter.golden import golden_of_split, golden_outputs, golden_sent, golden_taken
from exporter.onnx_session import open_session, run
from jetson.atomic_files import sha256_of_bytes
from jetson.build_settings import BuildSettings

SAMPLES = 6


def small_order(
    folder: Path, target: Target, bits: int = 8, settings: BuildSettings | None = None, seed: int = 0
) -> list[OrderedEngine]:
    """Return head, tail and whole network, to be placed in `folder`, cut behind the activation with `bits`."""
    settings = settings or BuildSettings()
    network = small_network(seed)
    specification = small_specification()
    if bits != 8:
        assert specification.clip is not None
        step = np.float32(6 / (2**bits - 1))
        specification = replace(
            specification, bits=bits, step=(float(step),), inverse_step=(float(np.float32(1) / step),)
        )
    tensors = (BoundaryTensor(name="feature", shape=FEATURE_SHAPE, encoding=specification, codec="raw"),)
    halves = encode_halves(cut(network, ["feature"]), [specification])
    inputs = small_inputs(SAMPLES)
    sent = run(open_session(halves.head, "disabled"), [inputs])
    golden = golden_of_split(sent, sent, [], run(open_session(halves.tail, "disabled"), sent))
    head = encode_form(halves.head, "head", tensors, target)
    tail = encode_form(halves.tail, "tail", tensors, target)
    formed = head.golden(golden)
    whole = run(open_session(network, "disabled"), [inputs])
    parts = (
        ("head", head.model, [inputs], golden_sent(formed), forms_of(head.tensors, 0)),
        ("tail", tail.model, golden_taken(formed), golden_outputs(golden), forms_of((), 1)),
        ("whole", network, [inputs], whole, forms_of((), 1)),
    )
    return [
        order_engine(
            folder / "engines" / target.name / f"conv1.{role}.engine",
            target_file(model, target, settings.batches, role),
            settings,
            taken,
            expected,
            forms,
            variant="small",
            layer="whole" if role == "whole" else "conv1",
            role=role,
            source_sha256=sha256_of_bytes(model.SerializeToString(deterministic=True)),
            golden_sha256=sha256_of_bytes(b"golden"),
        )
        for role, model, taken, expected, forms in parts
    ]


def graph_of(ordered: OrderedEngine) -> onnx.ModelProto:
    """Return the graph that is ordered."""
    return onnx.load_model_from_string(ordered.files[ordered.item.graph_sha256])
