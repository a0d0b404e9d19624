"""What a project's files are made from, as digests: files by content, code with all that it imports, settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from exporter.project.code_files import code_files
from exporter.project.freshness import digest
from exporter.project.settings import CROSS_ENTROPY, Project
from jetson.files.atomic_files import sha256_of_file
from jetson.runtime import preprocessing

# Smaller files are read each time: two changes within a tick of the clock may have the same time and size.
_LARGE_BYTES = 1 << 20


def file_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file, None when it is not here; raises OSError. A large one is read once per process."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    if found.st_size < _LARGE_BYTES:
        return sha256_of_file(str(path))
    return _large_digest(str(path), found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=256)
def _large_digest(path: str, size_bytes: int, modified_ns: int) -> str:
    return sha256_of_file(path)


def code_digest(reference: str, folder: Path) -> str | None:
    """Return a digest of a function's name and of the files that hold it (`code_files`), None when there are none."""
    files = code_files(reference, folder)
    return digest([reference, {name: file_digest(path) for name, path in files.items()}]) if files else None


def data_digest(project: Project, purpose: str) -> str | None:
    """Return a digest of the data for a purpose (`training` ...), without reading images; None when not set or here.

    A file by its content; a function by its code, not by what it returns; a folder by names, sizes and times of its
    files, or, with data.compare_folders = "content", by their content; and what the project says of how many are taken,
    in which size.
    """
    data = project.settings.data
    reference = getattr(data, purpose)
    if reference is None:
        return None
    taken = data.calibration_samples if purpose == "calibration" else None
    path = project.path(reference)
    if ":" in reference:
        content = code_digest(reference, project.folder)
        return None if content is None else digest([content, taken])
    if path.is_dir():
        return digest([_folder(path, by_content=data.compare_folders == "content"), data.image_size, taken])
    content = file_digest(path)
    return None if content is None else digest([content, taken])


def _folder(path: Path, by_content: bool) -> list[tuple[str, int, int | str | None]]:
    """Return the names of all folders and files below a folder, links followed, in order.

    Of a file also its size in bytes, and its time or digest; an empty folder is a class without images.
    """
    found: list[tuple[str, int, int | str | None]] = []
    for parent, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [(os.path.relpath(Path(parent, name), path), 0, None) for name in folders]
        for file in (Path(parent, name) for name in sorted(names) if not name.startswith(".")):
            if file.exists():
                facts = file.stat()
                kept = file_digest(file) if by_content else facts.st_mtime_ns
                found.append((os.path.relpath(file, path), facts.st_size, kept))
    return found


def _checkpoint(project: Project) -> str | None:
    return file_digest(project.path(project.settings.model.checkpoint))


def _network_code(project: Project) -> str | None:
    return code_digest(project.settings.model.factory, project.folder)


def _model_settings(project: Project) -> str:
    model = project.settings.model
    return digest([model.factory, model.arguments, model.input_shape])


def _metric(project: Project) -> str | None:
    name = project.settings.data.metric
    return code_digest(name, project.folder) if ":" in name else digest(name)


def _loss(project: Project) -> str | None:
    name = project.settings.training.loss
    return digest(name) if name == CROSS_ENTROPY else code_digest(name, project.folder)


_OF_PROJECT: Mapping[str, Callable[[Project], str | None]] = MappingProxyType(
    {
        "checkpoint": _checkpoint,
        "network code": _network_code,
        "model settings": _model_settings,
        "preprocessing": lambda project: digest(preprocessing.to_json(project.preprocessing)),
        "training data": lambda project: data_digest(project, "training"),
        "unlabelled data": lambda project: data_digest(project, "unlabelled"),
        "validation data": lambda project: data_digest(project, "validation"),
        "calibration data": lambda project: data_digest(project, "calibration"),
        "evaluation data": lambda project: data_digest(project, "evaluation"),
        "metric": _metric,
        "loss": _loss,
    }
)


def project_inputs(project: Project, *names: str) -> dict[str, str | None]:
    """Return digests of a project's inputs as they are now, by name; None for one that is not set, or not here.

    Raises KeyError for a name that is none, and OSError when a file cannot be read.
    """
    return {name: _OF_PROJECT[name](project) for name in names}
