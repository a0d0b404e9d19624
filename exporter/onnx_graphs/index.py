"""What follows from what in an ONNX graph: makers, readers and ancestors, computed once for all cuts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from operator import or_

import onnx

from exporter.onnx_graphs.nodes import tensors_read

_STANDARD_DOMAINS = ("", "ai.onnx")
RANDOM_OPERATORS = frozenset(
    ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli")
)


@dataclass(frozen=True)
class GraphIndex:
    """A graph and what is known about its order. Sets of nodes are integers: bit i stands for node i.

    `varying`: tensors that depend on the network's inputs. Only these count in `inputs`, `reads` and `makes`:
    constants, and what is computed from constants alone, are made anew in every part that reads them and never cross a
    cut. `reads` includes what the bodies of If and Loop read from outside. `ancestors`: of each node, itself included.
    `needed`: nodes that an output depends on; others are dead. `constant`: nodes that compute from constants alone.
    """

    model: onnx.ModelProto
    varying: frozenset[str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reads: tuple[frozenset[str], ...]
    makes: tuple[tuple[str, ...], ...]
    makers: dict[str, int]
    readers: dict[str, int]
    ancestors: tuple[int, ...]
    needed: int
    constant: int

    def made_from(self, tensors: Iterable[str]) -> int:
        """Return the nodes that `tensors` need, back to the network's inputs."""
        return reduce(or_, (self.ancestors[self.makers[name]] for name in tensors if name in self.makers), 0)

    def read_by(self, tensors: Iterable[str]) -> int:
        """Return the nodes that read any of `tensors`."""
        return reduce(or_, (self.readers.get(name, 0) for name in tensors), 0)

    def cut_tensors(self, head: int) -> tuple[str, ...]:
        """Return the tensors that cross when the nodes `head` run first: made there or inputs, read outside.

        In the order of the graph, its inputs first.
        """
        rest = self.needed & ~head
        made = [*self.inputs, *(name for index in nodes_in(head) for name in self.makes[index])]
        return tuple(name for name in made if self.readers.get(name, 0) & rest)

    def behind(self, head: int) -> int:
        """Return the nodes that run after `head`, with those that make their constants once more."""
        rest = self.needed & ~head
        needs = reduce(or_, (self.ancestors[index] for index in nodes_in(rest)), 0)
        return rest | (needs & self.constant)


def index_graph(model: onnx.ModelProto) -> GraphIndex:
    """Return the index of `model`, which is kept and must not be changed after; weights are not looked at.

    Linear in the size of the graph, but for the sets of ancestors (one bit per pair of nodes).
    """
    graph = model.graph
    fixed = {tensor.name for tensor in graph.initializer} | {tensor.values.name for tensor in graph.sparse_initializer}
    inputs = tuple(value.name for value in graph.input if value.name not in fixed)
    makers: dict[str, int] = {}
    readers: dict[str, int] = {}
    reads: list[frozenset[str]] = []
    makes: list[tuple[str, ...]] = []
    ancestors: list[int] = []
    constant = 0
    for index, node in enumerate(graph.node):
        everything = tensors_read([node])
        read = everything - fixed
        if not read and _is_constant(node):
            fixed.update(node.output)
            constant |= 1 << index
        bit = 1 << index
        # Constant ancestors count too: a part needs the nodes that make its constants.
        ancestors.append(reduce(or_, (ancestors[makers[name]] for name in everything if name in makers), bit))
        for name in read:
            readers[name] = readers.get(name, 0) | bit
        made = tuple(name for name in node.output if name)
        makers.update((name, index) for name in made)
        reads.append(frozenset(read))
        makes.append(tuple(name for name in made if name not in fixed))
    outputs = tuple(value.name for value in graph.output)
    needed = reduce(or_, (ancestors[makers[name]] for name in outputs if name in makers), 0)
    varying = frozenset(chain(inputs, *makes))
    return GraphIndex(
        model, varying, inputs, outputs, tuple(reads), tuple(makes), makers, readers, tuple(ancestors), needed, constant
    )  # fmt: skip


def _is_constant(node: onnx.NodeProto) -> bool:
    """Tell whether a node that reads constants alone makes constants: drawn numbers are none."""
    if node.domain not in _STANDARD_DOMAINS or node.op_type in RANDOM_OPERATORS:
        return False
    return not any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute)


def nodes_in(nodes: int) -> Iterator[int]:
    """Yield the numbers of the nodes in a set, in ascending order, which is that of the graph."""
    for index, bit in enumerate(reversed(bin(nodes)[2:])):
        if bit == "1":
            yield index
