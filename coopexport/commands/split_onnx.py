"""What `split` does with any ONNX file: cut it, write the pairs, prove them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from coopexport.output import next_step, print_table, progress_bar, wrote

if TYPE_CHECKING:
    from exporter.cutting.pair_parity import PairProof
    from exporter.cutting.split_file import SplitFileResult


def split_onnx_file(
    onnx_file: Path, layer_names: tuple[str, ...], is_all: bool, max_tensors: int, folder: Path, standalone: bool
) -> None:
    """Write the pairs that were asked for into `folder`, prove them, and print what came out.

    When it is interrupted, the same command goes on where it was. Raises CoopexportError and OSError.
    """
    from exporter.cutting.split_file import SplitFileRequest, split_file

    request = SplitFileRequest(onnx_file, folder, layer_names, is_all, max_tensors, standalone)
    with progress_bar() as on_progress:
        result = split_file(request, on_progress)
    _print_pairs(onnx_file.name, result)
    wrote(result.path)
    next_step("run head and tail in ONNX Runtime, or split in a project to have the feature encoded")


def _print_pairs(name: str, result: SplitFileResult) -> None:
    rows = []
    for pair in result.pairs:
        shapes = " + ".join("x".join(map(str, item.shape)) or "scalar" for item in pair.record.tensors)
        differences = (pair.proof.difference_extended, pair.proof.difference_all)
        told = ("other sizes" if value is None else f"{value:.1e}" for value in differences)
        rows.append((pair.record.name, shapes, f"{pair.size_bytes:,}", _shown(pair.proof), *told))
    columns = ["cut after", "feature", "bytes", "not optimised", "extended", "all"]
    print_table(f"Pairs of {name}: head and tail against the whole, by optimisation", columns, rows, left=2)


def _shown(proof: PairProof) -> str:
    """Return what a proof shows in words: of outputs that never change, nothing."""
    if not proof.varying_outputs:
        return "constant: nothing is shown"
    constant = ", ".join(proof.constant_outputs)
    return f"same bits, but {constant} constant: not shown" if constant else "same bits"
