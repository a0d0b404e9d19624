"""Run every cutter on the same ONNX files, once each, and judge what it wrote by running it."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import onnx
import torch

from benchmarks.studies.peers.case_files import NetworkSource
from benchmarks.studies.peers.cut_tools import OWN, PEERS, CutTool, Job
from exporter.cutting.onnx_cuts import all_cuts
from exporter.cutting.onnx_file import read_graph
from exporter.cutting.pair_files import write_pairs
from exporter.cutting.pair_parity import pairs_parity
from exporter.layers.candidates import layers_of
from exporter.layers.cut_points import single_tensor_cuts
from exporter.layers.export import export
from exporter.onnx_graphs.index import index_graph
from exporter.onnx_graphs.random_inputs import random_inputs
from exporter.onnx_graphs.session import open_session
from exporter.onnx_graphs.tensor_types import TensorType, tensor_types
from jetson.errors import CoopexportError, ParityError, one_line

_Value = TypeVar("_Value")
_ENUMERATIONS = 21
_REASON_LENGTH = 900


@dataclass(frozen=True)
class Taken:
    """Seconds by the clock, and of the processor, child processes included."""

    clock_s: float
    processor_s: float


@dataclass(frozen=True)
class OwnResult:
    """What this project took for all single-tensor cuts of a file, step by step; parity checks and enumeration apart.

    `enumeration_s`: index and sweep, each time anew; the others once. `difference_extended`, `difference_all`: largest
    of all pairs at these optimisation levels; without optimisation all bits are the same, or there is no result.
    """

    network: str
    file_bytes: int
    nodes: int
    cuts: int
    steps: dict[str, Taken]
    enumeration_s: tuple[float, ...]
    parity: Taken
    difference_extended: float
    difference_all: float

    @property
    def total(self) -> Taken:
        """Return what it took from the file to the last pair."""
        return Taken(
            sum(item.clock_s for item in self.steps.values()), sum(item.processor_s for item in self.steps.values())
        )


@dataclass(frozen=True)
class PeerResult:
    """What another tool took for `pairs` cuts of the same file; `verdict`: whether they run and are the network."""

    network: str
    tool: str
    pairs: int
    taken: Taken
    verdict: str


@dataclass(frozen=True)
class NotRun:
    """A tool that is not here, or wrote nothing, and why."""

    network: str
    tool: str
    pairs: int
    reason: str


def write_network(source: NetworkSource, path: Path, seed: int = 0) -> onnx.ModelProto:
    """Export the network of `source` with seeded weights to a self-contained file; returns its graph.

    Raises CoopexportError as `export` does.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = source.build()
    inputs = torch.randn((4, *source.shape), generator=torch.Generator().manual_seed(seed + 1))
    model = export(network, inputs).model
    onnx.save(model, str(path))
    return model


def measure_own(name: str, path: Path, folder: Path) -> OwnResult:
    """Write and prove every single-tensor pair of the file at `path`; raises CoopexportError when a parity check
    fails.
    """
    gc.collect()
    steps: dict[str, Taken] = {}
    model, steps["read"] = timed(lambda: read_graph(path))
    types, steps["infer sizes"] = timed(lambda: tensor_types(model, path.parent))
    cuts, steps["find cuts"] = timed(lambda: _named_cuts(model, types))
    _, steps["write"] = timed(lambda: write_pairs(model, cuts, types, folder, path.parent))
    enumerations = [timed(lambda: single_tensor_cuts(index_graph(model)))[1].clock_s for _ in range(_ENUMERATIONS)]
    proofs, parity = timed(lambda: pairs_parity(folder))
    return OwnResult(
        name,
        path.stat().st_size,
        len(model.graph.node),
        len(cuts),
        steps,
        tuple(enumerations),
        parity,
        _largest(proof.difference_extended for proof in proofs),
        _largest(proof.difference_all for proof in proofs),
    )


def _largest(differences: Iterable[float | None]) -> float:
    """Return the largest; raises CoopexportError when outputs had other sizes, which is not a number."""
    known = list(differences)
    if None in known:
        raise ParityError("outputs of a pair have other sizes than the whole graph's at an optimisation level")
    return max(value for value in known if value is not None)


def _named_cuts(model: onnx.ModelProto, types: Mapping[str, TensorType]) -> dict[str, tuple[str, ...]]:
    index = index_graph(model)
    return all_cuts(index, layers_of(index, types), types)


def measure_peers(
    name: str, path: Path, pairs: int, folder: Path, tools: Sequence[CutTool] = (OWN, *PEERS)
) -> list[PeerResult | NotRun]:
    """Let every tool write `pairs` cuts, spread evenly over the clean ones, of the file at `path`."""
    model = read_graph(path)
    cuts = single_tensor_cuts(index_graph(model))
    chosen = tuple(cuts[(2 * number + 1) * len(cuts) // (2 * pairs)] for number in range(pairs))
    return [_measure_peer(name, tool, job_of(model, path, chosen, folder / str(i))) for i, tool in enumerate(tools)]


def job_of(model: onnx.ModelProto, path: Path, tensors: tuple[str, ...], folder: Path) -> Job:
    """Return what a tool has to do, and make its folder."""
    folder.mkdir(parents=True)
    inputs = tuple(value.name for value in model.graph.input)
    return Job(path, inputs, tuple(value.name for value in model.graph.output), tensors, folder)


def _measure_peer(name: str, tool: CutTool, job: Job) -> PeerResult | NotRun:
    if not tool.is_installed():
        return NotRun(name, tool.name, len(job.tensors), "not installed")
    gc.collect()
    try:
        _, taken = timed(lambda: tool.write(job))
    except Exception as error:  # noqa: BLE001  any failure of a tool is a result
        return NotRun(name, tool.name, len(job.tensors), f"fails: {reason(error)}".replace(f"{job.folder}/", ""))
    return PeerResult(name, tool.name, len(job.tensors), taken, compare_with_whole(job))


def compare_with_whole(job: Job) -> str:
    """Return in words whether the pairs of a job run and give the same bits as the whole, without optimisation."""
    model = onnx.load(str(job.source), load_external_data=False)
    feed = random_inputs(model, 2, seed=0)
    expected = open_session(job.source, "disabled").run(list(job.outputs), feed)
    same = 0
    for tensor, head, tail in job.pairs():
        try:
            feature = open_session(head, "disabled").run([tensor], feed)
            outputs = open_session(tail, "disabled").run(list(job.outputs), {tensor: feature[0]})
        except Exception as error:  # noqa: BLE001  its exception types are private
            return f"does not run: {reason(error)}".replace(f"{job.folder}/", "")
        same += all(one.tobytes() == two.tobytes() for one, two in zip(expected, outputs, strict=True))
    return f"same bits in {same} of {len(job.tensors)}"


def refusals(path: Path, tensor: str, folder: Path, tools: Sequence[CutTool]) -> list[tuple[str, str]]:
    """Return what each tool does with a cut where more than `tensor` crosses: its words, or what it wrote is worth."""
    model = read_graph(path)
    found = []
    for number, tool in enumerate(tools):
        if not tool.is_installed():
            found.append((tool.name, "not installed"))
            continue
        job = job_of(model, path, (tensor,), folder / f"unclean{number}")
        try:
            tool.write(job)
        except Exception as error:  # noqa: BLE001  any failure of a tool is a result
            found.append((tool.name, f"refuses: {reason(error)}".replace(f"{job.folder}/", "")))
        else:
            found.append(
                (tool.name, f"writes two files and reports no error; head and tail: {compare_with_whole(job)}")
            )
    return found


def timed(job: Callable[[], _Value]) -> tuple[_Value, Taken]:
    """Return what `job` returns, and what it took."""
    clock, processor = time.perf_counter(), _processor_s()
    value = job()
    return value, Taken(time.perf_counter() - clock, _processor_s() - processor)


def _processor_s() -> float:
    taken = os.times()
    return taken.user + taken.system + taken.children_user + taken.children_system


def reason(error: BaseException) -> str:
    """Return the error as one line of bounded length."""
    words = one_line(error)
    return (words if isinstance(error, CoopexportError) else f"{type(error).__name__}: {words}")[:_REASON_LENGTH]
