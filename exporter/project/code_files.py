"""The files that hold a function of the user's: its module and what that imports of the project; nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from exporter.project.user_code import find_source, module_file


def code_files(reference: str, folder: Path) -> dict[str, Path]:
    """Return the files of the function "package.module:function" by module, importing nothing; empty if not found.

    Its module, the packages that it is in, and what these import, over and over: of a module in `folder`, the
    project's, all that lies there too; of one elsewhere, such as an installed package, what is of the same top-level
    package. What is imported by a name that is only known when the code runs is not seen.
    """
    source = find_source(reference, folder)
    if source is None:
        return {}
    module = reference.partition(":")[0]
    depth = module.count(".") + (source.name == "__init__.py")
    root, top = source.parents[depth], module.partition(".")[0]
    waiting, seen, found = [module], set[str](), dict[str, Path]()
    while waiting:
        parts = waiting.pop().split(".")
        if root != folder and parts[0] != top:
            continue
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            file = None if name in seen else module_file(root, parts[:end])
            seen.add(name)
            if file is not None:
                found[name] = file
                waiting += _imports(file.read_bytes(), name, file.name == "__init__.py")
    return dict(sorted(found.items()))


@lru_cache(maxsize=4096)
def _imports(source: bytes, module: str, is_package: bool) -> tuple[str, ...]:
    """Return what a module imports, in full; of `from a import b` both a and a.b, of which one may be no module."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # it cannot be imported either
        return ()
    return tuple(dict.fromkeys(_imported(tree, module.split(".") if is_package else module.split(".")[:-1])))


def _imported(tree: ast.AST, package: list[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ([base] if base else [])
            yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)
