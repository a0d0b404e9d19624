"""Masks out of dictionaries and files: the project's own, NNI's, and plain ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from exporter.masks.importers import weighted_layers, zero_biases
from exporter.masks.masked_network import output_channels
from exporter.masks.masks import Masks, Meaning, read_masks
from exporter.project.checkpoint import read_torch_file
from exporter.tracing.operations import LAYERS
from exporter.tracing.weight_layout import filters_of
from jetson.errors import CoopexportError, InputError, reworded

# What a pruner of NNI 3 returns is a defaultdict, which the weights-only loader refuses.
_SAVE_PLAIN = "save torch.save({name: dict(targets) for name, targets in masks.items()}, ...) or the like"
_NO_LAYERS = ("meaning", "origin")


def from_nni(source: str | Path | Mapping[str, Any], network: nn.Module | None = None) -> Masks:
    """Return masks of the filters that a mask dictionary of NNI masks wholly; meaning `weight`.

    `source`: {layer: {"weight": tensor of 0 and 1 in the weight's shape or with one entry per output channel, "bias":
    one entry per output channel, or None}}, or a file with it: from `export_model(..., mask_path=...)` (NNI 1, 2), or
    saved from what `compress()` returned (NNI 3, whose dictionaries name `_input_0` and `_output_0` as well).
    A filter counts when its weights and its bias are masked; a bias without a mask counts as masked, unless `network`
    shows that it is not 0. Filters masked in part are left as they are, layers without a whole one are left out.
    Output channels are in dimension 0, unless `network` says that the layer is a transposed convolution.

    Raises CoopexportError naming the layer for other values, for a shape that does not fit, for masks of inputs and
    outputs that silence what the weights' masks do not, and when no layer has a wholly masked filter.

    Source: NNI, Pruner.export_model (nni.compression.pytorch) and Pruner.get_masks (nni.contrib.compression).
    """
    if isinstance(source, (str, Path)):
        content = _read_torch_masks(Path(source))
        with _in_file(Path(source)):
            return from_nni(content, network)
    keep, partly = {}, []
    for name, targets in source.items():
        if not isinstance(targets, Mapping):
            raise InputError(f"the NNI masks of '{name}' are a {type(targets).__name__}, not a dictionary", layer=name)
        masks = {target: _zeros_and_ones(name, mask) for target, mask in targets.items() if mask is not None}
        if all(mask.all() for mask in masks.values()):
            continue
        layer = None if network is None else _find_layer(network, name)
        if "weight" in masks:
            keep[name] = _filters_kept(name, masks["weight"], masks.get("bias"), layer)
            partly.append(f"{np.count_nonzero(~masks['weight'])} of {masks['weight'].size} weights of '{name}'")
        _check_not_more_silent(name, masks, keep.get(name))
    keep = {name: vector for name, vector in keep.items() if not vector.all()}
    if not keep:
        layers = f"{', '.join(partly[:3])}{', ...' if len(partly) > 3 else ''}"
        raise InputError(
            f"the NNI masks leave something of every filter (masked: {layers or 'nothing'})",
            fix='prune whole filters with their biases (L1FilterPruner, L1NormPruner, or granularity "out_channel")',
        )
    return _checked(Masks(keep, "weight", "NNI mask dictionary"))


def from_dictionary(
    keep: Mapping[str, Any], meaning: Meaning, network: nn.Module | None = None, origin: str = "dictionary"
) -> Masks:
    """Return masks from {layer: list, array or tensor of bool or 0/1, one entry per output channel, 1 = keep}.

    `meaning`: what a masked channel is, see `Masks`; `origin` goes along with them. Raises CoopexportError naming the
    layer for other values (NaN too), another number of dimensions, a layer that keeps nothing and, with `network`, for
    a name or length that does not fit.
    """
    vectors = {name: _zeros_and_ones(name, values) for name, values in keep.items()}
    return _checked(Masks(vectors, meaning, origin), network)


def read_any_masks(path: Path, network: nn.Module | None = None) -> Masks:
    """Read masks from whatever file holds them; with `network` names and lengths are checked.

    `.safetensors`: the project's own, see docs/formats.md. Anything else: what torch.save wrote, be it an NNI mask
    dictionary (see `from_nni`) or {layer: vector of bool or 0/1, "meaning": "channel" or "weight", "origin": text, may
    be missing}. Only tensors and plain containers are loaded. Raises CoopexportError naming file and layer, and
    OSError.
    """
    if path.suffix == ".safetensors":
        masks = read_masks(path)
        with _in_file(path):
            return _checked(masks, network)
    content = _read_torch_masks(path)
    with _in_file(path):
        if "meaning" in content:
            vectors = {name: values for name, values in content.items() if name not in _NO_LAYERS}
            return from_dictionary(vectors, content["meaning"], network, str(content.get("origin", "")))
        if any(isinstance(targets, Mapping) for targets in content.values()):
            return from_nni(content, network)
        raise InputError(
            "it does not say what a masked channel is", fix='add "meaning": "channel" or "weight" to the layers'
        )


def _read_torch_masks(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"mask file {path} is missing", path=path, fix="check model.masks")
    content = read_torch_file(path, "mask file", _SAVE_PLAIN)
    if not isinstance(content, dict) or not content:
        raise InputError(f"mask file {path} holds no masks by layer", path=path, fix=_SAVE_PLAIN)
    return content


@contextmanager
def _in_file(path: Path) -> Iterator[None]:
    """Put the file before what is wrong with its content."""
    try:
        yield
    except CoopexportError as error:
        raise reworded(error, f"mask file {path}: {error}", path=path) from None


def _zeros_and_ones(name: str, values: Any) -> NDArray[np.bool_]:
    """Return an array of any shape as bool; raises CoopexportError naming the layer when it holds anything else."""
    if not isinstance(name, str):
        raise InputError(f"there is a mask for {name!r}; masks go by the names of layers")
    try:
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu()
            values = values.float() if values.is_floating_point() else values  # numpy has no bfloat16
        array = np.asarray(values)
        numbers = array.dtype.kind in "biuf"
    except (TypeError, ValueError, RuntimeError):  # ragged lists; sparse tensors
        numbers = False
    if not numbers:
        raise InputError(f"the mask of '{name}' is not an array of 0 and 1 or bool", layer=name, fix="save it as one")
    others = array[(array != 0) & (array != 1)]
    if others.size:
        raise InputError(
            f"the mask of '{name}' holds {others.size} values other than 0 and 1, as {others[0]}; 1 keeps, 0 removes",
            layer=name,
        )
    return array.astype(np.bool_)


def _find_layer(network: nn.Module, name: str) -> nn.Module:
    module = dict(network.named_modules()).get(name)
    if module is None:
        raise InputError(
            f"there is a mask for '{name}', which the network does not have; its layers are: "
            f"{', '.join(layer for layer, _ in weighted_layers(network))}",
            layer=name,
        )
    if not isinstance(module, LAYERS):
        raise InputError(
            f"there is a mask for '{name}', a {type(module).__name__}; masks are for convolutions and linear layers: "
            "where batch norms were pruned, load the pruned weights and take the masks from their gammas",
            layer=name,
        )
    return module


def _checked(masks: Masks, network: nn.Module | None = None) -> Masks:
    """Return `masks`; raises CoopexportError naming a layer that keeps nothing or that `network` has not like that."""
    for name, keep in masks.keep.items():
        if network is not None:
            _check_length(name, keep, _find_layer(network, name))
        if not keep.any():
            raise InputError(f"the mask of '{name}' removes every channel", layer=name, fix="keep at least one")
    return masks


def _check_length(name: str, keep: NDArray[np.bool_], layer: nn.Module) -> None:
    channels = output_channels(layer)
    if keep.shape != (channels,):
        raise InputError(
            f"the mask of '{name}' has {keep.size} entries, the layer has {channels} output channels",
            layer=name,
            fix="check which network the masks are of",
        )


def _filters_kept(
    name: str, weight: NDArray[np.bool_], bias: NDArray[np.bool_] | None, layer: nn.Module | None
) -> NDArray[np.bool_]:
    """Return which filters of a layer are not wholly masked, from the masks of its weight and its bias."""
    if layer is not None and weight.ndim != 1:
        assert isinstance(layer.weight, torch.Tensor)
        if weight.shape != tuple(layer.weight.shape):
            raise InputError(
                f"the mask of '{name}' has shape {weight.shape}, its weight {tuple(layer.weight.shape)}",
                layer=name,
                fix="check which network the masks are of",
            )
        weight = filters_of(layer, torch.from_numpy(weight)).flatten(0, 1).numpy()
    keep = np.asarray(weight.any(axis=tuple(range(1, weight.ndim))))
    if layer is not None:
        _check_length(name, keep, layer)
        bias = ~zero_biases(layer) if bias is None else bias
    elif bias is None:
        return keep
    if bias.shape != keep.shape:
        raise InputError(
            f"the masks of '{name}' are of {keep.shape} filters and {bias.shape} biases",
            layer=name,
            fix="give the network as well, in case it is a transposed convolution",
        )
    return keep | bias


def _check_not_more_silent(name: str, masks: Mapping[str, NDArray[np.bool_]], keep: NDArray[np.bool_] | None) -> None:
    """Raise InputError when NNI masks a layer's inputs or outputs beyond what the masks of its weights say."""
    for target, mask in masks.items():
        if target in ("weight", "bias") or mask.all():
            continue
        per_channel = keep is not None and target.startswith("_output") and mask.size == keep.size
        if keep is None or not per_channel or (keep & ~mask.reshape(-1)).any():
            raise InputError(
                f"the NNI masks of '{name}' silence by '{target}' what those of its weights do not",
                layer=name,
                fix='prune with target_names = ["weight", "bias"] alone',
            )
