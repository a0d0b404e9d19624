"""Cut a network down to a shrink plan: slice parameters, fold constants, rebuild groups."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from exporter.shrinking.plan import EMPTY_SLOT, LayerPlan, ShrinkPlan
from exporter.shrinking.rearranged_modules import SilencedChannels, rearranged
from exporter.tracing.operations import TRANSPOSED_CONVOLUTIONS
from exporter.tracing.weight_layout import filters_of, groups_of, rows_of
from jetson.errors import StaleError, UnsupportedError, one_line

# Weights that are taken to float64 together.
_FOLDED_AT_ONCE = 1 << 14
_VECTORS = ("weight", "bias", "running_mean", "running_var")


def apply_shrink_plan(network: nn.Module, plan: ShrinkPlan) -> nn.Module:
    """Return the small network that `plan` makes of `network`, which is not changed and shares nothing with it.

    Computes in the network's dtype, sums for folding in float64. Raises CoopexportError naming the layer when the
    plan does not fit the network.
    """
    tensors = [*network.parameters(), *network.buffers()]
    # Shared until here, so that the large layers are never held twice.
    try:
        small = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    except Exception as error:  # noqa: BLE001  a module may refuse for reasons of its own
        raise UnsupportedError(
            f"the network cannot be copied ({one_line(error)[:160]})",
            fix="save its weights, and load them into a new one",
        ) from None
    with torch.no_grad():
        for name, layer in plan.layers.items():
            module = _find(small, name)
            try:
                resized = _resized(module, layer)
            except (IndexError, AttributeError, RuntimeError, ValueError) as error:
                raise StaleError(f"the shrink plan does not fit '{name}' of the network: {error}", layer=name) from None
            _replace(small, module, resized)
        for name, parameter in plan.parameters.items():
            _cut_parameter(small, name, parameter.kept)
        for name, mask in plan.silenced.items():
            module = _find(small, name)
            like = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))
            values = torch.tensor(mask.mask, dtype=like.dtype).reshape(mask.shape)
            _replace(small, module, SilencedChannels(module, values))
        _own_tensors(small, {tensor.data_ptr() for tensor in tensors})
    return small


def _find(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        raise StaleError(f"the shrink plan names '{name}', which the network does not have", layer=name) from None


def _replace(network: nn.Module, module: nn.Module, other: nn.Module) -> None:
    """Put `other` wherever `network` holds `module`."""
    if other is module:
        return
    for parent in list(network.modules()):
        for name, child in parent._modules.items():
            if child is module and parent is not other:
                parent._modules[name] = other


def _own_tensors(network: nn.Module, shared: set[int]) -> None:
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.data_ptr() in shared:
                module._parameters[name] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.data_ptr() in shared:
                module._buffers[name] = buffer.clone()


def _resized(module: nn.Module, layer: LayerPlan) -> nn.Module:
    if layer.kind in ("convolution", "linear"):
        return _resized_layer(module, layer)
    outputs = torch.tensor(layer.kept_outputs)
    for name in _VECTORS:
        vector = getattr(module, name, None)
        if vector is not None and vector.ndim == 1:
            sliced = vector.detach()[outputs].clone()
            # A batch norm without gamma and beta reads zeros here, and gives zeros when it takes no mean off them.
            zeroing = ("weight", "bias") if getattr(module, "weight", None) is not None else ("running_mean",)
            if name in zeroing and layer.kind == "batch_norm":
                sliced[_positions(layer.kept_outputs, layer.zeroed_outputs)] = 0
            _set(module, name, sliced)
    size = {"prelu": "num_parameters", "group_norm": "num_channels"}.get(layer.kind, "num_features")
    setattr(module, size, len(outputs))
    if layer.kind == "group_norm":
        module.num_groups = layer.groups  # type: ignore[assignment]
    return module


def _resized_layer(module: nn.Module, layer: LayerPlan) -> nn.Module:
    transposed = isinstance(module, TRANSPOSED_CONVOLUTIONS)
    weight, groups = module.weight, groups_of(module)
    assert isinstance(weight, torch.Tensor)
    sums = _folded_sums(module, layer)
    bias_map = _bias_map(module, layer) if layer.folded_over else None
    zeroed = _positions(layer.kept_outputs, layer.zeroed_outputs)
    bias = getattr(module, "bias", None)
    new_bias: torch.Tensor | None = None
    if bias is not None:
        new_bias = bias.detach()[torch.tensor(layer.kept_outputs)].clone()
    if sums is not None:
        new_bias = (sums if new_bias is None else new_bias.double() + sums).to(weight.dtype)
    if new_bias is not None:
        new_bias[zeroed] = 0
    if bias_map is not None:
        bias_map[:, zeroed] = 0
    if groups == 1 and not layer.input_slots:
        first, second = (
            (layer.kept_inputs, layer.kept_outputs) if transposed else (layer.kept_outputs, layer.kept_inputs)
        )
        new_weight = _selected(_selected(weight.detach(), 0, first), 1, second)
        new_weight = new_weight.clone() if new_weight.data_ptr() == weight.data_ptr() else new_weight
    else:
        new_weight = _grouped_weight(weight.detach(), layer, groups, transposed)
    _zero_outputs(new_weight, layer, transposed)
    _set(module, "weight", new_weight)
    in_slots, out_slots = layer.input_slots or layer.kept_inputs, layer.output_slots or layer.kept_outputs
    if new_bias is not None and layer.output_slots:
        new_bias = torch.where(torch.tensor(out_slots) >= 0, new_bias[torch.tensor(out_slots)], 0)
    if bias is None and new_bias is not None:
        module.register_parameter("bias", nn.Parameter(new_bias, requires_grad=weight.requires_grad))
    elif new_bias is not None:
        _set(module, "bias", new_bias)
    names = ("out_channels", "in_channels") if layer.kind == "convolution" else ("out_features", "in_features")
    for name, slots in zip(names, (out_slots, in_slots), strict=True):
        setattr(module, name, len(slots))
    if layer.kind == "linear":
        return module
    module.groups = layer.groups  # type: ignore[assignment]
    return _picking(module, layer, bias_map)


def _picking(module: nn.Module, layer: LayerPlan, bias_map: torch.Tensor | None) -> nn.Module:
    """Return the convolution, or, where channels must be picked or biases differ by position, one that does that."""
    input_index = output_index = None
    if layer.input_slots and layer.input_slots != tuple(range(len(layer.kept_inputs))):
        input_index = torch.tensor(layer.input_slots).clamp_min(0)  # an empty slot reads anything, times zero
    if layer.output_slots and layer.output_slots != tuple(range(len(layer.kept_outputs))):
        places = {position: slot for slot, position in enumerate(layer.output_slots)}
        output_index = torch.tensor([places[position] for position in range(len(layer.kept_outputs))])
    if input_index is None and output_index is None and bias_map is None:
        return module
    return rearranged(module, input_index=input_index, output_index=output_index, bias_map=bias_map)


def _selected(tensor: torch.Tensor, dimension: int, indices: Sequence[int]) -> torch.Tensor:
    if len(indices) == tensor.shape[dimension] and tuple(indices) == tuple(range(len(indices))):
        return tensor
    return tensor.index_select(dimension, torch.tensor(indices))


def _positions(kept: Sequence[int], chosen: Sequence[int]) -> torch.Tensor:
    """Return where `chosen` lie among `kept`."""
    places = {channel: position for position, channel in enumerate(kept)}
    return torch.tensor([places[channel] for channel in chosen if channel in places], dtype=torch.int64)


def _zero_outputs(weight: torch.Tensor, layer: LayerPlan, transposed: bool) -> None:
    """Zero, in place, the filters of outputs that stay as zeros; `weight` in the module's new layout."""
    if not layer.zeroed_outputs:
        return
    positions = _positions(layer.kept_outputs, layer.zeroed_outputs)
    if layer.output_slots:
        places = {position: slot for slot, position in enumerate(layer.output_slots)}
        positions = torch.tensor([places[int(position)] for position in positions], dtype=torch.int64)
    rows = rows_of(weight, transposed, layer.groups)
    rows[positions // rows.shape[1], positions % rows.shape[1]] = 0


def _grouped_weight(weight: torch.Tensor, layer: LayerPlan, groups: int, transposed: bool) -> torch.Tensor:
    """Return the weight of a grouped convolution for its slots; empty slots hold zeros."""
    inputs, outputs = torch.tensor(layer.kept_inputs), torch.tensor(layer.kept_outputs)
    in_slots = torch.tensor(layer.input_slots or tuple(range(len(inputs)))).reshape(layer.groups, -1)
    out_slots = torch.tensor(layer.output_slots or tuple(range(len(outputs)))).reshape(layer.groups, -1)
    chosen_in = torch.where(in_slots >= 0, inputs[in_slots], EMPTY_SLOT)[:, None, :]
    chosen_out = torch.where(out_slots >= 0, outputs[out_slots], EMPTY_SLOT)[:, :, None]
    rows = rows_of(weight, transposed, groups)
    _, per_output, per_input = rows.shape[:3]
    present = (chosen_in >= 0) & (chosen_out >= 0)
    group = chosen_out.clamp_min(0) // per_output
    local_in = chosen_in - group * per_input
    if bool((present & ((local_in < 0) | (local_in >= per_input))).any()):
        raise ValueError("an input is read by another group than its own")
    values = rows[group, chosen_out.clamp_min(0) % per_output, local_in.clamp(0, per_input - 1)]
    values = values * present.reshape(*present.shape, *[1] * (values.ndim - 3))
    return (values.transpose(1, 2) if transposed else values).flatten(0, 1).contiguous()


def _folded_sums(module: nn.Module, layer: LayerPlan) -> torch.Tensor | None:
    """Return what the folded inputs add to every kept output, float64, or None when nothing is folded so."""
    if not layer.folded_inputs or layer.folded_over:
        return None
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    rows = filters_of(module, weight)
    inputs = torch.tensor(layer.folded_inputs)
    constants = torch.zeros(rows.shape[0], rows.shape[2], dtype=torch.float64)
    constants[inputs // rows.shape[2], inputs % rows.shape[2]] = torch.tensor(
        layer.folded_constants, dtype=torch.float64
    )
    sums = torch.empty(rows.shape[0], rows.shape[1], dtype=torch.float64)
    # A few outputs at a time: in float64 the whole weight would be twice the size of the checkpoint's.
    step = max(1, _FOLDED_AT_ONCE * rows.shape[1] // rows.numel())
    for start in range(0, rows.shape[1], step):
        taps = rows[:, start : start + step].double()
        taps = taps.flatten(3).sum(3) if taps.ndim > 3 else taps
        sums[:, start : start + step] = torch.einsum("goi,gi->go", taps, constants)
    # A transposed convolution spreads its taps over stride positions: on average each gets this share of them.
    spread = math.prod(module.stride) if isinstance(module, TRANSPOSED_CONVOLUTIONS) else 1
    return sums.reshape(-1)[torch.tensor(layer.kept_outputs)] / spread


def _bias_map(module: nn.Module, layer: LayerPlan) -> torch.Tensor:
    """Return what the folded inputs add to every kept output at every position: 1 x outputs x positions."""
    channels = module.in_channels
    assert isinstance(channels, int)
    planes = torch.zeros(1, channels, *layer.folded_over, dtype=torch.float64)
    constants = torch.tensor(layer.folded_constants, dtype=torch.float64)
    planes[0, torch.tensor(layer.folded_inputs)] = constants.reshape(-1, *[1] * len(layer.folded_over))
    in_double = copy.deepcopy(module).double()
    in_double.register_parameter("bias", None)
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    result: torch.Tensor = in_double(planes)[:, torch.tensor(layer.kept_outputs)].to(weight.dtype)
    return result


def _set(module: nn.Module, name: str, value: torch.Tensor) -> None:
    old = getattr(module, name)
    if isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(value, requires_grad=old.requires_grad))
    else:
        setattr(module, name, value)


def _cut_parameter(network: nn.Module, name: str, kept: dict[int, tuple[int, ...]]) -> None:
    path, _, last = name.rpartition(".")
    module = _find(network, path)
    tensor = getattr(module, last, None)
    if not isinstance(tensor, torch.Tensor):
        raise StaleError(f"the shrink plan names the parameter '{name}', which the network does not have", layer=name)
    value = tensor.detach()
    for dimension, indices in kept.items():
        value = _selected(value, dimension, indices)
    _set(module, last, value.clone())
