"""Import what the user names as `package.module:function`, and notice when our names hide theirs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from jetson.errors import InputError

OUR_NAMES = ("benchmarks", "calibration", "coopexport", "engines", "exporter", "jetson")


def find_clashes(folder: Path) -> list[str]:
    """Return the modules and packages in `folder` that share a top-level name with coopexport's own.

    Folders without Python files (a `benchmarks/` full of results) hide nothing and are not returned.
    """
    ours = Path(__file__).resolve().parents[2]
    if folder.resolve() == ours:
        return []
    return [name for name in OUR_NAMES if (folder / f"{name}.py").is_file() or any((folder / name).glob("*.py"))]


def _check_no_namesake(top: str, folder: Path, what: str) -> None:
    """Raise InputError when another module of the name was imported before and hides the one in `folder`."""
    wanted, loaded = PathFinder.find_spec(top, [str(folder)]), getattr(sys.modules.get(top), "__spec__", None)
    if wanted is None or wanted.origin is None or loaded is None or loaded.origin is None:
        return
    if Path(wanted.origin).resolve() != Path(loaded.origin).resolve():
        raise InputError(
            f"{what}: another module '{top}' is loaded already, from {loaded.origin}, and hides the one in {folder}",
            path=folder,
            fix="rename yours",
        )


def find_source(reference: str, folder: Path) -> Path | None:
    """Return the file of the module in `reference` ("package.module:function"), importing nothing.

    `folder`, the project's, is searched first, then the environment. None where there is no such file.
    """
    parts = reference.partition(":")[0].split(".")
    roots = [folder]
    with contextlib.suppress(ImportError, ValueError):
        top = importlib.util.find_spec(parts[0])
        if top is not None and top.origin is not None:
            origin = Path(top.origin)
            roots.append(origin.parent.parent if origin.name == "__init__.py" else origin.parent)
    return next((path for root in roots if (path := module_file(root, parts)) is not None), None)


def module_file(root: Path, parts: list[str]) -> Path | None:
    """Return the file of the module whose dotted name has these parts, where it lies below `root`."""
    paths = (root.joinpath(*parts, "__init__.py"), root.joinpath(*parts[:-1], f"{parts[-1]}.py"))
    return next((path for path in paths if path.is_file()), None)


def load_function(reference: str, folder: Path, key: str) -> Callable[..., Any]:
    """Return the function that `reference` ("package.module:function") names.

    `folder`, the project's, is searched first, then the environment. `key` is the setting that holds the
    reference, for messages. Raises CoopexportError when the reference cannot be resolved.
    """
    module_name, separator, function_name = reference.partition(":")
    if not separator or not module_name or not function_name:
        raise InputError(f'{key} is "{reference}"', fix='write it as "package.module:function"')
    top = module_name.split(".")[0]
    if top in find_clashes(folder):
        raise InputError(
            f'{key} "{reference}": the name "{top}" in {folder} is also a package of coopexport, which hides '
            "it: rename yours, or reach it through a package with another name",
            path=folder,
        )
    if str(folder) not in sys.path:
        sys.path.insert(1, str(folder))
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise InputError(
            f'{key} "{reference}" cannot be imported ({type(error).__name__}: {error}): install coopexport in the '
            f"environment of your training code, or put the module into {folder}",
            path=folder,
        ) from error
    _check_no_namesake(top, folder, f'{key} "{reference}"')
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f'{key} "{reference}": module {module_name} has no function {function_name}')
    return function  # type: ignore[no-any-return]
