"""NNI's ModelSpeedup, in a process of its own: it needs an environment of its own.

    PYTHON-OF-NNI -m benchmarks.studies.peers.nni_tool FOLDER

Imports nothing of this project that needs more than torch and NumPy. Its own tracer fails on current versions of torch;
it is then given the graph of torch.fx.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.metadata
import json
import logging
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from benchmarks.studies.peers.case_files import StoredCase, load_network, read_case
from benchmarks.studies.peers.footprint import clear_peak, macs, parameters, peak_bytes, resident_bytes


def nni_masks(network: nn.Module, case: StoredCase) -> dict[str, dict[str, torch.Tensor]]:
    """Return the masks as NNI takes them: per layer, one number for every weight and bias."""
    masks = {}
    for name, keep in case.keep.items():
        module = network.get_submodule(name)
        kept = torch.from_numpy(keep).float()
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        masks[name] = {"weight": kept.reshape(-1, *[1] * (weight.ndim - 1)).expand_as(weight).contiguous()}
        if module.bias is not None:
            masks[name]["bias"] = kept
    return masks


def speed_up(network: nn.Module, masks: Any, inputs: torch.Tensor) -> tuple[nn.Module, float, float, str]:
    """Return the shrunk network, the seconds that it took (clock, processor), and a note; raises as NNI does."""
    speedup = importlib.import_module("nni.compression.speedup").ModelSpeedup
    started = time.perf_counter(), time.process_time()
    try:
        run, note = speedup(copy.copy(network), inputs, masks), ""
    except AttributeError:
        started = time.perf_counter(), time.process_time()
        graph = fx.symbolic_trace(network)
        run, note = speedup(network, inputs, masks, graph_module=graph), "its tracer fails: given a graph of torch.fx"
    small = run.speedup_model()
    ended = time.perf_counter(), time.process_time()
    return (network if small is None else small), ended[0] - started[0], ended[1] - started[1], note


def main(arguments: Sequence[str] | None = None) -> int:
    """Shrink the case in a folder, write its outputs there, and print the rest; returns the exit code."""
    (folder,) = map(Path, sys.argv[1:] if arguments is None else arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    with contextlib.redirect_stdout(sys.stderr):
        importlib.import_module("nni.compression.speedup")
        result = _run(folder, read_case(folder))
    print(json.dumps(result))
    return 0


def _run(folder: Path, case: StoredCase) -> dict[str, Any]:
    before = resident_bytes()
    network = load_network(folder, case.source)
    clear_peak()
    network, seconds, processor, note = speed_up(network, nni_masks(network, case), case.inputs)
    peak = peak_bytes() - before
    network.eval()  # its new batch norms are in training mode
    result = {"seconds": seconds, "note": note, "peak_bytes": peak, "version": importlib.metadata.version("nni")}
    result.update(
        processor_seconds=processor,
        parameters=parameters(network),
        macs=macs(network, case.inputs[:1]),
        torch=torch.__version__,
    )
    with torch.no_grad():
        np.save(folder / "float32.npy", network(case.inputs).numpy())
        np.save(folder / "float64.npy", network.double()(case.inputs.double()).numpy())
    return result


if __name__ == "__main__":
    sys.exit(main())
