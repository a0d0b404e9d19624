"""Which channels can only be removed together: residual sums, depthwise convolutions, groups, channel shuffles.

What the lossless shrinker ties is a group; and what it could take apart only at the price of uneven grouped
convolutions is one here, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from exporter.channels.feature import Feature, vector_along
from exporter.channels.flow import ChannelFlow, LayerReads, follow_channels
from exporter.masks.masks import Masks
from exporter.masks.unclear_ends import unclear_operation
from exporter.tracing.layer_ends import layer_chain, layer_nodes, output_layers
from exporter.tracing.trace import Inputs, TracedNetwork, trace
from jetson.errors import UnsupportedError

# The group of channels that cannot be removed.
FIXED = -1
Groups = NDArray[np.int64]


@dataclass(frozen=True)
class ChannelGroups:
    """The groups of a network's channels, numbered from 0; `FIXED` for channels that have to stay.

    `classes`: the class of each group in `flow`, ascending. `of_layer`: for every convolution and linear, the group of
    each output channel; `of_vector`: the same for modules with parameters per channel (batch norms, PReLU);
    `passing`: layers that only pass on channels of others (depthwise convolutions), whose channels are not filters of
    their own.
    """

    traced: TracedNetwork
    flow: ChannelFlow
    classes: NDArray[np.int64]
    of_layer: Mapping[str, Groups]
    of_vector: Mapping[str, Groups]
    passing: frozenset[str]

    @property
    def count(self) -> int:
        """Return how many groups there are."""
        return len(self.classes)

    def numbers(self, atoms: NDArray[np.int64]) -> Groups:
        """Return the group of each atom of the flow."""
        return _numbers(self.flow, self.classes, atoms)

    def masks(self, removed: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
        """Return for each layer which channels stay when `removed` (one boolean per group) is gone."""
        lookup = np.append(removed, False)  # FIXED is the last
        return {name: ~lookup[groups] for name, groups in self.of_layer.items()}

    def filters(self) -> NDArray[np.int64]:
        """Return how many filters each group has: output channels of layers that are not `passing`."""
        counts = np.zeros(self.count, dtype=np.int64)
        for name, groups in self.of_layer.items():
            if name not in self.passing:
                np.add.at(counts, groups[groups >= 0], 1)
        return counts


def channel_groups(network: torch.nn.Module, example_inputs: Inputs) -> ChannelGroups:
    """Return which channels of `network` can only be removed together.

    `example_inputs`: N x ..., as the network takes them; the network's weights are made contiguous. Raises
    CoopexportError when it cannot be traced, and when two modules share a weight. Channels stay where it cannot be told
    behind which operation they would be zero.
    """
    _check_no_shared_weights(network)
    for tensor in (*network.parameters(), *network.buffers()):  # sums are in one order, before and after training
        tensor.data = tensor.data.contiguous()
    traced = trace(network, example_inputs)
    flow = follow_channels(traced, Masks({}, "channel", ""))
    classes = flow.classes
    for layer in flow.layers.values():
        if layer.groups > 1:
            _tie_groups(flow, layer)
    for _, rows in flow.equal_parts:
        for row in rows[1:]:
            classes.unite(rows[0], row)
    fixed = {0}
    for atoms, _ in flow.pins:
        fixed.update(classes.find(atoms).tolist())
    for name in output_layers(traced):
        if name in flow.layers:
            fixed.update(classes.find(flow.layers[name].outputs).tolist())
    unclear = _unclear_layers(traced, flow)
    for name in unclear:
        fixed.update(classes.find(flow.layers[name].outputs).tolist())
    made = [classes.find(layer.outputs) for layer in flow.layers.values()]
    free = np.setdiff1d(np.concatenate([np.zeros(0, np.int64), *made]), np.array(sorted(fixed)))
    if not len(free):
        why = "every channel is tied to an input or an output"
        if unclear:
            name, operation = next(iter(unclear.items()))
            why += (
                f", or to a layer of which cannot be told where it ends, as '{name}': {operation} behind it may be its "
                "batch norm or activation, or neither; use torch.nn's own modules there"
            )
        raise UnsupportedError(f"nothing of the network can be pruned: {why}")
    return ChannelGroups(
        traced,
        flow,
        free,
        {name: _numbers(flow, free, layer.outputs) for name, layer in flow.layers.items()},
        {name: _numbers(flow, free, atoms) for name, atoms in flow.vectors.items()},
        frozenset(name for name, layer in flow.layers.items() if _is_depthwise(layer)),
    )


def _unclear_layers(traced: TracedNetwork, flow: ChannelFlow) -> dict[str, str]:
    """Return the layers of which cannot be told where a mask applies, each with the operation that leaves it open."""
    found = {
        name: unclear_operation(traced, nodes) for name, nodes in layer_nodes(traced).items() if name in flow.layers
    }
    return {name: operation for name, operation in found.items() if operation is not None}


def _check_no_shared_weights(network: torch.nn.Module) -> None:
    owners: dict[int, str] = {}
    for path, module in network.named_modules():
        for parameter in module.parameters(recurse=False):
            other = owners.setdefault(id(parameter), path)
            if other != path:
                raise UnsupportedError(
                    f"'{other}' and '{path}' share a weight, which pruning would cut and train apart: give each its "
                    "own, or call one module in both places",
                    layer=path,
                )


def _numbers(flow: ChannelFlow, free: NDArray[np.int64], atoms: NDArray[np.int64]) -> Groups:
    found = flow.classes.find(atoms)
    places = np.searchsorted(free, found).clip(max=len(free) - 1)
    return np.where(free[places] == found, places, FIXED)


def _is_depthwise(layer: LayerReads) -> bool:
    return 1 < layer.groups == len(layer.inputs)


def _tie_groups(flow: ChannelFlow, layer: LayerReads) -> None:
    """Tie what keeps a grouped convolution's groups alike: whole groups, or the same place in each group.

    Whichever leaves more to choose from; in a depthwise convolution a group is one channel, read and made.
    """
    outputs, inputs = layer.outputs.reshape(layer.groups, -1), layer.inputs.reshape(layer.groups, -1)
    if layer.groups >= max(outputs.shape[1], inputs.shape[1]):
        flow.classes.unite(inputs[:, :1], inputs)
        flow.classes.unite(inputs[:, :1], outputs)
    else:
        flow.classes.unite(outputs[:1], outputs)
        flow.classes.unite(inputs[:1], inputs)


def crossing_groups(groups: ChannelGroups, names: Iterable[str]) -> Groups:
    """Return the group of every channel that crosses when the network is cut after the module that `names` name.

    `names`: the path of a convolution, of a batch norm, activation or pool, or of a block that contains them; the
    first that the network has counts. Raises CoopexportError when none does, or when what it makes has no channels.
    """
    names = list(names)
    node = next((found for name in names if (found := _last_node(groups.traced, name)) is not None), None)
    if node is None:
        raise UnsupportedError(
            f"cannot tell which channels cross after '{names[0]}': no module of that name makes them", layer=names[0]
        )
    feature = groups.flow.features[node]
    atoms = vector_along(feature, 1) if isinstance(feature, Feature) and len(feature.shape) > 1 else None
    if atoms is None:
        raise UnsupportedError(
            f"what crosses after '{names[0]}' has no channels of its own in dimension 1", layer=names[0]
        )
    return groups.numbers(atoms)


def _last_node(traced: TracedNetwork, name: str) -> fx.Node | None:
    """Return the operation behind which a cut after module `name` lies."""
    layers = layer_nodes(traced)
    if name in layers:
        return layer_chain(traced, layers[name][-1])[-1]
    inside = [
        node
        for node in traced.nodes
        if (node.op == "call_module" and str(node.target) == name) or name in node.meta.get("nn_module_stack", {})
    ]
    if not inside:
        return None
    for nodes in layers.values():
        for node in nodes:
            chain = layer_chain(traced, node)
            if inside[-1] in chain:
                return chain[-1]
    return inside[-1]
