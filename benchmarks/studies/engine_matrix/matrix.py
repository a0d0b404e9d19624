"""Which TensorRT-RTX engines can be built: every network, half, precision, compute capability and batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import onnx

from benchmarks.studies.engine_matrix.conversion import PRECISIONS
from benchmarks.studies.engine_matrix.networks import CutNetwork
from engines.backends.registry import find_backend
from engines.preflight.check import preflight
from engines.preflight.problems import describe
from engines.target_files.target_file import target_file
from engines.targets.lookup import Target, load_targets
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError, one_line

BACKEND = "tensorrt-rtx"
ROLES = ("head", "tail")
CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
STATIC, DYNAMIC = (1, 1, 1), (1, 4, 16)

# From a cut network, a role and a precision to the graph in that precision.
Converter = Callable[[CutNetwork, str, str], onnx.ModelProto]


@dataclass(frozen=True)
class Combination:
    """One engine that is wanted."""

    role: str
    precision: str
    compute_capability: str
    batches: tuple[int, int, int]


@dataclass(frozen=True)
class Outcome:
    """What came of it: the engine's size, or why there is none.

    `refused_before`: preflight said so, before the builder was asked; `kind`: its reasons, without the places.
    """

    network: str
    combination: Combination
    engine_bytes: int | None
    reason: str | None
    refused_before: bool = False
    kind: str | None = None


def all_combinations() -> list[Combination]:
    """Return all of the matrix's combinations of one network."""
    return [
        Combination(role, precision, capability, batches)
        for role, precision, batches, capability in itertools.product(
            ROLES, PRECISIONS, (STATIC, DYNAMIC), CAPABILITIES
        )
    ]


def build_all(network: CutNetwork, combinations: Sequence[Combination], convert: Converter) -> Iterator[Outcome]:
    """Build the engines of `combinations`, each from the same files as `coopexport build` makes; none is kept."""
    targets = {item.compute_capability: item for item in load_targets().values() if item.backend == BACKEND}
    for (role, precision), group in itertools.groupby(combinations, key=lambda item: (item.role, item.precision)):
        graph = convert(network, role, precision)
        for wanted in group:
            target = targets[wanted.compute_capability]
            settings = BuildSettings(precision.partition("+")[0], wanted.batches, (wanted.compute_capability,))
            yield _build(network.name, wanted, graph, target, settings)


def _build(name: str, wanted: Combination, graph: onnx.ModelProto, target: Target, settings: BuildSettings) -> Outcome:
    file = target_file(graph, target, settings.batches, name)
    problems = [item for item in preflight(file, target, settings) if item.refused]
    if problems:
        return Outcome(
            name, wanted, None, describe(problems), True, "; ".join(sorted({item.reason for item in problems}))
        )
    try:
        engine = find_backend(BACKEND).build(file, target, settings)
    except CoopexportError as error:
        return Outcome(name, wanted, None, one_line(error))
    return Outcome(name, wanted, len(engine.data), None)
