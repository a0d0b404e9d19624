"""What a target's builder would refuse, found before it is asked: every node of it, with the layer it came from."""

from __future__ import annotations

from pathlib import Path

import onnx

from engines.preflight.dtypes import dtype_problems
from engines.preflight.element_types import infer_elements
from engines.preflight.external_data import external_data_problems
from engines.preflight.operators import foreign_problems, gemm_problems, operator_problems, opset_problems
from engines.preflight.problems import Problem, describe
from engines.preflight.quantization import quantization_problems
from engines.targets.target import Target
from jetson.engines.build_settings import BuildSettings
from jetson.errors import UnsupportedError


def preflight(
    model: onnx.ModelProto, target: Target, settings: BuildSettings, folder: Path | None = None
) -> list[Problem]:
    """Return what stands against building `model`, a per-target file, for `target`; first what would be refused.

    `folder`: where weights outside of the model lie; None where it must hold them itself. ONNX Runtime is asked about
    domains, opset and weights only: it takes every standard operator. A problem that is not `refused` is a warning.
    """
    problems = [
        *external_data_problems(model, folder),
        *opset_problems(model, target),
        *foreign_problems(model),
    ]
    if target.backend != "onnxruntime":
        elements, reason = infer_elements(model)
        if reason is not None:
            problems.append(Problem(f"types or shapes do not fit together: {reason}"))
        problems += operator_problems(model, target)
        problems += dtype_problems(model, elements, target)
        problems += quantization_problems(model, elements)
        problems += gemm_problems(model, elements, target, settings)
    return sorted(dict.fromkeys(problems), key=lambda problem: not problem.refused)


def buildable_graph_warnings(
    model: onnx.ModelProto, target: Target, settings: BuildSettings, origin: str, folder: Path | None = None
) -> list[Problem]:
    """Return the warnings of `preflight`.

    Raises CoopexportError that lists every node that would be refused, by reason, with the layer it came from.
    `origin` names the model.
    """
    found = preflight(model, target, settings, folder)
    refused = [problem for problem in found if problem.refused]
    if refused:
        raise UnsupportedError(f"{origin} cannot be built for {target.name}: {describe(refused)}")
    return [problem for problem in found if not problem.refused]
