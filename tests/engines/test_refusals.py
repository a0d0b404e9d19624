"""What this room refuses says by its class what kind of problem it is, and by its fields where, and how to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_graphs import small_network

from engines.target_files.target_file import target_file
from engines.targets.lookup import find_target
from jetson.engines.verification import read_engine
from jetson.errors import InputError, StaleError, UnsupportedError


def test_a_name_that_does_not_exist_is_the_users() -> None:
    with pytest.raises(InputError) as error:
        find_target("orin-nanu")
    assert error.value.fix == "did you mean orin-nano? list them with: coopexport targets"
    assert str(error.value) == f'target "orin-nanu" is unknown; {error.value.fix}'


def test_an_engine_that_is_not_there_was_not_made_yet(tmp_path: Path) -> None:
    path = tmp_path / "head.engine"
    with pytest.raises(StaleError) as error:
        read_engine(str(path))
    assert (error.value.path, error.value.fix) == (str(path), "make it with: coopexport build")


def test_a_graph_that_the_target_does_not_read_is_unsupported() -> None:
    model = small_network()
    model.opset_import[0].version = 17
    with pytest.raises(UnsupportedError) as error:
        target_file(model, find_target("nano"), (1, 1, 1), "net")
    assert error.value.fix == "export it at opset 13, which every target reads"
    model.opset_import[0].version = 13
    with pytest.raises(InputError, match="not at least 1 and in the order"):
        target_file(model, find_target("nano"), (2, 1, 1), "net")
