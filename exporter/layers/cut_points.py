"""Where a graph can be cut: all single-tensor cuts, cuts of several tensors, and what crosses behind any tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from exporter.onnx_graphs.index import GraphIndex, nodes_in
from exporter.onnx_graphs.tensor_types import TensorType
from jetson.errors import InputError, UnsupportedError


@dataclass(frozen=True)
class CutPlan:
    """How a graph falls apart at some tensors. `head`: nodes, as in GraphIndex; `cut_tensors`: what the rest reads of
    it.

    Outputs of the network that `head` makes, or that do not depend on the tensors at all (early exits), are
    `head_outputs`; they need not cross.
    """

    head: int
    cut_tensors: tuple[str, ...]
    head_outputs: tuple[str, ...]
    tail_outputs: tuple[str, ...]


@dataclass(frozen=True)
class CutTensors:
    """What crosses when a graph is cut after one tensor, in the order of the graph, and where less would.

    `tensors`: with bytes per sample, None where no fixed size is known. `before` and `after`: the nearest
    single-tensor cuts, or None.
    """

    tensors: tuple[tuple[str, int | None], ...]
    before: str | None
    after: str | None

    @property
    def total_bytes(self) -> int | None:
        """Bytes per sample of all tensors, or None where one is not known."""
        sizes = [size for _, size in self.tensors if size is not None]
        return sum(sizes) if len(sizes) == len(self.tensors) else None


def plan_cut(index: GraphIndex, tensors: Sequence[str]) -> CutPlan:
    """Return how the graph falls apart at `tensors`; the cut is clean when nothing else is in `cut_tensors`.

    No node runs twice. Raises CoopexportError when a tensor is unknown or constant, none of them is made by a node,
    or nothing is left to do behind them.
    """
    for name in tensors:
        if name not in index.varying:
            what = "a constant" if name in index.makers else "not a tensor of the graph"
            raise InputError(f"'{name}' is {what}", fix="`coopexport layers` lists where to cut")
        if name in index.makers and not index.needed >> index.makers[name] & 1:
            raise UnsupportedError(
                f"'{name}' is not needed for any output", fix="`coopexport layers` lists where to cut"
            )
    head = index.made_from(tensors)
    if not head:
        raise UnsupportedError(f"{_quoted(tensors)}: the network's own input; nothing is left to cut there")
    behind = index.read_by(tensors)
    head_outputs = []
    for output in index.outputs:
        needs = index.made_from([output])
        if output in index.inputs or (output in index.varying and (not needs & ~head or not needs & behind)):
            head_outputs.append(output)
            head |= needs
    tail_outputs = tuple(name for name in index.outputs if name not in head_outputs)
    if index.varying.isdisjoint(tail_outputs):
        raise UnsupportedError(f"{_quoted(tensors)}: the network's output; nothing is left to cut there")
    return CutPlan(head, index.cut_tensors(head), tuple(head_outputs), tail_outputs)


def single_tensor_cuts(index: GraphIndex) -> tuple[str, ...]:
    """Return every tensor that can be all that crosses a cut, in the order of the graph, inputs and outputs left out.

    In one sweep per output: at each place between two nodes the live tensors are those made before and read after;
    where there is one, it is all that this output needs of what came before. A cut is clean when that holds for
    every output behind it; outputs that are not behind it (early exits) are made by the head.
    """
    clean: dict[str, None] = {}
    blocked: set[str] = set()
    for output in index.outputs:
        nodes = list(nodes_in(index.made_from([output])))
        alone = {live[0]: None for _, live in _live_tensors(index, nodes) if len(live) == 1}
        clean.update(alone)
        blocked.update(name for node in nodes for name in index.reads[node] if name not in alone)
    found = (name for name in clean if name not in blocked and name in index.makers)
    return tuple(sorted(found, key=index.makers.__getitem__))


def multi_tensor_cuts(index: GraphIndex, maximum: int) -> tuple[tuple[str, ...], ...]:
    """Return every set of 2 to `maximum` tensors that cross between two nodes in the order of the graph, each once."""
    found: dict[tuple[str, ...], None] = {}
    for _, live in _live_tensors(index, list(nodes_in(index.needed))):
        # With several outputs, one made before this place may need both what crosses and what does not.
        is_new = 1 < len(live) <= maximum and live not in found and any(name in index.makers for name in live)
        if is_new and (len(index.outputs) == 1 or _is_clean(index, live)):
            found[live] = None
    return tuple(found)


def cut_tensors_after(
    index: GraphIndex, tensor: str, types: Mapping[str, TensorType], cuts: Sequence[str] | None = None
) -> CutTensors:
    """Return what crosses when the graph is cut right after `tensor` is made; `cuts`: its single-tensor cuts, if known.

    Of three heads the one that sends the fewest bytes: only what the tensor needs; that and the outputs that do not
    depend on the tensor; everything up to the tensor in the order of the graph. Raises CoopexportError as `plan_cut`.
    """
    plan = plan_cut(index, [tensor])
    before = ((1 << (index.makers[tensor] + 1)) - 1) & index.needed
    options = [index.cut_tensors(head) for head in (index.made_from([tensor]), plan.head, before)]
    clean = [option for option in options if _is_clean(index, option)]
    if not clean:
        raise UnsupportedError(f"nothing reads '{tensor}'", fix="cut at a tensor that the rest of the network reads")
    best = min(clean, key=lambda names: _cost(names, types))
    cuts = single_tensor_cuts(index) if cuts is None else cuts
    position = index.makers[tensor]
    return CutTensors(
        tuple((name, types[name].size_bytes if name in types else None) for name in best),
        next((name for name in reversed(cuts) if index.makers[name] < position), None),
        next((name for name in cuts if index.makers[name] > position), None),
    )


def describe_cut_tensors(cut_tensors: CutTensors, types: Mapping[str, TensorType]) -> str:
    """Return one line: which tensors cross, their bytes, and the nearest clean cuts before and after."""
    named = ", ".join(name if size is None else f"{name} ({size:,} bytes)" for name, size in cut_tensors.tensors)
    nearest = [
        f"{name} ({types[name].size_bytes:,} bytes) {side}" if name in types else f"{name} {side}"
        for name, side in ((cut_tensors.before, "before"), (cut_tensors.after, "after"))
        if name is not None
    ]
    total = "" if cut_tensors.total_bytes is None else f", {cut_tensors.total_bytes:,} bytes together"
    advice = f"the nearest clean cuts are {' and '.join(nearest)}" if nearest else "there is no clean cut near it"
    return f"{len(cut_tensors.tensors)} tensors cross there ({named}{total}); {advice}"


def _live_tensors(index: GraphIndex, nodes: Sequence[int]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield behind each of `nodes` (ascending) the tensors that are there and that a later one of them reads."""
    last_use = {name: node for node in nodes for name in index.reads[node]}
    live = dict.fromkeys(name for name in index.inputs if name in last_use)
    # Nodes that draw numbers depend on nothing: as if they were inputs.
    live.update((name, None) for node in nodes if not index.reads[node] for name in index.makes[node])
    for node in nodes:
        live.update((name, None) for name in index.makes[node] if last_use.get(name, -1) > node)
        for name in index.reads[node]:
            if last_use[name] <= node:
                live.pop(name, None)
        yield node, tuple(live)


def _is_clean(index: GraphIndex, tensors: Sequence[str]) -> bool:
    try:
        return set(plan_cut(index, tensors).cut_tensors) == set(tensors)
    except (InputError, UnsupportedError):
        return False


def _cost(names: Sequence[str], types: Mapping[str, TensorType]) -> tuple[int, int]:
    """Order sets of tensors by their bytes; one without a known size comes last."""
    unknown = sum(name not in types for name in names)
    return unknown, sum(types[name].size_bytes for name in names if name in types)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
