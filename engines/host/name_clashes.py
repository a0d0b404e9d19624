"""Foreign modules and packages with the names of coopexport's own: they hide ours, are hidden by them, or mix in."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from pathlib import Path

from exporter.project.user_code import OUR_NAMES, find_clashes

OUR_FOLDER = Path(__file__).resolve().parents[2]
_OUR_DISTRIBUTION = "coopexport"
_APART = "install coopexport in an environment of its own"
_TOP_NAME = re.compile(rf"^({'|'.join(OUR_NAMES)})(?:/|\.py,|$)", re.MULTILINE)


@dataclass(frozen=True)
class NameClash:
    """A foreign module or package called `name`, and what is wrong about it and how to mend it (`detail`)."""

    name: str
    detail: str


def name_clashes(folder: Path, paths: Sequence[str]) -> list[NameClash]:
    """Return all foreign modules and packages of our names in the working directory `folder` and on Python's `paths`.

    One for each place that it lies in, in the order in which Python looks. A second copy of coopexport counts once.
    What belongs to this coopexport is left out, and on Python's paths folders without `__init__.py`: they hide nothing.
    """
    owners = _owners()
    found = [
        NameClash(name, f"{folder / name} has the name of a package of coopexport; rename it")
        for name in find_clashes(folder)
    ]
    seen = {OUR_FOLDER, folder.resolve()}
    before_ours = True
    for entry in paths:
        place = Path(entry or ".").resolve()
        before_ours = before_ours and place != OUR_FOLDER
        if place not in seen:
            seen.add(place)
            found += _in_entry(place, before_ours, owners)
    for name, place in _of_import_hooks():
        found.append(NameClash(name, _hidden(name, place, owners)))
    for place, owner in owners.items():
        if place.parent == OUR_FOLDER:
            name = place.stem
            found.append(
                NameClash(
                    name,
                    f"{owner} has installed its own '{name}' into coopexport's, {place}: pip uninstall "
                    f"{owner.split()[0]}, then install coopexport again, in an environment of its own",
                )
            )
    return found


def _in_entry(entry: Path, before_ours: bool, owners: Mapping[Path, str]) -> Iterator[NameClash]:
    """Yield the clashes in one entry of Python's path."""
    looked = {name: PathFinder.find_spec(name, [str(entry)]) for name in OUR_NAMES}
    specs = {name: spec for name, spec in looked.items() if spec is not None and spec.origin is not None}
    if set(specs) == set(OUR_NAMES):
        what = "is used in place of" if before_ours else "is not used beside"
        detail = f"another coopexport in {entry} {what} the one in {OUR_FOLDER}; uninstall one of them"
        yield NameClash("coopexport", detail)
        return
    for name, spec in specs.items():
        place = _place(spec)
        if before_ours:
            given = {Path(item or ".").resolve() for item in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
            otherwise = f"take {entry} off PYTHONPATH" if entry in given else _APART
            what, fix = _what_and_fix(place, owners)
            yield NameClash(name, f"{what} hides coopexport's own '{name}'; {fix}, or {otherwise}")
        else:
            yield NameClash(name, _hidden(name, place, owners))


def _hidden(name: str, place: Path, owners: Mapping[Path, str]) -> str:
    what, fix = _what_and_fix(place, owners)
    return f"coopexport's own '{name}' hides {what}: who imports it gets coopexport's; {fix}, or {_APART}"


def _of_import_hooks() -> Iterator[tuple[str, Path]]:
    """Yield name and place of what import hooks lead to, as editable installations make them; they come last."""
    for finder in sys.meta_path:
        if finder in (BuiltinImporter, FrozenImporter, PathFinder) or not hasattr(finder, "find_spec"):
            continue
        for name in OUR_NAMES:
            spec = finder.find_spec(name, None)
            if spec is not None and _place(spec).resolve().parent != OUR_FOLDER:
                yield name, _place(spec)


def _place(spec: ModuleSpec) -> Path:
    """Return the folder of a package, the file of a module."""
    folders = list(spec.submodule_search_locations or [])
    return Path(folders[0] if folders else str(spec.origin))


def _what_and_fix(place: Path, owners: Mapping[Path, str]) -> tuple[str, str]:
    """Return what to call the module or package in `place`, and how its user gets rid of it."""
    owner = owners.get(place.resolve())
    return (str(place), "rename it") if owner is None else (f"{place} of {owner}", f"pip uninstall {owner.split()[0]}")


def _owners() -> dict[Path, str]:
    """Return which installed distributions, ours left out, hold a module or package of our names: name by place."""
    owners = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name is None or name.lower() == _OUR_DISTRIBUTION:
            continue
        # Read as text: to make objects of all files of all distributions takes a second.
        listed = distribution.read_text("RECORD") or distribution.read_text("top_level.txt") or ""
        for top in {match.group(1) for match in _TOP_NAME.finditer(listed)}:
            for file in (top, f"{top}.py"):
                place = Path(str(distribution.locate_file(file)))
                if place.exists():
                    owners[place.resolve()] = f"{name} {distribution.version}"
    return owners
