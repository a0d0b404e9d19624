"""Foreign packages with our names: where they lie, whether they hide ours or are hidden, and how to mend it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

import pytest

from engines.host import name_clashes as module
from engines.host.name_clashes import OUR_FOLDER, name_clashes
from exporter.project.user_code import OUR_NAMES

APART = "install coopexport in an environment of its own"


def package(folder: Path, name: str, file: str = "__init__.py") -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / file).write_text("raise SystemExit('imported')")
    return folder / name


def distribution(folder: Path, name: str, record: str | None, top_level: str | None = None) -> None:
    """Install what is called `name` into `folder` as far as its metadata are concerned."""
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    for file, text in (("RECORD", record), ("top_level.txt", top_level)):
        if text is not None:
            (info / file).write_text(text)


def said(folder: Path, paths: Sequence[Path | str]) -> list[str]:
    return [clash.detail for clash in name_clashes(folder, [str(path) for path in paths])]


@pytest.mark.parametrize("name", OUR_NAMES)
def test_what_comes_before_ours_hides_them_and_what_comes_after_is_hidden(tmp_path: Path, name: str) -> None:
    place = package(tmp_path / "a", name)
    (clash,) = name_clashes(tmp_path, [str(tmp_path / "a"), str(OUR_FOLDER)])
    assert (clash.name, clash.detail) == (name, f"{place} hides coopexport's own '{name}'; rename it, or {APART}")
    (clash,) = name_clashes(tmp_path, [str(OUR_FOLDER), str(tmp_path / "a")])
    assert clash.name == name
    assert clash.detail == (
        f"coopexport's own '{name}' hides {place}: who imports it gets coopexport's; rename it, or {APART}"
    )


def test_python_agrees_about_who_hides_whom(tmp_path: Path) -> None:
    """Modules and packages; a folder without `__init__.py` comes after ours wherever it lies."""
    package(tmp_path / "a", "engines")
    package(tmp_path / "a", "exporter", "more.py")
    (tmp_path / "a" / "jetson.py").write_text("")
    for paths in ([str(tmp_path / "a"), str(OUR_FOLDER)], [str(OUR_FOLDER), str(tmp_path / "a")]):
        found = {clash.name: " hides coopexport's own" in clash.detail for clash in name_clashes(tmp_path, paths)}
        assert found.keys() == {"engines", "jetson"}
        for name in OUR_NAMES:
            spec = PathFinder.find_spec(name, paths)
            assert spec is not None
            assert (OUR_FOLDER not in Path(str(spec.origin)).parents) == found.get(name, False)


def test_a_folder_of_pythonpath_can_be_taken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path / "a", "benchmarks")
    monkeypatch.setenv("PYTHONPATH", f"/elsewhere:{tmp_path}/a")
    (detail,) = said(tmp_path, [tmp_path / "a", OUR_FOLDER])
    assert detail.endswith(f"'benchmarks'; rename it, or take {tmp_path}/a off PYTHONPATH")


def test_the_working_directory_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = package(tmp_path, "benchmarks")
    monkeypatch.chdir(tmp_path)
    for paths in ([OUR_FOLDER], ["", OUR_FOLDER], [tmp_path, OUR_FOLDER, tmp_path]):
        assert said(tmp_path, paths) == [f"{place} has the name of a package of coopexport; rename it"]


def test_each_place_is_a_line_of_its_own(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        package(tmp_path / folder, "engines")
    assert len(said(tmp_path, [tmp_path / "a", OUR_FOLDER, tmp_path / "b", tmp_path / "a"])) == 2


def test_results_and_our_own_are_no_clash(tmp_path: Path) -> None:
    (tmp_path / "a" / "benchmarks").mkdir(parents=True)
    (tmp_path / "a" / "benchmarks" / "results.csv").write_text("1")
    (tmp_path / "a" / "engine").mkdir()
    assert said(tmp_path, [tmp_path / "a", OUR_FOLDER, tmp_path / "missing"]) == []
    assert said(OUR_FOLDER, ["", *sys.path]) == []


def test_another_coopexport_is_one_line(tmp_path: Path) -> None:
    for name in OUR_NAMES:
        package(tmp_path / "other", name)
    for paths, words in (
        ([tmp_path / "other", OUR_FOLDER], "is used in place of"),
        ([OUR_FOLDER, tmp_path / "other"], "is not used beside"),
    ):
        assert said(tmp_path, paths) == [
            f"another coopexport in {tmp_path}/other {words} the one in {OUR_FOLDER}; uninstall one of them"
        ]


@pytest.mark.parametrize(
    ("record", "top_level"),
    [("engines/__init__.py,sha256=x,1\nother/__init__.py,,\n", None), (None, "engines\nother\n")],
    ids=["wheel", "egg"],
)
def test_the_distribution_that_a_package_came_with_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: str | None, top_level: str | None
) -> None:
    place = package(tmp_path / "site", "engines")
    distribution(tmp_path / "site", "searcher", record, top_level)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (detail,) = said(tmp_path, [OUR_FOLDER, tmp_path / "site"])
    assert f"hides {place} of searcher 1.2: " in detail
    assert detail.endswith(f"; pip uninstall searcher, or {APART}")
    (detail,) = said(tmp_path, [tmp_path / "site", OUR_FOLDER])
    assert detail == f"{place} of searcher 1.2 hides coopexport's own 'engines'; pip uninstall searcher, or {APART}"


def test_a_distribution_that_was_installed_into_ours_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both wheels write `benchmarks/__init__.py` into one folder: the last one's stays."""
    place = package(tmp_path / "site", "benchmarks")
    distribution(tmp_path / "site", "searcher", "benchmarks/__init__.py,sha256=x,1\n")
    distribution(tmp_path / "site", "coopexport", "benchmarks/__init__.py,sha256=y,1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(module, "OUR_FOLDER", tmp_path / "site")
    assert said(tmp_path, [tmp_path / "site"]) == [
        f"searcher 1.2 has installed its own 'benchmarks' into coopexport's, {place}: pip uninstall searcher, then "
        "install coopexport again, in an environment of its own"
    ]


def test_what_an_import_hook_leads_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As editable installations of setuptools have it."""
    place = package(tmp_path / "src", "calibration")

    class Finder:
        @classmethod
        def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
            return PathFinder.find_spec(name, [str(tmp_path / "src")])

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    (detail,) = said(tmp_path, [OUR_FOLDER])
    assert detail.startswith(f"coopexport's own 'calibration' hides {place}: ")
