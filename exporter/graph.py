"""The one export of a network: PyTorch in, an ONNX graph whose layers keep their names out.

Uses the TorchScript exporter, which is deprecated, and stands alone here for that reason: it is the only one that
writes opset 13 (which TensorRT 8.2 and ONNX Runtime 1.10 still read) and puts module paths into node names.
"""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import dataclass, replace

import onnx
import torch
from torch import nn

from exporter import parity
from exporter.candidates import Layer, candidates
from exporter.onnx_graph import normalise
from exporter.onnx_session import open_session, run
from exporter.parity import Parity
from exporter.tracing import Inputs, as_tuple, run_network
from jetson.errors import CoopexportError, one_line

OPSET = 13
INPUT_NAME = "images"
OUTPUT_NAME = "scores"
BATCH_NAME = "batch"


@dataclass(frozen=True)
class ExportedGraph:
    """An exported network: the graph, its layers, and the proof that it computes what the network computes."""

    model: onnx.ModelProto
    layers: tuple[Layer, ...]
    parity: Parity


def export(network: nn.Module, example_inputs: Inputs) -> ExportedGraph:
    """Export `network` at opset 13 with a dynamic batch dimension.

    `network`: in eval mode. `example_inputs`: at least 2 samples, N x ..., float32, as varied as real ones; a tuple
    for a network with several inputs. Further inputs and outputs are named `images_1`, `scores_1` and so on. Raises
    CoopexportError when the network does not take the inputs, cannot be exported, or the graph computes something
    else.
    """
    if any(module.training for module in network.modules()):
        raise CoopexportError("the network is in training mode; call eval() first: batch norm would change")
    inputs = as_tuple(example_inputs)
    reference = [tensor.numpy() for tensor in run_network(network, inputs)]
    model = onnx.load_from_string(_export_bytes(network, tuple(tensor[:1] for tensor in inputs), len(reference)))
    found = next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))
    if found != OPSET:
        raise CoopexportError(f"the exporter wrote opset {found} instead of {OPSET}; use torch 2.10 to 2.13")
    normalise(model)
    onnx.checker.check_model(model)
    outputs = run(open_session(model, "disabled"), [tensor.numpy() for tensor in inputs])
    error = max(
        parity.relative_error(one, other, "parity check 'export'")
        for one, other in zip(reference, outputs, strict=True)
    )
    how = "PyTorch against ONNX Runtime with optimisation disabled, float32"
    proof = parity.require(Parity("export", error, parity.EXPORT_BOUND, len(inputs[0]), how), "export")
    return ExportedGraph(model, with_sequential_aliases(candidates(model), network), proof)


def with_sequential_aliases(layers: tuple[Layer, ...], network: nn.Module) -> tuple[Layer, ...]:
    """Add the names that a layer has as a child of a Sequential: its position, and a batch norm folded into it."""
    owner = {name: index for index, layer in enumerate(layers) for name in (layer.name, *layer.aliases)}
    extra: dict[int, list[str]] = {}
    for path, module in network.named_modules():
        if not isinstance(module, nn.Sequential):
            continue
        prefix = f"{path}." if path else ""
        previous: int | None = None
        for position, (child_name, child) in enumerate(module.named_children()):
            index = owner.get(prefix + child_name)
            folded = index is None and isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
            index = previous if folded else index
            if index is not None:
                names = {f"{prefix}{child_name}", f"{prefix}{position}"} - set(owner)
                extra.setdefault(index, []).extend(sorted(names))
            previous = index
    return tuple(replace(layer, aliases=(*layer.aliases, *extra.get(index, ()))) for index, layer in enumerate(layers))


def _numbered(name: str, count: int) -> list[str]:
    return [name, *(f"{name}_{index}" for index in range(1, count))]


def _export_bytes(network: nn.Module, inputs: tuple[torch.Tensor, ...], output_count: int) -> bytes:
    input_names, output_names = _numbered(INPUT_NAME, len(inputs)), _numbered(OUTPUT_NAME, output_count)
    buffer = io.BytesIO()
    hook = network.register_forward_pre_hook(lambda module, _: _use_full_paths(module))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own deprecation, and tracer notes that the parity check answers
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            torch.onnx.export(
                network,
                inputs,
                buffer,  # type: ignore[arg-type]  # file objects are accepted with dynamo=False
                input_names=input_names,
                output_names=output_names,
                dynamic_axes={name: {0: BATCH_NAME} for name in (*input_names, *output_names)},
                opset_version=OPSET,
                dynamo=False,
            )
        except Exception as error:  # noqa: BLE001  the exporter raises many types
            raise CoopexportError(f"the network cannot be exported to ONNX: {one_line(error)[:300]}") from None
        finally:
            hook.remove()
    return buffer.getvalue()


def _use_full_paths(network: nn.Module) -> None:
    """Let the exporter that is tracing `network` write whole module paths into node names.

    By itself it writes the end of each path, which loses the modules that are not called themselves (a ModuleDict,
    the `backbone` of `self.backbone.features(x)`).
    """
    names = torch.jit._trace._trace_module_map
    for path, module in network.named_modules():
        if names is not None and path and module in names:
            names[module] = torch._C._jit_onnx_create_full_scope_name(torch.typename(type(module)), path)
