"""The device to train on."""

from __future__ import annotations

import torch

from jetson.errors import DeviceError


def choose_device(name: str) -> torch.device:
    """Return the device for `name` ("auto", "cpu" or "cuda"); "auto" is the GPU where PyTorch can use one.

    Raises CoopexportError when "cuda" is asked for and cannot be had.
    """
    if name == "cuda" and not torch.cuda.is_available():
        cause = (
            "was built without CUDA: install a build with it"
            if torch.version.cuda is None
            else "finds no NVIDIA GPU that it can use: check nvidia-smi"
        )
        raise DeviceError(
            f'training.device is "cuda", but PyTorch {torch.__version__} {cause}, or set training.device = "cpu"'
        )
    if name == "cuda" or (name == "auto" and torch.cuda.is_available()):
        return torch.device("cuda")
    return torch.device("cpu")
