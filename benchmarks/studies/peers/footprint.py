"""What a network and a process take up: parameters, multiply-accumulates, resident memory.

Imports torch alone: NNI's own environment, which has nothing else of this project, imports it too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

_LAYERS = (nn.Conv2d, nn.Linear)
_CLEAR_PEAK = "5"  # see proc(5), /proc/pid/clear_refs


def parameters(network: nn.Module) -> int:
    """Return the number of parameters, each counted once."""
    return sum(item.numel() for item in network.parameters())


def checkpoint_bytes(network: nn.Module) -> int:
    """Return the bytes of all parameters and buffers."""
    return sum(item.numel() * item.element_size() for item in network.state_dict().values())


def macs(network: nn.Module, sample: torch.Tensor) -> int:
    """Return the multiply-accumulates of all convolutions and linears for one sample (1 x ...).

    Raises whatever the network's forward raises.
    """
    total = 0

    def count(module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        total += output.numel() // output.shape[-1 if isinstance(module, nn.Linear) else 1] * weight.numel()

    hooks = [item.register_forward_hook(count) for item in network.modules() if isinstance(item, _LAYERS)]
    try:
        with torch.no_grad():
            network(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return total


def resident_bytes() -> int:
    """Return the bytes of memory that this process holds now; raises OSError where the kernel does not tell."""
    return _status_bytes("VmRSS")


def clear_peak() -> None:
    """Let the high-water mark of resident memory start from what is held now; raises OSError."""
    Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK, encoding="ascii")


def peak_bytes() -> int:
    """Return the most bytes of memory that this process held since `clear_peak`; raises OSError."""
    return _status_bytes("VmHWM")


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")
