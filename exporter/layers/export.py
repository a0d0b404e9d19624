"""The one export of a network: PyTorch in, an ONNX graph whose layers keep their names out.

Uses the TorchScript exporter, which is deprecated, and stands alone here for that reason: it is the only one that
writes opset 13 (which TensorRT 8.2 and ONNX Runtime 1.10 still read) and puts module paths into node names.
"""

from __future__ import annotations

import io
import logging
import re
import traceback
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from exporter import parity
from exporter.layers.candidates import Layer, candidates
from exporter.onnx_graphs.nodes import network_inputs, normalise
from exporter.onnx_graphs.session import open_session, run
from exporter.parity import Parity
from exporter.tracing.trace import Inputs, as_tuple, run_network
from jetson.errors import InputError, UnsupportedError, one_line

OPSET = 13
INPUT_NAME = "images"
OUTPUT_NAME = "scores"
BATCH_NAME = "batch"
_OUT_OF_SIGHT = (
    "takes values out of the exporter's sight (x.data, x.numpy(), x.tolist(), torch.tensor(x)); use x.detach() for "
    "x.data, and operations on tensors for the others"
)


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
        raise InputError("the network is in training mode", fix="call eval() first: batch norm would change")
    inputs = as_tuple(example_inputs)
    reference = [_as_array(tensor, index) for index, tensor in enumerate(run_network(network, inputs))]
    model = onnx.load_from_string(_export_bytes(network, tuple(tensor[:1] for tensor in inputs), len(reference)))
    _check_inputs(model, len(inputs))
    found = next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))
    if found != OPSET:
        raise UnsupportedError(f"the exporter wrote opset {found} instead of {OPSET}", fix="use torch 2.10 to 2.13")
    normalise(model)
    onnx.checker.check_model(model)
    outputs = run(open_session(model, "disabled"), [tensor.detach().numpy() for tensor in inputs])
    error = max(
        parity.relative_error(one, other, "parity check 'export'")
        for one, other in zip(reference, outputs, strict=True)
    )
    how = "PyTorch against ONNX Runtime with optimisation disabled, float32"
    proof = parity.passing_parity(Parity("export", error, parity.EXPORT_BOUND, len(inputs[0]), how), "export")
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


def _as_array(tensor: torch.Tensor, index: int) -> NDArray[Any]:
    """Return an output as an array; raises CoopexportError when it cannot be one or has no dimension for the batch."""
    if tensor.ndim == 0:
        raise InputError(
            f"output {index} of the network is one number for the whole batch",
            fix="return one for each sample, N x ...",
        )
    try:
        return tensor.numpy()
    except (TypeError, RuntimeError) as error:  # bfloat16, quantised
        raise UnsupportedError(
            f"output {index} of the network is {tensor.dtype}, which cannot be compared with the exported graph's "
            f"({one_line(error)[:120]})",
            fix="return float32",
        ) from None


def _check_inputs(model: onnx.ModelProto, count: int) -> None:
    """Raise InputError when the graph has others than the network's: one that nothing depends on is left out."""
    found = {value.name for value in network_inputs(model)}
    for name in found.difference(_numbered(INPUT_NAME, count)):
        raise InputError(
            f"the exported graph has another input, '{name}', which is an argument of forward() with a default",
            fix="leave it out of forward()",
        )
    for index, name in enumerate(_numbered(INPUT_NAME, count)):
        if name not in found:
            raise InputError(
                f"the exported graph does not depend on input {index} of the network: forward() does not use it, or "
                f"{_OUT_OF_SIGHT}"
            )


def _numbered(name: str, count: int) -> list[str]:
    return [name, *(f"{name}_{index}" for index in range(1, count))]


def _export_bytes(network: nn.Module, inputs: tuple[torch.Tensor, ...], output_count: int) -> bytes:
    input_names, output_names = _numbered(INPUT_NAME, len(inputs)), _numbered(OUTPUT_NAME, output_count)
    buffer = io.BytesIO()
    try:
        hook = network.register_forward_pre_hook(lambda module, _: _prepare(module))
    except RuntimeError as error:  # a ScriptModule
        raise UnsupportedError(
            f"the network cannot be exported to ONNX ({one_line(error)[:120]})",
            fix="let the factory return the nn.Module itself, not torch.jit's",
        ) from None
    prints = torch._C._jit_is_onnx_log_enabled()
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
            raise UnsupportedError(f"the network cannot be exported to ONNX: {_describe_failure(error)}") from None
        finally:
            hook.remove()
            torch._C._jit_set_onnx_log_enabled(prints)
    return buffer.getvalue()


def _describe_failure(error: Exception) -> str:
    """Return what the exporter says without its graph, and where in the user's code it was."""
    text = str(error)
    if "observable data dependence" in text:
        return f"an output does not depend on the inputs, or {_OUT_OF_SIGHT}"
    place = _place_in_user_code(error)
    at = f" at {place}" if place else ""
    if "not constant" in text:
        return f"a size that forward() computes{at} must be a number there; write it as one"
    what = one_line(re.split(r"\[Caused by|Please feel free|Support for this operator", text)[0])
    return f"{what[:300].rstrip('. ')}{at}; write it with other operations"


def _place_in_user_code(error: Exception) -> str:
    """Return file and line where `forward` made the exporter fail, of what it says and where it was; "" if unknown."""
    in_text = re.findall(r"# (\S+?):(\d+)|^\s*(?:\(node defined in )?(\S+)\((\d+)\): ", str(error), re.M)
    places = [(file or frame, line or number) for file, line, frame, number in in_text]
    places += [(frame.filename, str(frame.lineno)) for frame in reversed(traceback.extract_tb(error.__traceback__))]
    foreign = (str(Path(torch.__file__).parent), __file__)
    return next((f"{file}:{line}" for file, line in places if not file.startswith(foreign)), "")


def _prepare(network: nn.Module) -> None:
    """Set the exporter up while it is tracing `network`: whole paths for names, no graph on the standard output.

    It turns its log on whenever it begins, and prints the graph there before it raises an error.
    """
    torch._C._jit_set_onnx_log_enabled(False)
    _use_full_paths(network)


def _use_full_paths(network: nn.Module) -> None:
    """Let the exporter that is tracing `network` write whole module paths into node names.

    By itself it writes the end of each path, which loses the modules that are not called themselves (a ModuleDict,
    the `backbone` of `self.backbone.features(x)`).
    """
    names = torch.jit._trace._trace_module_map
    for path, module in network.named_modules():
        if names is not None and path and module in names:
            names[module] = torch._C._jit_onnx_create_full_scope_name(torch.typename(type(module)), path)
