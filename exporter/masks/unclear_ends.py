"""Layers of which nobody can tell where they end: they are followed by what may be a batch norm or an activation.

A mask of meaning `channel` says that a channel is zero behind the layer's batch norm and activation. Where forward()
computes with the layer's output element by element, with operations of its own, these may be a batch norm
(`x * scale + shift`) or an activation (`relu6(x + 3) / 6`), or neither. As long as zero stays zero in them, it makes
no difference where the mask applies.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx, nn
from torch.nn import functional

from exporter.masks.masks import Masks
from exporter.tracing.elementwise import computed_behind, in_words, is_elementwise, value, zeros
from exporter.tracing.layer_ends import followed_chain, layer_nodes
from exporter.tracing.layer_roles import first_operand, readers
from exporter.tracing.trace import TracedNetwork
from jetson.errors import UnsupportedError

# Activations that look at several elements, so that a channel has no value behind them that is its own.
_MIXING_MODULES = (nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.GLU)
_MIXING_FUNCTIONS = frozenset(
    (functional.softmax, functional.log_softmax, functional.softmin, functional.glu, torch.softmax, torch.log_softmax)
)
_MIXING_METHODS = frozenset(("softmax", "log_softmax"))


def check_layer_ends(traced: TracedNetwork, masks: Masks) -> None:
    """Raise UnsupportedError, naming layer and operation, where it cannot be told where a `channel` mask applies."""
    if masks.meaning != "channel":
        return
    for name, nodes in layer_nodes(traced).items():
        masked = name in masks.keep and not masks.keep[name].all()
        found = unclear_operation(traced, nodes) if masked else None
        if found is not None:
            raise UnsupportedError(
                f"the channel mask of '{name}' cannot be followed: {found} behind it may be its batch norm or "
                "activation, or neither, and does not leave zero at zero",
                layer=name,
                fix=(
                    "use torch.nn's own modules there (as "
                    'nn.BatchNorm2d, nn.Hardsigmoid), give masks of meaning "weight", or leave '
                    f"'{name}' out of the masks"
                ),
            )


def unclear_operation(traced: TracedNetwork, nodes: Sequence[fx.Node]) -> str | None:
    """Return the operation that leaves open where a layer ends, in words, or None where its end can be told.

    `nodes`: those that call the layer. Where zero stays zero, whatever the parameters are, no end is better than
    another.
    """
    for node in nodes:
        last = followed_chain(traced, node)[0][-1]
        found = _unclear_node(traced, last)
        if found is not None:
            return in_words(found, last, traced.network)
    return None


def _unclear_node(traced: TracedNetwork, last: fx.Node) -> fx.Node | None:
    """Return what first follows on the layer's `last` operation where that leaves its end open."""
    following = readers(traced, last)
    if len(following) == 1 and _mixes(traced, following[0], last):
        return following[0]
    for computed in computed_behind(traced, last):
        try:
            if not is_elementwise(computed):
                return None  # another norm, an attention: none of the layer's
            stays_zero = not value(computed, zeros(last)).any()
        except Exception:  # noqa: BLE001  operations of the user's own
            return computed.nodes[0]
        if not stays_zero:
            return computed.nodes[0]
    return None


def _mixes(traced: TracedNetwork, node: fx.Node, last: fx.Node) -> bool:
    module = traced.module(node)
    known = isinstance(module, _MIXING_MODULES) or node.target in _MIXING_FUNCTIONS
    return first_operand(node) is last and (known or (node.op == "call_method" and node.target in _MIXING_METHODS))
