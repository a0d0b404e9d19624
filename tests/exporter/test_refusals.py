"""What this room refuses says by its class what kind of problem it is, and by its fields where, and how to mend it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.masks.masks import Masks, read_masks
from exporter.parity import Parity, passing_parity, relative_error
from exporter.project.settings import load_project
from exporter.variants.choice import naming
from jetson.errors import DamagedFileError, InputError, ParityError


def test_mask_files_that_are_missing_and_damaged_are_two_kinds(tmp_path: Path) -> None:
    path = tmp_path / "masks.safetensors"
    with pytest.raises(InputError) as missing:
        read_masks(path)
    assert (missing.value.path, missing.value.fix) == (str(path), "check model.masks")
    path.write_bytes(b"no masks")
    with pytest.raises(DamagedFileError) as damaged:
        read_masks(path)
    assert damaged.value.path == str(path)


def test_a_refused_mask_names_its_layer() -> None:
    with pytest.raises(InputError) as error:
        Masks({"conv": np.ones((2, 2), np.bool_)}, "channel", "by hand")
    assert error.value.layer == "conv"


def test_a_failed_check_says_by_how_much() -> None:
    with pytest.raises(ParityError) as failed:
        passing_parity(Parity("export", 0.25, 1e-4, 8, "float32"), "layer conv")
    assert failed.value.number == 0.25
    with pytest.raises(ParityError) as constant:
        relative_error(np.ones((4, 2)), np.ones((4, 2)), "here")
    assert constant.value.number == 0.0
    assert constant.value.fix == "give more varied example inputs, or check that the network is trained"


def test_a_name_put_before_an_error_leaves_the_rest_of_it(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error, naming("pruned"):
        load_project(tmp_path / "coopexport.toml")
    assert str(error.value).startswith("variant pruned: there is no project file ")
    assert error.value.path == str(tmp_path / "coopexport.toml")
    assert error.value.fix == "write one with: coopexport init"


def test_what_is_wrong_within_the_project_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "coopexport.toml"
    file.write_text('schema = "coopexport.project/1.0"\n')
    with pytest.raises(InputError) as error:
        load_project(file)
    assert error.value.path == str(file)
