"""Cutters of graphs, each told to write head and tail files of some cuts, as its users would have to tell it.

The peers are optional: `pip install onnx-ir onnx-graphsurgeon polygraphy --no-deps`.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx.utils

from exporter.cutting.onnx_file import read_graph
from exporter.cutting.pair_files import write_pairs
from exporter.onnx_graphs.tensor_types import tensor_types

EXTRACT_MODEL, ONNX_IR, GRAPHSURGEON, POLYGRAPHY = "onnx.utils.extract_model", "onnx-ir", "graphsurgeon", "Polygraphy"


@dataclass(frozen=True)
class Job:
    """Head and tail to write into `folder` for a cut at each of `tensors` of the ONNX file `source`."""

    source: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: tuple[str, ...]
    folder: Path

    def pairs(self) -> list[tuple[str, Path, Path]]:
        """Return each tensor with the files of its head and tail."""
        numbered = enumerate(self.tensors)
        return [(name, self.folder / f"{i}.head.onnx", self.folder / f"{i}.tail.onnx") for i, name in numbered]


@dataclass(frozen=True)
class CutTool:
    """A cutter. `package`: the module that it needs; `write`: what is timed."""

    name: str
    package: str
    write: Callable[[Job], None]

    def is_installed(self) -> bool:
        """Tell whether its package can be imported."""
        try:
            importlib.import_module(self.package)
        except ImportError:
            return False
        return True


def extract_model(job: Job) -> None:
    """Use onnx's own, which takes file names: it reads, checks and infers anew for every part."""
    for tensor, head, tail in job.pairs():
        onnx.utils.extract_model(job.source, head, list(job.inputs), [tensor])
        onnx.utils.extract_model(job.source, tail, [tensor], list(job.outputs))


def onnx_ir(job: Job) -> None:
    """Use onnx-ir, reading and inferring shapes once: parts need the types of what crosses."""
    ir: Any = importlib.import_module("onnx_ir")
    passes: Any = importlib.import_module("onnx_ir.passes.common")
    model = passes.ShapeInferencePass()(ir.load(job.source)).model
    for tensor, head, tail in job.pairs():
        for path, inputs, outputs in ((head, job.inputs, (tensor,)), (tail, (tensor,), job.outputs)):
            part = ir.convenience.extract(model.graph, list(inputs), list(outputs))
            ir.save(ir.Model(part, ir_version=model.ir_version), path)


def graphsurgeon(job: Job) -> None:
    """Use onnx-graphsurgeon, reading and inferring shapes once; a part is a copy, set to other ends and cleaned up."""
    gs: Any = importlib.import_module("onnx_graphsurgeon")
    whole = gs.import_onnx(onnx.shape_inference.infer_shapes(onnx.load(job.source)))
    for tensor, head, tail in job.pairs():
        for path, inputs, outputs in ((head, job.inputs, (tensor,)), (tail, (tensor,), job.outputs)):
            part = whole.copy()
            named = part.tensors()
            part.inputs = [named[name] for name in inputs]
            part.outputs = [named[name] for name in outputs]
            for item in part.inputs:
                item.inputs.clear()
            onnx.save(gs.export_onnx(part.cleanup()), path)


def polygraphy(job: Job) -> None:
    """Use Polygraphy's command, once for every part."""
    start = [sys.executable, "-c", "import sys; from polygraphy.tools import main; sys.exit(main())"]
    for tensor, head, tail in job.pairs():
        ends = (
            (head, ["--outputs", f"{tensor}:auto"]),
            (tail, ["--inputs", f"{tensor}:auto:auto", "--outputs", *(f"{name}:auto" for name in job.outputs)]),
        )
        for path, arguments in ends:
            command = [*start, "surgeon", "extract", str(job.source), *arguments, "-o", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
                raise RuntimeError(lines[-1])


def own(job: Job) -> None:
    """Use this project, from reading to the last file, as the others: self-contained files; pairs have numbers."""
    model = read_graph(job.source)
    types = tensor_types(model, job.source.parent)
    cuts = {str(number): (tensor,) for number, tensor in enumerate(job.tensors)}
    write_pairs(model, cuts, types, job.folder, job.source.parent, standalone=True)


OWN = CutTool("coopexport, self-contained", "exporter", own)
PEERS = (
    CutTool(EXTRACT_MODEL, "onnx.utils", extract_model),
    CutTool(ONNX_IR, "onnx_ir", onnx_ir),
    CutTool(GRAPHSURGEON, "onnx_graphsurgeon", graphsurgeon),
    CutTool(POLYGRAPHY, "polygraphy", polygraphy),
)
