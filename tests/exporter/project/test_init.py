"""A project begins with a file that says what is known, and with a word on what hides our packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.project.init import InitRequest, init_project
from exporter.project.settings import load_project
from exporter.project.template import project_text
from jetson.errors import CoopexportError


def test_what_is_known_stands_in_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "project"
    result = init_project(InitRequest(folder, "my_net:build", "net.pt", "masks.safetensors", (3, 64, 48)))
    assert (result.path, result.clashes) == (folder / "coopexport.toml", ())
    model = load_project(result.path).settings.model
    assert (model.factory, model.checkpoint, model.masks) == ("my_net:build", "net.pt", "masks.safetensors")
    assert model.input_shape == (3, 64, 48)


def test_what_is_not_known_is_as_in_the_template(tmp_path: Path) -> None:
    assert init_project(InitRequest(tmp_path)).path.read_text(encoding="utf-8") == project_text({})


def test_a_file_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "coopexport.toml").write_text("mine")
    with pytest.raises(CoopexportError, match=r"coopexport\.toml exists already; edit it, or delete it first"):
        init_project(InitRequest(tmp_path, "my_net:build"))
    assert (tmp_path / "coopexport.toml").read_text() == "mine"


def test_what_hides_our_packages_is_named(tmp_path: Path) -> None:
    (tmp_path / "engines.py").write_text("")
    assert init_project(InitRequest(tmp_path)).clashes == (tmp_path / "engines",)
