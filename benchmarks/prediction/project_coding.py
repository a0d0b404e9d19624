"""What is coded at the cuts of a project, from its bundles: symbols, bytes, contexts, and the weights run before."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from benchmarks.prediction.coding import CodingCell, CodingWork
from benchmarks.prediction.predict import Cell
from exporter.bundles.bundle import SplitFile, read_feature_codec, read_split
from exporter.project.settings import Project
from jetson.wire.feature import FeatureCodec

# What codes beside which half.
_CODING = {"head": "encode", "tail": "decode"}


def coding_cells(project: Project, cells: Iterable[Cell]) -> tuple[CodingCell, ...]:
    """Return encoding and decoding at the cuts whose heads and tails are among `cells`, as their bundles lie on disk.

    Payloads are the means over the evaluation images, times the batch; those of float32 stand for other precisions.
    Raises CoopexportError when a bundle's manifest or tables are missing or damaged.
    """
    bundles: dict[tuple[str, str], tuple[SplitFile, FeatureCodec]] = {}
    found = []
    for cell in cells:
        part = _CODING.get(cell.key.part)
        if part is None:
            continue
        cut = (cell.key.variant, cell.key.layer)
        if cut not in bundles:
            folder = project.variant_folder(cut[0])
            split = read_split(folder, cut[1])
            bundles[cut] = split, read_feature_codec(folder, split)
        split, codec = bundles[cut]
        work = CodingWork(
            cell.key.batch * sum(prod(tensor.shape) for tensor in codec.tensors),
            cell.key.batch * split.payload_bytes.mean,
            sum(tensor.model.context_count for tensor in codec.tensors if tensor.model is not None),
            sum(kernel.weight_bytes for kernel in cell.kernels),
        )
        found.append(CodingCell(cell.key._replace(part=part), split.codec, work, cell.source_sha256))
    return tuple(found)
