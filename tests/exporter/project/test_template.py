"""The file that `init` writes parses, names every key, and says the defaults."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.project.settings import ProjectFile, load_project
from exporter.project.template import project_text, to_toml
from jetson.runtime.preprocessing import Preprocessing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SECTIONS = ("data", "training", "split", "build", "bench", "select")
# What has no default that fits everybody.
EXAMPLES = {"data": {"calibration", "evaluation"}}


@pytest.fixture
def settings(tmp_path: Path) -> ProjectFile:
    (tmp_path / "coopexport.toml").write_text(project_text({}))
    return load_project(tmp_path / "coopexport.toml").settings


def test_text_says_the_defaults(settings: ProjectFile) -> None:
    for name in SECTIONS:
        section = getattr(settings, name)
        for key, field in type(section).model_fields.items():
            if key not in EXAMPLES.get(name, set()):
                assert getattr(section, key) == field.get_default(call_default_factory=True), f"{name}.{key}"
    assert settings.model.name == "network"
    assert settings.model.masks is settings.model.pruned_checkpoint is None


def test_every_key_is_in_the_text(settings: ProjectFile) -> None:
    sections = dict(re.findall(r"^\[(\w+)\]\n(.*?)(?=^\[\w+\]|\Z)", project_text({}), flags=re.M | re.S))
    for name in ("model", *SECTIONS):
        for key in type(getattr(settings, name)).model_fields:
            written = rf"^(# )?{key} = |^\[select\.{key}\]"
            assert re.search(written, sections[name], flags=re.M), f"{name}.{key}"
    for key in Preprocessing._fields:
        assert re.search(rf"^(# )?{key} = ", sections["preprocessing"], flags=re.M), key


def test_values_that_are_left_out_can_be_uncommented(tmp_path: Path) -> None:
    text = re.sub(r"^# (\w+ = )", r"\1", project_text({}), flags=re.M)
    (tmp_path / "coopexport.toml").write_text(text)
    project = load_project(tmp_path / "coopexport.toml")
    assert project.settings.model.masks == "masks.safetensors"
    assert project.settings.model.pruned_checkpoint == "pruned_checkpoint.safetensors"
    assert project.preprocessing.crop == (224, 224)


def test_given_values_arrive(tmp_path: Path) -> None:
    given_values = {
        "name": 'Jürgen\'s "net" \\ 😀 {x}',
        "factory": "my.net:build",
        "arguments": {"width": 8, "deep": {"a b": [1, 2.5], "c": True}, "text": "é"},
        "checkpoint": "weights/ß.pt",
        "masks": "m.safetensors",
        "input_shape": [1, 28, 28],
        "candidates": ["conv1", "conv2"],
        "targets": ["cpu"],
    }
    (tmp_path / "coopexport.toml").write_bytes(project_text(given_values).encode())
    found = load_project(tmp_path / "coopexport.toml").settings
    for key in ("name", "factory", "arguments", "checkpoint", "masks"):
        assert getattr(found.model, key) == given_values[key]
    assert found.model.input_shape == (1, 28, 28)
    assert found.split.candidates == ("conv1", "conv2")


texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x7f"))
values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4),
    max_leaves=10,
)


@given(values)
def test_toml_gives_back_what_was_written(value: object) -> None:
    assert tomllib.loads(f"value = {to_toml(value)}") == {"value": value}
