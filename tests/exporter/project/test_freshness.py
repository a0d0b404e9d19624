"""What a file records of its inputs is compared by name; a digest changes with what it stands for and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.project.code_files import code_files
from exporter.project.freshness import changed_inputs, check_fresh, digest, recorded
from exporter.project.inputs import code_digest, data_digest, file_digest, project_inputs
from exporter.project.settings import Project, load_project
from jetson.errors import StaleError

PROJECT = """schema = "coopexport.project/1.0"
[model]
factory = "nets.small:build"
checkpoint = "net.pt"
input_shape = [3, 8, 8]
"""
names = st.text(min_size=1, max_size=4)
inputs = st.dictionaries(names, st.none() | st.text(max_size=3))


def project_in(folder: Path, more: str = "") -> Project:
    (folder / "coopexport.toml").write_text(PROJECT + more)
    return load_project(folder / "coopexport.toml")


def write_code(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@given(inputs)
def test_what_was_just_recorded_is_fresh(now: dict[str, str | None]) -> None:
    assert changed_inputs(recorded(now), now) == ()
    check_fresh("it was made", recorded(now), now, "again")


@given(inputs, inputs)
def test_exactly_the_known_inputs_that_differ_are_named(
    made: dict[str, str | None], now: dict[str, str | None]
) -> None:
    changed = changed_inputs(recorded(made), now)
    assert set(changed) == {name for name in now if now[name] is not None and now[name] != made.get(name)}
    assert list(changed) == [name for name in now if name in changed]


def test_a_stale_file_is_refused_in_one_line_with_all_that_changed() -> None:
    made = {"checkpoint": "1", "metric": "2", "masks": "3"}
    with pytest.raises(StaleError, match=r"^variant a was split before metric changed; run: coopexport split$"):
        check_fresh("variant a was split", made, {**made, "metric": "4"}, "coopexport split")
    with pytest.raises(StaleError, match=r"before checkpoint, metric and masks changed; run: x$"):
        check_fresh("a was split", made, dict.fromkeys(made, "5"), "x")
    with pytest.raises(StaleError, match=r"^a was split by an earlier version, .*; run: x$"):
        check_fresh("a was split", {}, made, "x")


def test_the_code_of_a_function_is_all_that_it_imports_of_the_project(tmp_path: Path) -> None:
    write_code(
        tmp_path,
        {
            "nets/__init__.py": "from . import registry\n",
            "nets/registry.py": "import json\nimport torch.nn as nn\n",
            "nets/small.py": "def build():\n    from .blocks.plain import Block\n    from . import heads as h\n",
            "nets/blocks/__init__.py": "from ..shared import *\n",
            "nets/blocks/plain.py": "import layers.norm\n",
            "nets/shared.py": "broken (\n",
            "nets/heads.py": "from .. import beyond\n",
            "layers/norm.py": "from layers import missing\nimport nets.small\n",
            "nets/unused.py": "",
            "unused.py": "",
        },
    )
    expected = "layers.norm nets nets.blocks nets.blocks.plain nets.heads nets.registry nets.shared nets.small"
    assert " ".join(code_files("nets.small:build", tmp_path)) == expected
    before = code_digest("nets.small:build", tmp_path)
    for name in ("nets/unused.py", "unused.py"):
        (tmp_path / name).write_text("changed = 1\n")
    assert code_digest("nets.small:build", tmp_path) == before
    seen = {before, code_digest("nets.small:other", tmp_path)}
    for number, file in enumerate(code_files("nets.small:build", tmp_path).values(), start=3):
        file.write_text(file.read_text() + "# more\n")
        seen.add(code_digest("nets.small:build", tmp_path))
        assert len(seen) == number
    (tmp_path / "layers/missing.py").write_text("")
    assert "layers.missing" in code_files("nets.small:build", tmp_path)
    assert code_files("nowhere.at.all:build", tmp_path) == {}
    assert code_digest("nowhere.at.all:build", tmp_path) is None


def test_of_an_installed_package_its_own_files_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_code(tmp_path / "site", {"cx_pack/__init__.py": "import cx_other\n", "cx_pack/a.py": "from . import b\n"})
    write_code(tmp_path / "site", {"cx_pack/b.py": "", "cx_other/__init__.py": ""})
    (tmp_path / "project").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert list(code_files("cx_pack.a:build", tmp_path / "project")) == ["cx_pack", "cx_pack.a", "cx_pack.b"]


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    for size in (10, 1 << 20):
        path = tmp_path / f"{size}"
        path.write_bytes(b"a" * size)
        before = file_digest(path)
        os.utime(path, (1, 1))
        assert file_digest(path) == before is not None
        path.write_bytes(b"b" * size)
        os.utime(path, (2, 2))
        assert file_digest(path) != before
    assert file_digest(tmp_path / "none") is None


def test_a_folder_is_known_by_names_sizes_and_times_or_by_content(tmp_path: Path) -> None:
    data = '[data]\ntraining = "images"\n'
    by_times, by_content = (project_in(tmp_path, data + more) for more in ("", 'compare_folders = "content"\n'))
    image = tmp_path / "images" / "cat" / "0.png"
    write_code(tmp_path, {"images/cat/0.png": "first"})
    os.utime(image, (1, 1))

    def found() -> tuple[str | None, str | None]:
        return data_digest(by_times, "training"), data_digest(by_content, "training")

    first = found()
    assert found() == first
    os.utime(image, (2, 2))
    touched = found()
    assert (touched[0] != first[0], touched[1] == first[1]) == (True, True)
    image.write_text("other")
    os.utime(image, (2, 2))
    assert (found()[0] == touched[0], found()[1] != first[1]) == (True, True)
    seen = [found()]
    image.rename(image.with_name("00.png"))
    seen.append(found())
    (tmp_path / "images" / "eel").mkdir()
    seen.append(found())
    (tmp_path / "images" / ".hidden").write_text("")
    assert found() == seen[-1]
    assert all(len(set(digests)) == 3 for digests in zip(*seen, strict=True))


def test_data_are_known_by_what_is_taken_of_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", images=np.zeros((4, 8, 8, 3), np.uint8), labels=np.zeros(4))
    write_code(tmp_path, {"sets.py": "import drawn\n", "drawn.py": ""})
    file, function = ('[data]\ncalibration = "data.npz"\n', '[data]\ncalibration = "sets:images"\n')
    seen = [data_digest(project_in(tmp_path, text), "calibration") for text in (file, function)]
    seen += [
        data_digest(project_in(tmp_path, f"{text}calibration_samples = 8\n"), "calibration")
        for text in (file, function)
    ]
    (tmp_path / "drawn.py").write_text("seed = 1\n")
    seen.append(data_digest(project_in(tmp_path, function), "calibration"))
    assert None not in seen and len(set(seen)) == 5
    assert data_digest(project_in(tmp_path, '[data]\nevaluation = "gone.npz"\n'), "evaluation") is None
    assert data_digest(project_in(tmp_path), "evaluation") is None


def test_what_is_not_here_is_not_known(tmp_path: Path) -> None:
    unknown = ("checkpoint", "network code", "training data", "evaluation data")
    now = project_inputs(project_in(tmp_path), *unknown, "model settings", "metric", "loss")
    assert {name for name, value in now.items() if value is None} == set(unknown)


@given(st.dictionaries(names, st.integers() | st.lists(names)))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))
    assert digest([value]) != digest(value)
