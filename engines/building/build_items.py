"""What there is to build: heads, tails and whole networks, as bundles and their precision files name them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from engines.backends.registry import find_backend
from engines.targets.target import Target
from exporter.bundles.bundle import CutTensorRecord, FileRecord, read_split, read_whole
from exporter.bundles.precision_file import PrecisionFile, Rounding, check_precision, read_precision
from exporter.parity import BUILD_BOUND
from jetson.engines.build_settings import BuildSettings
from jetson.engines.golden_check import SYMBOL_FRACTION_BOUND, OutputForm
from jetson.runtime.preprocessing import Preprocessing

WHOLE = "whole"
FLOAT32 = "fp32"
_FLOAT32_BOUNDS = Rounding(output_error=BUILD_BOUND, symbol_fraction=SYMBOL_FRACTION_BOUND, symbol_difference=1)


@dataclass(frozen=True)
class BuildItem:
    """One graph to build: a role of a layer (or of the whole network) in a variant's folder, in one precision.

    `tensors`: those that cross the cut. `golden`: of this precision. `bounds`: what an engine may differ from it by.
    """

    folder: Path
    variant: str
    layer: str
    role: str
    graph: FileRecord
    golden: FileRecord
    preprocessing: Preprocessing
    tensors: tuple[CutTensorRecord, ...] = ()
    precision: str = FLOAT32
    bounds: Rounding = _FLOAT32_BOUNDS

    @property
    def stem(self) -> str:
        """Return what the files of this item are called: "conv4_1.head", "whole.fp16"."""
        name = self.layer if self.role == WHOLE else f"{self.layer}.{self.role}"
        return name if self.precision == FLOAT32 else f"{name}.{self.precision}"

    def engine_path(self, target: Target, batches: tuple[int, int, int] = (1, 1, 1)) -> Path:
        """Return where the engine for `target` and `batches` (min, opt, max) goes."""
        min_batch, _, max_batch = batches
        sizes = "-".join(map(str, batches)) if min_batch != max_batch else str(max_batch)
        name = self.stem if batches == (1, 1, 1) else f"{self.stem}.batch{sizes}"
        return self.folder / "engines" / target.name / (name + find_backend(target.backend).file_suffix)

    def settings_of(self, settings: BuildSettings) -> BuildSettings:
        """Return `settings` for the precision that is in this graph."""
        return settings._replace(precision=self.precision)

    def output_forms(self, tensors: tuple[CutTensorRecord, ...], outputs: int) -> tuple[OutputForm, ...]:
        """Return what each of the engine's `outputs` holds: of a head first `tensors`, in their target's form."""
        head_outputs = [self._form_of(tensor) for tensor in tensors] if self.role == "head" else []
        return (*head_outputs, *([OutputForm("numbers", self.bounds.output_error)] * (outputs - len(head_outputs))))

    def _form_of(self, tensor: CutTensorRecord) -> OutputForm:
        encoding = tensor.encoding
        if encoding.kind != "affine":
            return OutputForm("numbers", self.bounds.output_error)
        bounds, count = self.bounds, prod(tensor.shape)
        return OutputForm(
            "symbols", bounds.symbol_fraction, encoding.bits, encoding.packing, count, bounds.symbol_difference
        )


def items_of_layer(folder: Path, layer: str, precision: str = FLOAT32) -> list[BuildItem]:
    """Return head and tail of a split bundle in a precision; raises CoopexportError when it is missing or stale."""
    bundle = read_split(folder, layer)
    items = [
        BuildItem(
            folder, bundle.variant, layer, role, record, bundle.golden, bundle.declared_preprocessing(), bundle.tensors
        )
        for role, record in (("head", bundle.head), ("tail", bundle.tail))
    ]
    if precision == FLOAT32:
        return items
    record = read_precision(folder, layer, precision)
    check_precision(record, bundle)
    return [_in_precision(item, record) for item in items]


def item_of_whole(folder: Path, precision: str = FLOAT32) -> BuildItem:
    """Return the whole network of a variant in a precision, for the device alone or the edge alone."""
    whole = read_whole(folder)
    item = BuildItem(folder, whole.variant, WHOLE, WHOLE, whole.model, whole.golden, whole.declared_preprocessing())
    if precision == FLOAT32:
        return item
    record = read_precision(folder, WHOLE, precision)
    check_precision(record, whole)
    return _in_precision(item, record)


def _in_precision(item: BuildItem, record: PrecisionFile) -> BuildItem:
    """Return the item with graph, golden data and bounds of `record`."""
    role = record.roles[item.role]
    return BuildItem(
        item.folder,
        item.variant,
        item.layer,
        item.role,
        role.file,
        record.golden,
        item.preprocessing,
        item.tensors,
        record.precision,
        role.bounds,
    )
