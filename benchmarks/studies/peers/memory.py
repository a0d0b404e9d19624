"""How much memory shrinking takes: the high-water mark of a fresh process, above its imports.

python -m benchmarks.studies.peers.memory FOLDER TOOL
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.studies.peers import torch_pruning_tool
from benchmarks.studies.peers.case_files import StoredCase, load_network, read_case, write_case
from benchmarks.studies.peers.footprint import clear_peak, peak_bytes, resident_bytes
from exporter.masks.masks import Masks
from exporter.shrinking.shrink import ShrinkOptions, shrink_unproven
from jetson.errors import DeviceError, UnsupportedError, one_line

COOPEXPORT = "coopexport"
_REPOSITORY = Path(__file__).resolve().parents[3]


def run_tool(
    tool: str, network: nn.Module, keep: Mapping[str, NDArray[np.bool_]], meaning: str, inputs: torch.Tensor
) -> nn.Module:
    """Return the shrunk network. `tool`: COOPEXPORT, or a way of joining masks for Torch-Pruning, which works in place.

    Raises whatever the tool raises.
    """
    if tool == COOPEXPORT:
        small, _, _ = shrink_unproven(network, Masks(keep, meaning), inputs, ShrinkOptions())  # type: ignore[arg-type]
        return small
    torch_pruning_tool.prune(network, keep, inputs[:1], "all" if tool == "all" else "any")
    return network


def measure_peak_bytes(tool: str, case: StoredCase, network: nn.Module) -> int:
    """Return the most resident memory that a fresh process needs for `tool`, in bytes, the loaded network included.

    Interpreter, imports and inputs are not counted, nor what a tool takes for the first network of a process, however
    small. Raises CoopexportError with the reason when the process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_case(Path(folder), case, network)
        result = run_module("benchmarks.studies.peers.memory", [folder, tool])
    peak = result["peak_bytes"]
    assert isinstance(peak, int)
    return peak


def run_module(module: str, arguments: Sequence[str], python: str = sys.executable, limit_s: float = 1800) -> Any:
    """Run a module of this project in a process of its own and return the JSON that it prints last.

    Raises CoopexportError with the last line of what it says when it fails or takes longer than `limit_s` seconds.
    """
    command = [python, "-m", module, *arguments]
    try:
        done = subprocess.run(command, cwd=_REPOSITORY, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise DeviceError(f"not done after {limit_s:.0f} s") from None
    except OSError as error:
        raise UnsupportedError(f"cannot be started: {one_line(error)}") from None
    lines = [line for line in (done.stderr if done.returncode else done.stdout).splitlines() if line.strip()]
    if done.returncode or not lines:
        raise UnsupportedError(lines[-1].strip() if lines else f"the process ended with code {done.returncode}")
    return json.loads(lines[-1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Shrink the case in a folder and print what memory that took; returns the exit code."""
    folder, tool = sys.argv[1:] if arguments is None else arguments
    torch.set_num_threads(1)
    case = read_case(Path(folder))
    _warm_up(tool)
    gc.collect()
    before = resident_bytes()
    network = load_network(Path(folder), case.source)
    clear_peak()
    shrunk = run_tool(tool, network, case.keep, case.meaning, case.inputs[:2])
    print(json.dumps({"peak_bytes": peak_bytes() - before, "modules": len(list(shrunk.modules()))}))
    return 0


class _Tiny(nn.Module):
    """One of everything that the networks have."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.branch = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4), nn.ReLU6())
        self.last = nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return 2 outputs per sample for N x 3 x 8 x 8."""
        x = self.first(x)
        x = torch.cat((x, x + self.branch(x), x), dim=1)
        result: torch.Tensor = self.last(torch.flatten(nn.functional.avg_pool2d(x, 4), 1))
        return result


def _warm_up(tool: str) -> None:
    """Shrink a tiny network, so that what is imported or set up at first use is not counted."""
    keep = np.array([True, False, True, True])
    run_tool(tool, _Tiny().eval(), {"first.0": keep, "branch.0": keep}, "channel", torch.zeros((2, 3, 8, 8)))


if __name__ == "__main__":
    sys.exit(main())
