"""The device to train on; a network there, in the memory order that training is fastest with, and back again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from jetson.errors import DeviceError, one_line


@contextmanager
def placed(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Keep `network` on `device` with channels-last weights; afterwards on the CPU, contiguous and in eval mode.

    Parameters stay the same objects, so that whatever shares them sees them change.
    """
    try:
        _arrange(network.to(device), torch.channels_last)
        yield
    finally:
        _arrange(network.to("cpu"), torch.contiguous_format)
        network.eval()


@contextmanager
def memory_named(batch_images: int) -> Iterator[None]:
    """Raise DeviceError with the way out when the GPU's memory is too small."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceError(
            f"the GPU's memory is too small to train on {batch_images} images at once ({one_line(error)[:120]}): lower "
            "training.batch_images"
        ) from None


@contextmanager
def thread_count(threads: int | None) -> Iterator[None]:
    """Let PyTorch use this many threads for a while; None leaves the number as it is."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads is not None:
            torch.set_num_threads(before)


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return `tensor` on `device`; to a GPU it is copied while the computation goes on."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def _arrange(network: nn.Module, memory_format: torch.memory_format) -> None:
    # The same numbers in another order: oneDNN and cuDNN are about a fifth faster with channels last.
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=memory_format)


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
