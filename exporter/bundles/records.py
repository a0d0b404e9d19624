"""JSON files with a schema, read as pydantic models; a malformed one is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from jetson.errors import DamagedFileError
from jetson.files.json_files import read_json

_Record = TypeVar("_Record", bound=BaseModel)


def read_record(kind: type[_Record], path: Path, schema: str, advice: str = "") -> _Record:
    """Return the record of `kind` in the JSON file `path`.

    Raises CoopexportError when the file is missing or of another schema, and when its content is no such record: then
    with the key, what is wrong with it, and `advice`.
    """
    return record_of(kind, read_json(str(path), schema), str(path), advice, path)


def record_of(kind: type[_Record], content: Any, name: str, advice: str = "", path: Path | None = None) -> _Record:
    """Return the record of `kind` in what a JSON file held, which is called `name`; raises as `read_record`."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        said = f"{name}: {key}: {problem['msg'].removeprefix('Value error, ')}"
        raise DamagedFileError(said, path=path, fix=advice or None) from None
