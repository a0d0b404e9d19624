"""Begin a project: write the commented project file into a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.project.settings import PROJECT_FILE
from exporter.project.template import project_text
from exporter.project.user_code import find_clashes
from jetson.errors import InputError
from jetson.files.atomic_files import write_file


@dataclass(frozen=True)
class InitRequest:
    """Where a project begins, and what is known of its network; what is None stays as the template has it.

    `factory`: what builds the network, "package.module:function". `checkpoint`, `masks`: files, relative to `folder`.
    `input_shape`: of one input, without the batch.
    """

    folder: Path = Path()
    factory: str | None = None
    checkpoint: str | None = None
    masks: str | None = None
    input_shape: tuple[int, ...] | None = None


@dataclass(frozen=True)
class InitResult:
    """The project file, and what lies beside it that has the name of one of coopexport's packages and hides it."""

    path: Path
    clashes: tuple[Path, ...]


def init_project(request: InitRequest) -> InitResult:
    """Write `coopexport.toml` into a folder, which is made where it is missing.

    Raises CoopexportError when there is such a file already, and OSError.
    """
    path = request.folder / PROJECT_FILE
    if path.exists():
        raise InputError(f"{path} exists already", path=path, fix="edit it, or delete it first")
    given = {
        "factory": request.factory,
        "checkpoint": request.checkpoint,
        "masks": request.masks,
        "input_shape": request.input_shape,
    }
    values = {key: value for key, value in given.items() if value is not None}
    write_file(str(path), project_text(values).encode())
    return InitResult(path, tuple(request.folder / name for name in find_clashes(request.folder)))
