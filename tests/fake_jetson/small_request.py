"""Build requests of the small network's head, tail and whole for a target, as the bundles' would be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from small_graphs import FEATURE_SHAPE, small_inputs, small_network, small_specification

from engines.building.build_items import BuildItem
from engines.building.prepared_file import PreparedFile
from engines.device_builds.requests import PendingEngine, pending_engine
from engines.target_files.encode_form import encode_form
from engines.target_files.target_file import target_file
from engines.targets.target import Target
from exporter.bundles.bundle import CutTensorRecord, FileRecord
from exporter.bundles.golden import golden_head_outputs, golden_of_split, golden_outputs, golden_tail_inputs
from exporter.cutting.cut import cut
from exporter.cutting.encoded_halves import encode_halves
from exporter.onnx_graphs.session import open_session, run
from jetson.engines.build_settings import BuildSettings
from jetson.files.atomic_files import sha256_of_bytes
from jetson.runtime.preprocessing import Preprocessing

SAMPLES = 6


def small_request(
    folder: Path, target: Target, bits: int = 8, settings: BuildSettings | None = None, seed: int = 0
) -> list[PendingEngine]:
    """Return head, tail and whole network, to be installed in `folder`, cut behind the activation with `bits`."""
    settings = settings or BuildSettings()
    network = small_network(seed)
    specification = small_specification()
    if bits != 8:
        assert specification.clip is not None
        step = np.float32(6 / (2**bits - 1))
        specification = replace(
            specification, bits=bits, step=(float(step),), inverse_step=(float(np.float32(1) / step),)
        )
    tensors = (CutTensorRecord(name="feature", shape=FEATURE_SHAPE, encoding=specification, codec="raw"),)
    halves = encode_halves(cut(network, ["feature"]), [specification])
    inputs = small_inputs(SAMPLES)
    head_outputs = run(open_session(halves.head, "disabled"), [inputs])
    golden = golden_of_split(head_outputs, head_outputs, [], run(open_session(halves.tail, "disabled"), head_outputs))
    head = encode_form(halves.head, "head", tensors, target)
    tail = encode_form(halves.tail, "tail", tensors, target)
    formed = head.golden(golden)
    whole = run(open_session(network, "disabled"), [inputs])
    parts = (
        ("head", head.model, head.tensors, [inputs], golden_head_outputs(formed)),
        ("tail", tail.model, (), golden_tail_inputs(formed), golden_outputs(golden)),
        ("whole", network, (), [inputs], whole),
    )
    return [
        pending_engine(_prepared(folder, target, settings, role, model, cut_tensors, tail_inputs, expected))
        for role, model, cut_tensors, tail_inputs, expected in parts
    ]


def _prepared(
    folder: Path,
    target: Target,
    settings: BuildSettings,
    role: str,
    model: onnx.ModelProto,
    cut_tensors: tuple[CutTensorRecord, ...],
    tail_inputs: list[np.ndarray],
    expected: list[np.ndarray],
) -> PreparedFile:
    graph = FileRecord(file=f"{role}.onnx", sha256=sha256_of_bytes(model.SerializeToString(deterministic=True)))
    golden = FileRecord(file="golden.npz", sha256=sha256_of_bytes(b"golden"))
    layer = "whole" if role == "whole" else "conv1"
    item = BuildItem(folder, "small", layer, role, graph, golden, Preprocessing(), cut_tensors, settings.precision)
    file = target_file(model, target, settings.batches, role)
    data = file.SerializeToString(deterministic=True)
    forms = item.output_forms(cut_tensors, len(expected))
    return PreparedFile(item, target, settings, file, data, tail_inputs, expected, forms, {"graph": "as it is"})
