"""What `split` does with any ONNX file: cut it, write the pairs, prove them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coopexport.output import next_step, print_table, progress, wrote

if TYPE_CHECKING:
    from exporter.cutting.pair_parity import PairProof


def split_onnx_file(
    onnx_file: Path, layer_names: tuple[str, ...], is_all: bool, max_tensors: int, folder: Path, standalone: bool
) -> None:
    """Write the pairs that were asked for into `folder`, prove them, and print what came out.

    When it is interrupted, the same command goes on where it was. Raises CoopexportError and OSError.
    """
    from exporter.cutting.onnx_cuts import all_cuts, wanted_cuts
    from exporter.cutting.onnx_file import read_graph
    from exporter.cutting.pair_files import PAIRS_FILE, write_pairs
    from exporter.cutting.pair_parity import prove_pairs
    from exporter.layers.candidates import layers_of
    from exporter.onnx_graphs.index import index_graph
    from exporter.onnx_graphs.tensor_types import tensor_types
    from jetson.errors import CoopexportError
    from jetson.files.atomic_files import sha256_of_file

    if bool(layer_names) == is_all:
        raise CoopexportError("say where to cut: --layer NAME (repeatable), or --all; `coopexport layers` lists names")
    model = read_graph(onnx_file)
    types = tensor_types(model, onnx_file.parent)
    index = index_graph(model)
    layers = layers_of(index, types)
    cuts = all_cuts(index, layers, types, max_tensors) if is_all else wanted_cuts(index, layers, layer_names)
    if not cuts:
        raise CoopexportError(f"{onnx_file} has no cut where {max_tensors} tensors cross or fewer; raise --max-tensors")
    source = sha256_of_file(str(onnx_file))
    pairs = write_pairs(model, cuts, types, folder, onnx_file.parent, source, standalone, onnx_file.name)
    with progress(f"proving {onnx_file.name}", len(pairs.pairs)) as on_progress:
        proofs = {proof.name: proof for proof in prove_pairs(folder, on_progress=on_progress)}
    rows = []
    for pair in pairs.pairs:
        shapes = " + ".join("x".join(map(str, item.shape)) or "scalar" for item in pair.tensors)
        size = sum(types[name].size_bytes for name in pair.source_tensors)
        proof = proofs[pair.name]
        differences = (proof.difference_extended, proof.difference_all)
        told = ("other sizes" if value is None else f"{value:.1e}" for value in differences)
        rows.append((pair.name, shapes, f"{size:,}", _shown(proof), *told))
    columns = ["cut after", "feature", "bytes", "not optimised", "extended", "all"]
    print_table(f"Pairs of {onnx_file.name}: head and tail against the whole, by optimisation", columns, rows, left=2)
    wrote(folder / PAIRS_FILE)
    next_step("run head and tail in ONNX Runtime, or split in a project to have the feature encoded")


def _shown(proof: PairProof) -> str:
    """Return what a proof shows in words: of outputs that never change, nothing."""
    if not proof.varying_outputs:
        return "constant: nothing is shown"
    constant = ", ".join(proof.constant_outputs)
    return f"same bits, but {constant} constant: not shown" if constant else "same bits"
