"""Which sizes depend on the data: two runs on drawn inputs may agree on such a size, and real inputs give another.

The rules follow the operators' specifications: https://onnx.ai/onnx/operators, and ONNX Runtime's for com.microsoft.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import onnx

from exporter.onnx_graphs.index import RANDOM_OPERATORS

# How many they make depends on the values of what they read.
_COUNTING = frozenset(
    (
        "NonZero", "NonMaxSuppression", "Unique", "StringSplit", "ImageDecoder",
        "BeamSearch", "BifurcationDetector", "DynamicTimeWarping", "EPContext", "GreedySearch", "NGramRepeatBlock",
        "RemovePadding", "Sampling", "Snpe", "Tokenizer", "WhisperBeamSearch",
    )
)  # fmt: skip
# Places of the inputs whose values say how large the outputs are.
_SIZE_INPUTS: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,), "BlackmanWindow": (0,), "CenterCropPad": (1,), "Col2Im": (1, 2), "Compress": (1,),
    "ConstantOfShape": (0,), "DFT": (1, 2), "Expand": (1,), "HammingWindow": (0,), "HannWindow": (0,),
    "MaxUnpool": (2,), "MelWeightMatrix": (0, 1), "OneHot": (1,), "Pad": (1, 3), "Range": (0, 1, 2), "ReduceL1": (1,),
    "ReduceL2": (1,), "ReduceLogSum": (1,), "ReduceLogSumExp": (1,), "ReduceMax": (1,), "ReduceMean": (1,),
    "ReduceMin": (1,), "ReduceProd": (1,), "ReduceSum": (1,), "ReduceSumSquare": (1,), "Reshape": (1,),
    "Resize": (1, 2, 3), "STFT": (1, 3), "SequenceAt": (1,), "SequenceErase": (1,), "SequenceInsert": (2,),
    "Slice": (1, 2, 3, 4), "Split": (1,), "SplitToSequence": (1,), "Squeeze": (1,), "Tile": (1, 2), "TopK": (1,),
    "Unsqueeze": (1,), "Upsample": (1,),
    "ConvTransposeWithDynamicPads": (2,), "CropAndResize": (3,), "ExpandDims": (1,), "GroupQueryAttention": (5, 6),
    "RelativePositionBias": (1, 2), "RestorePadding": (1,),
}  # fmt: skip
_SIZE_QUESTIONS = frozenset(("Shape", "Size", "SequenceLength"))


@dataclass(frozen=True)
class _Origin:
    """What a tensor follows from: whether its values come from the data, and the node through which its size does."""

    is_data: bool = False
    sized_by: str | None = None


_FIXED, _DATA = _Origin(), _Origin(is_data=True)


def sizes_from_data(model: onnx.ModelProto, known: Set[str]) -> dict[str, str]:
    """Return the tensors of `model` whose size may depend on the values of its inputs, and the node that makes it so.

    `known`: tensors whose size is known to be fixed, by shape inference. A size follows from data when an operator
    counts (NonZero, NonMaxSuppression), or takes it from a tensor (Reshape, Slice, TopK, the trips of a Loop) that is
    computed from more than sizes and constants. The bodies of If, Loop and Scan, and local functions, are looked into.
    """
    fixed = {item.name for item in model.graph.initializer} | {
        item.values.name for item in model.graph.sparse_initializer
    }
    origins = {value.name: _DATA for value in model.graph.input if value.name not in fixed}
    functions = {(item.domain, item.name, item.overload): item for item in model.functions}
    found = _Walk(functions).follow(model.graph.node, origins, known)
    return {name: origin.sized_by for name, origin in found.items() if origin.sized_by is not None}


@dataclass(frozen=True)
class _Walk:
    """The rules, over the local functions of one model."""

    functions: Mapping[tuple[str, str, str], onnx.FunctionProto]

    def follow(
        self, nodes: Iterable[onnx.NodeProto], around: Mapping[str, _Origin], known: Set[str] = frozenset()
    ) -> dict[str, _Origin]:
        """Return the origins of `around` and of all that `nodes` make; a tensor that nobody knows is a constant."""
        origins = dict(around)
        for node in nodes:
            made = self._made_by(node, origins)
            for place, name in enumerate(node.output):
                if not name:  # an output that is left out
                    continue
                origin = made[place] if place < len(made) else _joined(made)
                origins[name] = _Origin(origin.is_data) if name in known else origin
        return origins

    def _made_by(self, node: onnx.NodeProto, origins: Mapping[str, _Origin]) -> Sequence[_Origin]:
        """Return the origin of each output of `node`."""
        read = [origins.get(name, _FIXED) for name in node.input]
        bodies = {item.name: item.g for item in node.attribute if item.type == onnx.AttributeProto.GRAPH}
        function = self.functions.get((node.domain, node.op_type, node.overload))
        if function is not None:
            inside = self.follow(function.node, dict(zip(function.input, read, strict=False)))
            return [inside.get(name, _FIXED) for name in function.output]
        if node.op_type == "If":
            return self._made_by_if(node, bodies.values(), read[0], origins)
        if node.op_type == "Loop":
            return self._made_by_loop(node, bodies["body"], read, origins)
        everything = _joined(read)
        if bodies:  # Scan and SequenceMap: as often as there are elements
            return self._made_by_body(next(iter(bodies.values())), everything, origins)
        if node.op_type in _SIZE_QUESTIONS:
            return [_Origin(everything.sized_by is not None)] * len(node.output)
        is_sized = node.op_type in _COUNTING or any(
            read[place].is_data for place in _SIZE_INPUTS.get(node.op_type, ()) if place < len(read)
        )
        sized_by = everything.sized_by or (_described(node) if is_sized and everything.is_data else None)
        is_data = everything.is_data or sized_by is not None or node.op_type in RANDOM_OPERATORS
        return [_Origin(is_data, sized_by)] * len(node.output)

    def _made_by_if(
        self,
        node: onnx.NodeProto,
        branches: Iterable[onnx.GraphProto],
        condition: _Origin,
        origins: Mapping[str, _Origin],
    ) -> Sequence[_Origin]:
        """Return what a branch hands on; where data choose the branch, its size is that of either."""
        ends = [self._ends(branch, {}, origins) for branch in branches]
        chosen = _Origin(True, _described(node)) if condition.is_data else _FIXED
        return [_joined([*each, chosen]) for each in zip(*ends, strict=True)]

    def _made_by_loop(
        self, node: onnx.NodeProto, body: onnx.GraphProto, read: Sequence[_Origin], origins: Mapping[str, _Origin]
    ) -> Sequence[_Origin]:
        """Return what a Loop carries and collects; where data say how often it runs, their sizes do not stay."""
        carried = list(read[2:])
        count = _joined(read[:2])
        while True:
            given = [_FIXED, count, *carried]
            ends = self._ends(body, dict(zip((value.name for value in body.input), given, strict=False)), origins)
            after = [_joined([one, other]) for one, other in zip(carried, ends[1:], strict=False)]
            again = _joined([count, ends[0]])
            if (after, again) == (carried, count):
                break
            carried, count = after, again
        chosen = _Origin(True, _described(node)) if count.is_data else _FIXED
        return [_joined([one, chosen]) for one in (*carried, *ends[1 + len(carried) :])]

    def _made_by_body(self, body: onnx.GraphProto, given: _Origin, origins: Mapping[str, _Origin]) -> Sequence[_Origin]:
        while True:
            ends = self._ends(body, {value.name: given for value in body.input}, origins)
            if (after := _joined([given, *ends])) == given:
                return [given] * len(ends)
            given = after

    def _ends(
        self, body: onnx.GraphProto, given: Mapping[str, _Origin], origins: Mapping[str, _Origin]
    ) -> list[_Origin]:
        """Return the origins of the outputs of `body`, which may read what is around it."""
        inside = self.follow(body.node, {**origins, **given})
        return [inside.get(value.name, _FIXED) for value in body.output]


def _joined(origins: Iterable[_Origin]) -> _Origin:
    """Return what follows from all of `origins`."""
    known = list(origins)
    sized_by = next((item.sized_by for item in known if item.sized_by is not None), None)
    return _Origin(any(item.is_data for item in known), sized_by)


def _described(node: onnx.NodeProto) -> str:
    return f"{node.op_type} '{node.name or next(filter(None, node.output), '')}'"
