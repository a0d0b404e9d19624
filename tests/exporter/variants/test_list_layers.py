"""The layers of a project's variants: exported where that is needed, told one by one, the same ones left out."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from pruning_variants import write_step2

from calibration.variants.register import open_evaluation
from exporter.cutting.layer_table import LayerTable
from exporter.project.settings import load_project
from exporter.shrinking.plan import read_shrink_plan
from exporter.variants.list_layers import LayersRequest, list_layers
from jetson.errors import CoopexportError


def test_each_variant_has_its_own_widths(finished_project: Path) -> None:
    project = load_project(finished_project / "coopexport.toml")
    told: list[LayerTable] = []
    result = list_layers(project, LayersRequest(maximum_tensors=2), told.append)
    assert [table.name for table in result.tables] == ["original", "pruned"]
    assert told == list(result.tables)
    assert result.left_out == ()
    plan = read_shrink_plan(project.variant_folder("pruned"))
    for table, width in zip(result.tables, (12, len(plan.layers["features.conv4_1"].kept_outputs)), strict=True):
        row = next(row for row in table.cuts if row.layer is not None and row.layer.name == "features.conv4_1")
        assert table.short_names[row.tensors[0]] == "conv4_1"
        graph = onnx.shape_inference.infer_shapes(onnx.load(str(project.variant_folder(table.name) / "model.onnx")))
        value = next(item for item in graph.graph.value_info if item.name == row.tensors[0])
        assert row.shapes == (tuple(size.dim_value for size in value.type.tensor_type.shape.dim[1:]),)
        assert row.shapes[0][0] == width
        assert 0 < row.macs_before < table.macs


def test_what_is_exported_is_told_before_the_next_one_fails(finished_project: Path) -> None:
    project = load_project(finished_project / "coopexport.toml")
    (project.variant_folder("pruned") / "shrink.json").write_text("{}")
    told: list[LayerTable] = []
    with pytest.raises(CoopexportError, match=r"pruned/shrink\.json"):
        list_layers(project, LayersRequest(), told.append)
    assert [table.name for table in told] == ["original"]
    with pytest.raises(CoopexportError, match='there is no variant "none"'):
        list_layers(project, LayersRequest(("none",)))


def test_variants_with_the_layers_of_step_1_are_left_out_unless_they_are_named(finished_project: Path) -> None:
    project = load_project(finished_project / "coopexport.toml")
    write_step2(project, open_evaluation(project), "conv4_1", 3, 1000)
    result = list_layers(project, LayersRequest())
    assert [table.name for table in result.tables] == ["original", "pruned"]
    assert result.left_out == ("conv4_1-3",)
    named = list_layers(project, LayersRequest(("conv4_1-*",)))
    assert [table.name for table in named.tables] == ["conv4_1-3"]
    assert named.left_out == ()
