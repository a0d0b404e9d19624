"""What variants prints of each: cells under their columns."""

from __future__ import annotations

import re

import pytest
from example_variants import example_rows

from benchmarks.report.variants_table import Feature, VariantRow
from coopexport.commands.variants import COLUMNS, cells


def test_cells_stand_under_their_columns() -> None:
    rows = example_rows(("conv4_1",))
    found = dict(zip(COLUMNS, cells(rows[-1], 20_000_000), strict=True))
    assert (found["variant"], found["parent"], found["step"]) == ("conv4_1-1", "step1", "step2")
    assert (found["cut"], found["width"], found["images"]) == ("conv4_1", "1", "7,000")
    assert (found["symbol bytes"], found["wire bytes"]) == ("32", "25")
    assert float(found["less"].removesuffix("x")) == pytest.approx(20_000_000 / rows[-1].record.macs, abs=0.005)
    assert re.fullmatch(r"\d\d\.\d\d–\d\d\.\d\d", found["95 %"])
    step1 = dict(zip(COLUMNS, cells(rows[1], 20_000_000), strict=True))
    assert (step1["cut"], step1["symbol bytes"], step1["wire bytes"], step1["width"]) == ("", "", "", "")


def test_layers_where_the_same_channels_cross_share_a_row() -> None:
    row = example_rows(("conv4_1",))[-1]
    (feature,) = row.features
    pooled = Feature("pool4", feature.symbol_bytes // 4, 12 + 0.1 * feature.symbol_bytes)
    both = VariantRow(row.record.model_copy(update={"cuts": ("conv4_1", "pool4")}), (feature, pooled), True)
    found = dict(zip(COLUMNS, cells(both, 20_000_000), strict=True))
    assert (found["cut"], found["symbol bytes"], found["wire bytes"]) == ("conv4_1, pool4", "32, 8", "25, 15")
    assert found["variant"] == "conv4_1-1 (outdated)"
