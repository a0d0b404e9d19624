"""The file that a target's builder takes, and what the engine must give for the golden inputs: all before any build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from engines.building.build_items import WHOLE, BuildItem
from engines.preflight.check import buildable_graph_warnings
from engines.target_files.encode_form import EncodedPart, encode_form
from engines.target_files.simplify import simplify
from engines.target_files.target_file import describe_values, target_file
from engines.targets.capabilities import check_supported
from engines.targets.target import Target
from exporter.bundles.bundle import read_golden, verify_file, verify_weights
from exporter.bundles.golden import golden_exits, golden_head_outputs, golden_outputs, golden_tail_inputs
from jetson.engines.build_settings import BuildSettings
from jetson.engines.golden_check import OutputForm
from jetson.errors import CoopexportError, DamagedFileError, reworded
from jetson.files.atomic_files import sha256_of_bytes
from jetson.runtime import preprocessing

Arrays = list[NDArray[Any]]


@dataclass(frozen=True)
class PreparedFile:
    """One item's file for one target.

    `data`: the self-contained ONNX file; `inputs`, `outputs`: what it declares. `golden_inputs`, `expected`: samples x
    ... each, as this file takes and gives them; `forms`: what each output holds. `notes`: what was done to the graph.
    """

    item: BuildItem
    target: Target
    settings: BuildSettings
    model: onnx.ModelProto
    data: bytes
    golden_inputs: Arrays
    expected: Arrays
    forms: tuple[OutputForm, ...]
    notes: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Return the file's hash: the identity's target file."""
        return sha256_of_bytes(self.data)

    @property
    def inputs(self) -> list[dict[str, Any]]:
        """Return name, dtype and shape of the inputs."""
        return describe_values(self.model.graph.input)

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """Return name, dtype and shape of the outputs."""
        return describe_values(self.model.graph.output)


def prepare(item: BuildItem, target: Target, settings: BuildSettings) -> PreparedFile:
    """Return the file that the builder of `target` takes for `item`.

    Raises CoopexportError when that is not supported, the bundle is damaged or altered, or preflight finds what the
    builder would not take.
    """
    settings = item.settings_of(settings)
    check_supported(target, settings)
    golden = read_golden(item.folder, item.golden)
    _check_preprocessing(item, golden)
    path = verify_file(item.folder, item.graph)
    verify_weights(item.folder, path)
    # An absolute path: with a relative one some versions of onnx look for weights in the working directory.
    part = _subgraph(onnx.load(str(path.resolve())), item, target)
    golden = part.golden(golden)
    inputs = golden_tail_inputs(golden) if item.role == "tail" else [golden["inputs"]]
    outputs = [*golden_head_outputs(golden), *golden_exits(golden)] if item.role == "head" else golden_outputs(golden)
    model = target_file(part.model, target, settings.batches, str(path))
    simplified = simplify(model, target, settings.batches, inputs, part.tensors if item.role == "head" else ())
    model, notes = simplified.model, dict(simplified.flags)
    warnings = buildable_graph_warnings(model, target, settings, str(path))
    if warnings:
        notes["preflight"] = [str(problem) for problem in warnings]
    return PreparedFile(
        item,
        target,
        settings,
        model,
        model.SerializeToString(deterministic=True),
        inputs,
        outputs,
        item.output_forms(part.tensors, len(outputs)),
        notes,
    )


def check_preparable(items: Sequence[BuildItem], target: Target, settings: BuildSettings) -> None:
    """Refuse what `prepare` would refuse of any of `items`, before the first is built; simplification is left out.

    Raises the first error, with its reason in full, and which others there are.
    """
    plain = replace(target, simplify=False)
    refused: list[tuple[str, CoopexportError]] = []
    for item in items:
        try:
            prepare(item, plain, settings)
        except CoopexportError as error:
            refused.append((f"{item.variant} {item.stem}", error))
    if refused:
        others = ", ".join(name for name, _ in refused[1:])
        first = refused[0][1]
        raise reworded(first, f"{first}{f'; refused as well: {others}' if others else ''}")


def _subgraph(model: onnx.ModelProto, item: BuildItem, target: Target) -> EncodedPart:
    if item.role == WHOLE:
        return EncodedPart(model, (), ())
    return encode_form(model, cast(Any, item.role), item.tensors, target)


def _check_preprocessing(item: BuildItem, golden: dict[str, NDArray[Any]]) -> None:
    """Refuse a bundle whose preprocessing, applied here to the golden images, does not give the golden inputs.

    Nothing else would notice: an engine agrees with golden inputs whatever the images are turned into.
    """
    inputs = preprocessing.apply(item.preprocessing, golden["images"]).astype(np.float32)
    if not np.array_equal(inputs, golden["inputs"]):
        raise DamagedFileError(
            f"{item.variant} {item.layer}: the preprocessing in its manifest does not turn the golden images into the "
            "golden inputs: the manifest was altered, or another version wrote it",
            layer=item.layer,
            fix="run: coopexport split",
        )
