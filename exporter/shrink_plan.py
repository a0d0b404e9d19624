"""The shrink plan: which channels each layer keeps, enough to rebuild the small network without pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from exporter.checkpoint import build_network, load_weights, read_state_dict
from jetson.atomic_files import sha256_of_file, write_files
from jetson.errors import CoopexportError
from jetson.json_files import encode_json, read_json

if TYPE_CHECKING:
    import torch
    from torch import nn

SCHEMA = "coopexport.shrink-plan/1.0"
PLAN_FILE = "shrink.json"
WEIGHTS_FILE = "weights.safetensors"


class LayerPlan(BaseModel):
    """What is left of one module; indices count the unpruned module's channels, increasing."""

    model_config = ConfigDict(frozen=True)
    kind: Literal["convolution", "linear", "batch_norm", "prelu"]
    kept_outputs: tuple[int, ...]
    kept_inputs: tuple[int, ...]


class KeptChannels(BaseModel):
    """Channels that a mask names and that stay all the same, and why."""

    model_config = ConfigDict(frozen=True)
    layer: str
    channels: tuple[int, ...]
    reason: str


class ShrinkPlan(BaseModel):
    """All that is needed, with a factory and weights, to rebuild a shrunk network."""

    model_config = ConfigDict(frozen=True)
    layers: dict[str, LayerPlan]
    kept_although_masked: tuple[KeptChannels, ...] = ()


class ShrinkFile(ShrinkPlan):
    """A shrink plan as a file: with its factory, its sources and what was proven about it."""

    factory: str
    arguments: dict[str, Any]
    checkpoint_sha256: str
    masks_sha256: str
    masks_file: str | None = None  # where it was not the project's
    weights: str
    weights_sha256: str
    parity: tuple[dict[str, Any], ...]


def resize(network: nn.Module, layers: Mapping[str, LayerPlan]) -> None:
    """Cut the modules of `network` down to `layers`, in place: weights, biases, slopes, all four batch-norm vectors.

    Raises CoopexportError naming the layer when the plan does not fit the network.
    """
    import torch  # here, so that reading a plan needs no torch

    for name, layer in layers.items():
        try:
            module = network.get_submodule(name)
        except AttributeError:
            raise CoopexportError(f"the shrink plan names '{name}', which the network does not have") from None
        outputs, inputs = torch.tensor(layer.kept_outputs), torch.tensor(layer.kept_inputs)
        try:
            _resize_module(module, layer, outputs, inputs)
        except (IndexError, AttributeError) as error:
            raise CoopexportError(f"the shrink plan does not fit '{name}' of the network: {error}") from None


def _resize_module(module: nn.Module, layer: LayerPlan, outputs: torch.Tensor, inputs: torch.Tensor) -> None:
    if layer.kind == "batch_norm":
        for vector in ("weight", "bias", "running_mean", "running_var"):
            _slice(module, vector, outputs)
        module.num_features = len(outputs)  # type: ignore[assignment]
        return
    if layer.kind == "prelu":
        _slice(module, "weight", outputs)
        module.num_parameters = len(outputs)  # type: ignore[assignment]
        return
    _slice(module, "weight", outputs, inputs)
    _slice(module, "bias", outputs)
    size_names = ("out_channels", "in_channels") if layer.kind == "convolution" else ("out_features", "in_features")
    for size_name, kept in zip(size_names, (outputs, inputs), strict=True):
        setattr(module, size_name, len(kept))


def _slice(module: nn.Module, name: str, outputs: torch.Tensor, inputs: torch.Tensor | None = None) -> None:
    from torch import nn

    tensor = getattr(module, name)
    if tensor is None:  # no bias, no affine parameters, no running statistics
        return
    sliced = tensor.detach()[outputs]
    if inputs is not None:
        sliced = sliced[:, inputs]
    sliced = sliced.clone().contiguous()
    if isinstance(tensor, nn.Parameter):
        setattr(module, name, nn.Parameter(sliced, requires_grad=tensor.requires_grad))
    else:
        setattr(module, name, sliced)


def write_shrink_plan(folder: Path, file: ShrinkFile, weights: bytes) -> None:
    """Write plan and weights into `folder`, both or neither; raises OSError."""
    plan = encode_json(SCHEMA, file.model_dump(mode="json"))
    write_files(str(folder), {WEIGHTS_FILE: weights, PLAN_FILE: plan})


def read_shrink_plan(folder: Path) -> ShrinkFile:
    """Read the plan in `folder`; raises CoopexportError when it is missing or malformed."""
    path = folder / PLAN_FILE
    try:
        return ShrinkFile.model_validate(read_json(str(path), SCHEMA))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise CoopexportError(f"{path}: {key}: {problem['msg']}; write it anew with: coopexport shrink") from None


def rebuild(folder: Path, project_folder: Path) -> nn.Module:
    """Return the shrunk network from the files in `folder` alone (and the user's factory), in eval mode.

    Raises CoopexportError when a file is missing or its hash is not the recorded one.
    """
    file = read_shrink_plan(folder)
    weights = folder / file.weights
    if not weights.is_file():
        raise CoopexportError(f"{weights} is missing; write it anew with: coopexport shrink")
    if sha256_of_file(str(weights)) != file.weights_sha256:
        raise CoopexportError(f"{weights} is not the file that {PLAN_FILE} was written with; run: coopexport shrink")
    network = build_network(file.factory, file.arguments, project_folder)
    resize(network, file.layers)
    load_weights(network, read_state_dict(weights), str(weights))
    return network.eval()
