"""Networks as recorded programs, and what they compute under their masks.

Nothing of exporter computes here: the program is interpreted step by step, in float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from exporter.masks.masks import Masks


class Step(NamedTuple):
    """One operation: a module by its path, or a function, on earlier values (and on a free parameter)."""

    kind: str  # convolution, linear, norm, activation, identity, pool, other; norm is batch norm only
    inputs: tuple[int, ...]
    module: str = ""
    function: Callable[..., Any] | None = None
    parameter: str = ""


class Program:
    """Steps in order, over values of which the first are the inputs; `outputs` are the values that leave."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.steps: list[Step] = []
        self.outputs: list[int] = []
        self.form = "tensor"

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        return self

    def layers(self) -> list[str]:
        """Return the convolutions and linears, each once."""
        return list(dict.fromkeys(step.module for step in self.steps if step.kind in ("convolution", "linear")))

    def output_layers(self) -> set[str]:
        """Return the layers whose channels can be seen in the outputs without another layer between."""
        found: set[str] = set()
        todo = list(self.outputs)
        while todo:
            value = todo.pop()
            if value < self.inputs:
                continue
            step = self.steps[value - self.inputs]
            if step.kind in ("convolution", "linear"):
                found.add(step.module)
            else:
                todo += step.inputs
        return found

    def layer_ends(self) -> dict[int, str]:
        """Return the values that masks of meaning `channel` multiply, each with its layer."""
        readers: dict[int, list[int]] = {}
        for index, step in enumerate(self.steps):
            for value in step.inputs:
                readers.setdefault(value, []).append(index + self.inputs)
        ends = {}
        for index, step in enumerate(self.steps):
            if step.kind not in ("convolution", "linear"):
                continue
            start = end = value = index + self.inputs
            while len(readers.get(value, ())) == 1 and value not in self.outputs:
                value = readers[value][0]
                kind = self.steps[value - self.inputs].kind
                if kind in ("norm", "activation"):
                    end = value
                elif kind != "identity" and (kind != "pool" or end != start):
                    break
            ends[end] = step.module
        return ends


class Recorded(nn.Module):
    """A network that runs its program."""

    def __init__(self, program: Program, input_shapes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.program = program
        self.input_shapes = input_shapes

    def run(self, inputs: Sequence[Any], after: Callable[[int, Any], Any] | None = None) -> list[Any]:
        """Return the values of the outputs; `after` may change every value as soon as it is made."""
        values = list(inputs)
        for step in self.program.steps:
            made = self.run_step(step, values)
            values.append(made if after is None else after(len(values), made))
        return [values[index] for index in self.program.outputs]

    def run_step(self, step: Step, values: Sequence[Any]) -> Any:
        """Return what one step makes of its inputs."""
        given = [values[index] for index in step.inputs]
        if step.module:
            return self.get_submodule(step.module)(*given)
        if step.parameter:
            given.append(getattr(self, step.parameter))
        assert step.function is not None
        return step.function(*given)

    def in_form(self, outputs: list[Any]) -> Any:
        """Return the outputs as the network returns them."""
        form = self.program.form
        if form == "tensor":
            return outputs[0]
        if form == "dict":
            return {f"exit{index}": output for index, output in enumerate(outputs)}
        return outputs if form == "list" else tuple(outputs)


class OneInput(Recorded):
    def forward(self, x: torch.Tensor) -> Any:
        return self.in_form(self.run([x]))


class TwoInputs(Recorded):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        return self.in_form(self.run([x, y]))


def masked_outputs(
    network: Recorded, masks: Masks, inputs: Sequence[torch.Tensor], dtype: torch.dtype = torch.float64
) -> list[np.ndarray]:
    """Return what the network computes under its masks."""
    masked = copy.deepcopy(network).to(dtype).eval()
    if masks.meaning == "weight":
        zero_rows(masked, masks)
    with torch.no_grad():
        outputs = masked.run([item.to(dtype) for item in inputs], masking(masked, masks))
    return [output.numpy() for output in outputs]


def zero_rows(network: nn.Module, masks: Masks) -> None:
    """Set the weights and biases of the masked channels to zero, in place."""
    with torch.no_grad():
        for name, keep in masks.keep.items():
            module, kept = network.get_submodule(name), torch.from_numpy(keep)
            if isinstance(module, nn.ConvTranspose2d):  # in x out/groups: a row of each group's own
                for weight, mask in zip(module.weight.chunk(module.groups), kept.chunk(module.groups), strict=True):
                    weight[:, ~mask] = 0
            else:
                module.weight[~kept] = 0
            if module.bias is not None:
                module.bias[~kept] = 0


def masking(network: Recorded, masks: Masks) -> Callable[[int, Any], Any] | None:
    """Return what multiplies the end of each layer by its mask, or nothing where weights are masked."""
    if masks.meaning == "weight":
        return None
    ends = {value: name for value, name in network.program.layer_ends().items() if name in masks.keep}

    def after(index: int, value: Any) -> Any:
        if index not in ends:
            return value
        keep = torch.from_numpy(masks.keep[ends[index]]).to(value.dtype)
        linear = isinstance(network.get_submodule(ends[index]), nn.Linear)
        return value * (keep if linear else keep.reshape(1, -1, 1, 1))

    return after
