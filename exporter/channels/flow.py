"""Follow every channel through a traced network: who reads it, what it is tied to, and where it is a constant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx, nn
from torch.nn import functional

from exporter.channels.classes import Atoms, ChannelClasses
from exporter.channels.constants import border_is_uniform, layer_outputs
from exporter.channels.feature import Constants, Feature, along, compress, constants_along, live, vector_along
from exporter.channels.flow_record import Flow, first_feature
from exporter.channels.rules import RULES
from exporter.channels.walk import instances, walk
from exporter.masks.masks import Masks
from exporter.tracing.layer_ends import channel_dimension, layer_end, layer_nodes
from exporter.tracing.operations import CONVOLUTIONS, LAYERS, TRANSPOSED_CONVOLUTIONS, is_batch_norm, kind_of
from exporter.tracing.trace import TracedNetwork, node_name, shape_of
from exporter.tracing.weight_layout import groups_of
from jetson.errors import InputError, UnsupportedError


@dataclass(frozen=True)
class LayerReads:
    """A convolution or linear: the channels that it makes, and those that it reads in all its calls.

    `foldable`: where an input is a constant that the layer's bias (or a bias map) can take over. `constants`: that
    constant, NaN where it is live.
    """

    name: str
    dimension: int
    groups: int
    outputs: Atoms
    inputs: Atoms
    constants: Constants
    foldable: NDArray[np.bool_]


@dataclass(frozen=True)
class ChannelFlow:
    """All that is known about the channels of a network under its masks.

    `features`: what every node makes; `layers`: every convolution and linear that is called on channels;
    `vectors`: the channels of modules with parameters per channel; `parameters`: free parameters and buffers;
    `pins`: channels that must stay, and why; `equal_parts`: rows of channels of which equally many must stay.
    """

    traced: TracedNetwork
    classes: ChannelClasses
    features: Mapping[fx.Node, Any]
    layers: Mapping[str, LayerReads]
    vectors: Mapping[str, Atoms]
    parameters: Mapping[str, Feature]
    pins: tuple[tuple[Atoms, str], ...]
    equal_parts: tuple[tuple[str, Atoms], ...]
    movements: Mapping[fx.Node, tuple[NDArray[np.int64], ...]]


def follow_channels(
    traced: TracedNetwork, masks: Masks, *, fold_any_border: bool = False, approximate: bool = False
) -> ChannelFlow:
    """Return how channels flow through `traced` under `masks`.

    `fold_any_border`: take a constant for foldable also where zero padding changes it at the border; `approximate`:
    and what comes out for the constant that it is inside.
    """
    flow = Flow(traced, ChannelClasses())
    layers: dict[str, LayerReads] = {}
    ends = _ends(traced, masks) if masks.meaning == "channel" else {}
    own = {name for name, _ in traced.network.named_parameters(remove_duplicate=False)}
    own |= {name for name, _ in traced.network.named_buffers(remove_duplicate=False)}

    def start(node: fx.Node) -> Feature:
        shape = shape_of(node)
        if node.op == "get_attr":
            return _parameter(flow, node, shape, own)
        if len(shape) < 2:
            return live(shape, np.zeros((1,) * len(shape), dtype=np.int64))
        atoms = along(1, len(shape), flow.classes.fresh(shape[1]))
        flow.pin(atoms, "it is an input of the network")
        return live(shape, atoms)

    def rule(node: fx.Node, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        module = traced.module(node)
        kind = kind_of(node, module)
        read = first_feature(arguments, options)
        if kind in ("convolution", "linear") and read is not None:
            assert module is not None
            result: Any = _layer(flow, layers, node, module, read, masks, fold_any_border, approximate)
        else:
            result = RULES[kind](flow, node, module, arguments, options)
        keep = ends.get(node)
        if keep is not None and isinstance(result, Feature):
            result = Feature(result.shape, result.atoms, np.where(keep, result.constants, 0.0))
        return result

    features = walk(traced, Feature, start, rule)
    _pin_owners(flow, layers)
    for node in traced.nodes:
        if node.op == "output":
            for feature in instances(Feature, features[node]):
                flow.pin(feature.atoms, "it is an output of the network")
    return ChannelFlow(
        traced, flow.classes, features, layers, flow.vectors, flow.parameters,
        tuple(flow.pins), tuple(flow.equal_parts), flow.movements,
    )  # fmt: skip


def _pin_owners(flow: Flow, layers: Mapping[str, LayerReads]) -> None:
    """Keep whole what belongs to modules whose parameters the network also uses by themselves."""
    for name, parameter in flow.parameters.items():
        owner = name.rpartition(".")[0]
        layer, vector = layers.get(owner), flow.vectors.get(owner)
        found = [parameter.atoms.reshape(-1)]
        found += [] if layer is None else [layer.inputs, layer.outputs]
        found += [] if vector is None else [vector]
        if len(found) > 1:
            flow.pin(np.concatenate(found), f"'{name}' is also used by itself")


def _ends(traced: TracedNetwork, masks: Masks) -> dict[fx.Node, NDArray[np.bool_]]:
    """Return the masks by the node that they apply to, each in the shape of that node's output."""
    ends = {}
    for name, nodes in layer_nodes(traced).items():
        for end in [layer_end(traced, node) for node in nodes] if name in masks.keep else []:
            dimension = channel_dimension(end, traced.network.get_submodule(name))
            ends[end] = along(dimension, len(shape_of(end)), masks.keep[name])
    return ends


def _parameter(flow: Flow, node: fx.Node, shape: tuple[int, ...], own: set[str]) -> Feature:
    """Return a free parameter: every element may be cut away with the channel that it is combined with."""
    name = str(node.target)
    value: Any = flow.traced.graph_module
    for part in name.split("."):
        value = getattr(value, part)
    assert isinstance(value, torch.Tensor)
    constants = compress(value.detach().double().numpy())
    constants = np.where(np.isfinite(constants), constants, np.nan)
    if name in flow.parameters:
        return Feature(shape, flow.parameters[name].atoms, constants)
    if name not in own:  # a tensor that is written into forward()
        feature = Feature(shape, np.zeros((1,) * len(shape), dtype=np.int64), constants)
    else:
        count = int(np.prod(shape))
        feature = Feature(shape, flow.classes.fresh(count).reshape(shape), constants)
    flow.parameters[name] = feature
    return feature


def _layer(
    flow: Flow, layers: dict[str, LayerReads], node: fx.Node, module: nn.Module, read: Feature, masks: Masks,
    fold_any_border: bool, approximate: bool,
) -> Feature:  # fmt: skip
    """Return what a convolution or linear makes, and remember what it reads."""
    name, shape = node_name(node), shape_of(node)
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    is_convolution = isinstance(module, (*CONVOLUTIONS, *TRANSPOSED_CONVOLUTIONS))
    dimension = len(shape) - 1 - (weight.ndim - 2 if is_convolution else 0)
    inputs = vector_along(read, dimension)
    if inputs is None:
        flow.pin(read.atoms, f"'{name}' reads channels from several dimensions")
        inputs = np.zeros(read.shape[dimension], dtype=np.int64)
    constants = constants_along(read, dimension)
    known = np.isfinite(constants)
    usable = known & ((constants == 0) | border_is_uniform(module) | approximate)
    foldable = known if fold_any_border or approximate else usable
    width = shape[dimension]
    keep = masks.keep.get(name)
    silent = ~keep if masks.meaning == "weight" and keep is not None else np.zeros(width, dtype=np.bool_)
    made = layer_outputs(module, constants, usable, silent)
    before = layers.get(name)
    if before is None:
        outputs = flow.classes.fresh(width)
        layers[name] = LayerReads(name, dimension, groups_of(module), outputs, inputs, constants, foldable)
    else:
        outputs = before.outputs
        # A map of biases per position serves one call only.
        layers[name] = _read_again(flow, before, inputs, constants, usable)
    return Feature(shape, along(dimension, len(shape), outputs), along(dimension, len(shape), made))


def _read_again(
    flow: Flow, before: LayerReads, inputs: Atoms, constants: Constants, usable: NDArray[np.bool_]
) -> LayerReads:
    """Return a layer that is called once more: both inputs are cut alike, and one bias serves both."""
    flow.classes.unite(before.inputs, inputs)
    foldable = before.foldable & usable & (before.constants == constants)
    same = np.where(before.constants == constants, constants, np.nan)
    return LayerReads(before.name, before.dimension, before.groups, before.outputs, before.inputs, same, foldable)


def check_one_function(traced: TracedNetwork) -> None:
    """Raise CoopexportError naming what keeps a network from computing one function of its inputs.

    A batch norm that normalises with each batch's own statistics, a dropout that is never off, pruning that is still
    active, and weights that are not numbers.
    """
    for name, parameter in traced.network.named_parameters():
        if not bool(parameter.detach().sum().isfinite()) and not bool(parameter.detach().isfinite().all()):
            raise InputError(
                f"cannot shrink: '{name}' holds NaN or infinite values", layer=name, fix="train or save it again"
            )
    for node in traced.nodes:
        module = traced.module(node)
        if isinstance(module, LAYERS) and hasattr(module, "weight_mask"):
            raise UnsupportedError(
                f"cannot shrink '{node_name(node)}': its weight is computed by a hook, torch.nn.utils.prune's",
                layer=node_name(node),
                fix="make it permanent first with torch.nn.utils.prune.remove",
            )
        if "dropout" in str(getattr(node.target, "__name__", "")) and node.op == "call_function":
            given = dict(enumerate(node.args))
            if node.kwargs.get("training", given.get(2, True)) is not False and node.kwargs.get("p", given.get(1)) != 0:
                raise UnsupportedError(
                    f"cannot shrink: '{node_name(node)}' drops values in eval mode too",
                    layer=node_name(node),
                    fix="call it with training=self.training",
                )
        by_batch = module is not None and is_batch_norm(module) and module.running_mean is None
        if by_batch or (node.target is functional.batch_norm and node.kwargs.get("training") is not False):
            raise UnsupportedError(
                f"cannot shrink through '{node_name(node)}': a batch norm without running statistics gives each batch "
                "another result",
                layer=node_name(node),
                fix="train it with track_running_stats=True, and call it with training=self.training",
            )
