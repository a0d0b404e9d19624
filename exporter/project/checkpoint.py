"""Networks from a factory and a checkpoint, without ever running code that a checkpoint brings."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.project.user_code import load_function
from jetson.errors import DamagedFileError, InputError, one_line

if TYPE_CHECKING:
    import torch
    from torch import nn

# Where training scripts put the weights inside a larger dictionary.
_NESTED_KEYS = ("state_dict", "model_state_dict", "model")
# What entries are called that hold averages of the weights in another form, such as a list of tensors.
_AVERAGES = frozenset(("ema", "swa", "shadow", "average", "averaged", "polyak"))
# DataParallel puts this before every name.
_PARALLEL_PREFIX = "module."
_WEIGHTS_ALONE = "save the weights alone, as torch.save(model.state_dict(), ...) or with safetensors"


def build_network(factory: str, arguments: dict[str, Any], folder: Path) -> nn.Module:
    """Return the network that the user's factory makes, in eval mode, with whatever weights it has.

    Raises CoopexportError when the factory cannot be found, fails, or makes something else.
    """
    from torch import nn

    function = load_function(factory, folder, "model.factory")
    try:
        network = function(**arguments)
    except Exception as error:
        raise InputError(
            f"model.factory {factory} failed with model.arguments {arguments}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(f"model.factory {factory} returned {type(network).__name__}, not a torch.nn.Module")
    return network.eval()


def load_network(factory: str, arguments: dict[str, Any], checkpoint: Path, folder: Path) -> nn.Module:
    """Return the network of the user's factory with the weights of `checkpoint`, in eval mode.

    Raises CoopexportError when the factory or the checkpoint is unusable or they do not fit.
    """
    network = build_network(factory, arguments, folder)
    load_weights(network, read_state_dict(checkpoint), str(checkpoint))
    return network


def load_weights(network: nn.Module, weights: dict[str, torch.Tensor], origin: str) -> None:
    """Copy `weights` into `network`, every name and shape matching; raises CoopexportError if not.

    Weights saved while torch.nn.utils.prune was active go in as they are effective: multiplied by their masks.
    """
    wanted = network.state_dict()
    weights = _named_as_wanted(weights, wanted)
    if set(weights) != set(wanted):  # a network on which pruning is active as well takes them as they are
        weights = _named_as_wanted(effective_state(weights, origin), wanted)
    missing = sorted(set(wanted) - set(weights))
    unknown = sorted(set(weights) - set(wanted))
    if missing or unknown:
        parts = [
            f"{len(names)} {label} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            for label, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise InputError(
            f"{origin} does not fit the network: weights {' and '.join(parts)}",
            fix="check model.factory and model.arguments",
        )
    for name, tensor in wanted.items():
        if tensor.shape != weights[name].shape:
            raise InputError(
                f"{origin} does not fit the network: {name} is {tuple(weights[name].shape)} in the file and "
                f"{tuple(tensor.shape)} in the network",
                fix="check model.arguments",
            )
        not_finite = int((~weights[name].isfinite()).sum()) if weights[name].is_floating_point() else 0
        if not_finite:
            raise InputError(
                f"{origin}: {not_finite} values of {name} are NaN or infinite", fix="train or save it again"
            )
    network.load_state_dict(weights)


def effective_state(weights: dict[str, torch.Tensor], origin: str = "the state dict") -> dict[str, torch.Tensor]:
    """Return `weights` with X = X_orig * X_mask in place of every pair X_orig, X_mask (any shape and dtype).

    Such pairs are in a state dict as long as torch.nn.utils.prune is active; the product is what its `remove` leaves
    behind. `weights` is not changed. `origin`: what to call it in messages. Raises CoopexportError naming X when its
    mask has another shape.
    """
    effective = dict(weights)
    for original, tensor in weights.items():
        name = original.removesuffix("_orig")
        mask = weights.get(name + "_mask")
        if name == original or mask is None or name in weights:
            continue
        if mask.shape != tensor.shape:
            raise InputError(
                f"{origin}: the mask of {name} is {tuple(mask.shape)}, {original} is {tuple(tensor.shape)}",
                fix="save it again after torch.nn.utils.prune.remove",
            )
        del effective[original], effective[name + "_mask"]
        effective[name] = tensor * mask.to(tensor.dtype)
    return effective


def _named_as_wanted(weights: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Put back the prefix that was taken for DataParallel's, where the network itself has a child of that name."""
    if set(wanted) == {_PARALLEL_PREFIX + name for name in weights}:
        return {_PARALLEL_PREFIX + name: tensor for name, tensor in weights.items()}
    return weights


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read the weights in `path` (safetensors, or what torch.save wrote), on the CPU.

    Nothing but tensors and plain containers is accepted: `weights_only=True`, never anything else.
    Raises CoopexportError naming the file and, for a refused type, the type and the way out; and when it holds other
    weights of the same network as well (an average of them, EMA or SWA), naming both entries.
    """
    if not path.is_file():
        raise InputError(f"checkpoint {path} is missing", path=path, fix="check model.checkpoint")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else read_torch_file(path)
    for key in _NESTED_KEYS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            weights = _only_tensors(content[key], path)
            _check_no_second_weights(content, key, weights, path)
            return weights
    return _only_tensors(content, path)


def _check_no_second_weights(content: dict[Any, Any], key: str, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Raise InputError when an entry of `content` beside `key` holds other values for the weights in it."""
    for other, value in content.items():
        if other == key or not _is_other_version(str(other), value, weights):
            continue
        raise InputError(
            f"checkpoint {path} holds two versions of the weights, {key!r} and {other!r}",
            path=path,
            fix=(
                "save the one that you want "
                f"alone: torch.save(torch.load({path.name!r}, weights_only=True)[{key!r}], ...), or [{other!r}]"
            ),
        )


def _is_other_version(name: str, value: Any, weights: dict[str, torch.Tensor]) -> bool:
    """Tell whether `value` holds tensors for half of `weights` or of its own, by name and shape, of other values."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    if any(word.startswith("optim") for word in words):  # it may name its moments after the weights
        return False
    tensors = dict(_tensors_in(value))
    pairs = []
    for place, tensor in tensors.items():
        parts = place.split(".")
        own = next((end for start in range(len(parts)) if (end := ".".join(parts[start:])) in weights), None)
        if own is not None and weights[own].shape == tensor.shape:
            pairs.append((weights[own], tensor))
    if 2 * len(pairs) >= min(len(weights), len(tensors)) > 0:
        return not all(one.equal(another) for one, another in pairs)
    return not words.isdisjoint(_AVERAGES) and any(tensor.ndim for tensor in tensors.values())


def _tensors_in(value: Any, place: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor in nested dictionaries and lists with its keys, joined by dots."""
    import torch

    if isinstance(value, torch.Tensor):
        yield place, value
    elif isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _tensors_in(item, f"{place}.{key}" if place else str(key))


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise DamagedFileError(
            f"checkpoint {path} is corrupt: {error}", path=path, fix="copy or save it again"
        ) from None


def read_torch_file(path: Path, what: str = "checkpoint", way_out: str = _WEIGHTS_ALONE) -> Any:
    """Return what torch.save wrote into `path`, tensors on the CPU, loaded with `weights_only=True`.

    `what` the file is and the `way_out` are for messages. Raises CoopexportError naming the file when it is damaged
    or holds anything but tensors, numbers, strings and plain containers, and OSError when it cannot be read.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what matters is said below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(f"{what} {path} {_describe_refusal(str(error), way_out)}", path=path) from None
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  a damaged file makes it raise whatever its bytes happen to say
        raise DamagedFileError(
            f"{what} {path} is corrupt or no {what} ({one_line(error)[:120]})", path=path, fix="copy or save it again"
        ) from None


def _describe_refusal(message: str, way_out: str) -> str:
    """Say which type the weights-only loader refused, and how to save without it."""
    found = re.search(r"(?:GLOBAL|global|class|type) `?'?([A-Za-z_][\w.]*\.[\w.]+)", message)
    if found is not None:
        return f"asks to run code or load a foreign type ({found.group(1)}) and was not loaded: {way_out}"
    return f"is corrupt, or holds more than tensors, and was not loaded: {way_out}"


def _only_tensors(content: Any, path: Path) -> dict[str, torch.Tensor]:
    import torch

    if not isinstance(content, dict) or not content:
        raise InputError(
            f"checkpoint {path} holds no weights by name", path=path, fix="save torch.save(model.state_dict(), ...)"
        )
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise InputError(
                f"checkpoint {path}: {name!r} is a {type(value).__name__}, not a tensor",
                path=path,
                fix="save model.state_dict() alone",
            )
    if all(str(name).startswith(_PARALLEL_PREFIX) for name in content):
        return {str(name).removeprefix(_PARALLEL_PREFIX): value for name, value in content.items()}
    return {str(name): value for name, value in content.items()}
