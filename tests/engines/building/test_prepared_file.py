"""What is handed to a builder belongs together: file and golden data, in one form; and all refusals at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.building.build_items import items_of_layer
from engines.building.prepared_file import check_preparable, prepare
from engines.targets.lookup import find_target
from exporter.onnx_graphs.session import open_session, run
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError

STATIC = BuildSettings()


@pytest.mark.parametrize("target", ["cpu", "orin-nano", "nano"])
@pytest.mark.parametrize("role", ["head", "tail"])
def test_golden_data_have_the_form_of_the_file(split_project: Path, role: str, target: str) -> None:
    """A Nano's head sends words, its tail takes a symbol to an int32: what leaves one does not fit into the other."""
    (item,) = (one for one in items_of_layer(split_project / "out/pruned", "conv4_1") if one.role == role)
    prepared = prepare(item, find_target(target), STATIC._replace(batches=(1, 4, 16)))
    for declared, arrays in ((prepared.inputs, prepared.golden_inputs), (prepared.outputs, prepared.expected)):
        assert [one["dtype"] for one in declared] == [array.dtype.name for array in arrays]
        assert [one["shape"][1:] for one in declared] == [list(array.shape[1:]) for array in arrays]
    for found, expected in zip(
        run(open_session(prepared.model, "disabled"), prepared.golden_inputs), prepared.expected, strict=True
    ):
        assert np.array_equal(found, expected)


def test_all_that_preflight_refuses_is_named_at_once(split_project: Path) -> None:
    folder, turing = split_project / "out/pruned", find_target("rtx-turing")
    settings = STATIC._replace(compute_capabilities=("7.5",))
    items = [item for layer in ("conv4_1", "pool3") for item in items_of_layer(folder, layer)]
    with pytest.raises(
        CoopexportError, match=r"conv4_1.tail.onnx cannot be built .*; refused as well: pruned pool3.tail"
    ):
        check_preparable(items, turing, settings)
    check_preparable([item for item in items if item.role == "head"], turing, settings)
