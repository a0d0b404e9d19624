"""What is known of one variant: where it comes from, what is left of it, and its metric as exported."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from exporter.bundles.bundle import Metric
from exporter.bundles.records import read_record
from jetson.files.json_files import write_json

SCHEMA = "coopexport.variant/1.1"
VARIANT_FILE = "variant.json"
Step = Literal["original", "given", "step1", "control", "step2", "bottleneck"]
# Those of pruning in two steps, then bottlenecks, in the order in which they are listed.
TRAINED_STEPS = ("step1", "control", "step2", "bottleneck")


class VariantRecord(BaseModel):
    """`variant.json`, written last: with it a variant that was trained is complete.

    `cuts`: layers at which cutting it makes sense (None: all). `widths`: output channels of every layer with
    weights, in the network's order. `macs`: per sample. `made_from`: what was measured, and with what. `metric`: of
    the exported graph, symbols of a bottleneck rounded, against that of the original's; `interval`: its 95 %
    confidence interval. `right`: hexadecimal of the packed bits (first image highest) that say which images were
    right, where the metric is 0 or 1 for each.
    """

    model_config = ConfigDict(frozen=True)
    variant: str
    parent: str | None = None
    series: str | None = None
    step: Step
    method: dict[str, Any] = {}
    cuts: tuple[str, ...] | None = None
    made_from: dict[str, str] = {}
    masks_sha256: str | None = None
    widths: dict[str, int]
    macs: int
    parameters: int
    training: dict[str, Any] = {}
    metric: Metric
    interval: tuple[float, float] | None = None
    right: str | None = None
    parity: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _one_bit_for_each_image(self) -> VariantRecord:
        digits = 2 * -(-self.metric.samples // 8)
        if self.right is not None and not re.fullmatch(rf"[0-9a-f]{{{digits}}}", self.right):
            raise ValueError(f"right does not hold one bit for each of {self.metric.samples} images")
        return self

    def right_images(self) -> NDArray[np.bool_] | None:
        """Return which of the evaluation images were right, or None where the metric does not say."""
        if self.right is None:
            return None
        packed = np.frombuffer(bytes.fromhex(self.right), dtype=np.uint8)
        return np.unpackbits(packed, count=self.metric.samples).astype(np.bool_)


def pack_right(per_image: NDArray[np.float64] | None) -> str | None:
    """Return the `right` of a record for the metric of each image; None unless all are 0 or 1."""
    if per_image is None or not np.isin(per_image, (0.0, 1.0)).all():
        return None
    return np.packbits(per_image.astype(np.bool_)).tobytes().hex()


def read_variant_record(folder: Path) -> VariantRecord:
    """Read `variant.json` in a variant's folder; raises CoopexportError when it is missing or malformed."""
    return read_record(VariantRecord, folder / VARIANT_FILE, SCHEMA, "delete it and make the variant again")


def write_variant_record(folder: Path, record: VariantRecord) -> None:
    """Write `variant.json` into a variant's folder; raises OSError."""
    write_json(str(folder / VARIANT_FILE), SCHEMA, record.model_dump(mode="json", exclude_none=True))


def in_order(records: Iterable[VariantRecord]) -> list[VariantRecord]:
    """Return records series by series: step 1, its controls by number, then step 2.

    Step 2 goes layer by layer in the network's order, each from wide to narrow.
    """
    return sorted(records, key=_order)


def layer_position(record: VariantRecord) -> int:
    """Return where in the network the layer lies that a variant of step 2 was pruned at; the end for other layers.

    A layer without weights, such as a pool, is not among the record's.
    """
    wanted = record.method.get("layer")
    names = list(record.widths)
    fitting = (i for i, name in enumerate(names) if name == wanted or name.endswith(f".{wanted}"))
    return next(fitting, len(names))


def _order(record: VariantRecord) -> tuple[Any, ...]:
    step = TRAINED_STEPS.index(record.step) if record.step in TRAINED_STEPS else -1
    layer, width = str(record.method.get("layer", "")), int(record.method.get("width", 0))
    place = (layer_position(record), _natural(layer), -width) if record.step == "step2" else ()
    return record.series or "", step, place, _natural(record.variant)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that puts `control-10` behind `control-9`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
