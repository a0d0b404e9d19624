"""Functions come from the project's folder, and names that hide each other are told, not guessed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.project.user_code import find_clashes, load_function
from jetson.errors import CoopexportError


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    """Forget what a test has imported."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def refusal(reference: str, folder: Path) -> str:
    with pytest.raises(CoopexportError) as caught:
        load_function(reference, folder, "model.factory")
    message = str(caught.value)
    assert "model.factory" in message
    assert reference in message
    assert "\n" not in message
    return message


def test_a_module_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "cx_net.py").write_text("def build(width):\n    return width + 1\n")
    assert load_function("cx_net:build", tmp_path, "model.factory")(2) == 3


def test_a_package_of_the_folder_with_its_own_imports(tmp_path: Path) -> None:
    package = tmp_path / "cx_package" / "inner"
    package.mkdir(parents=True)
    (tmp_path / "cx_helper.py").write_text("FACTOR = 3\n")
    (tmp_path / "cx_package" / "__init__.py").write_text("")
    (package / "net.py").write_text("from cx_helper import FACTOR\n\ndef build():\n    return FACTOR\n")
    assert load_function("cx_package.inner.net:build", tmp_path, "model.factory")() == 3


def test_installed_modules_are_found_too(tmp_path: Path) -> None:
    from exporter.models.vgg import vgg16

    assert load_function("exporter.models.vgg:vgg16", tmp_path, "model.factory") is vgg16


@pytest.mark.parametrize("reference", ["net", "net:", ":build", "", "net.build"])
def test_references_of_another_form(tmp_path: Path, reference: str) -> None:
    assert "package.module:function" in refusal(reference, tmp_path)


@pytest.mark.parametrize(
    ("code", "reference", "words"),
    [
        ("", "cx_missing:build", ["cannot be imported", "cx_missing"]),
        ("x = 1\n", "cx_bad:build", ["cx_bad has no function build"]),
        ("build = 3\n", "cx_bad:build", ["no function build"]),
        ("import cx_not_there\n", "cx_bad:build", ["cannot be imported", "cx_not_there"]),
        ("def build(:\n", "cx_bad:build", ["SyntaxError"]),
        ("raise ValueError('no data here')\n", "cx_bad:build", ["ValueError", "no data here"]),
        ("import sys\nsys.exit(3)\n", "cx_bad:build", ["SystemExit"]),
    ],
)
def test_modules_that_do_not_import(tmp_path: Path, code: str, reference: str, words: list[str]) -> None:
    (tmp_path / "cx_bad.py").write_text(code)
    message = refusal(reference, tmp_path)
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", ["exporter", "benchmarks", "jetson", "coopexport"])
@pytest.mark.parametrize("as_package", [True, False])
def test_a_name_that_ours_hides_is_named(tmp_path: Path, name: str, as_package: bool) -> None:
    path = tmp_path / name / "net.py" if as_package else tmp_path / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text("def build():\n    pass\n")
    assert find_clashes(tmp_path) == [name]
    message = refusal(f"{name}{'.net' if as_package else ''}:build", tmp_path)
    assert f'"{name}"' in message
    assert "rename" in message


def test_folders_without_code_and_our_own_hide_nothing(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "results.csv").write_text("1\n")
    assert find_clashes(tmp_path) == []
    assert find_clashes(Path(__file__).resolve().parents[3]) == []


def test_a_module_that_another_of_its_name_hides_is_refused(tmp_path: Path) -> None:
    """Python imports a name once: the second project would silently get the first one's network."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cx_twin.py").write_text(f"def build():\n    return '{name}'\n")
    assert load_function("cx_twin:build", tmp_path / "one", "model.factory")() == "one"
    assert load_function("cx_twin:build", tmp_path / "one", "model.factory")() == "one"
    message = refusal("cx_twin:build", tmp_path / "two")
    assert str(tmp_path / "one") in message
    assert str(tmp_path / "two") in message


def test_a_module_that_the_standard_library_hides_is_refused(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("def loads():\n    return 'mine'\n")
    assert "rename yours" in refusal("json:loads", tmp_path)
