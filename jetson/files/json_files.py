"""JSON files with a schema name and version, refused when another major version wrote them."""

import json
import math
from typing import Any, Dict

from jetson.errors import DamagedFileError, InputError, StaleError
from jetson.files.atomic_files import write_file


def write_json(path: str, schema: str, content: Dict[str, Any]) -> None:
    """Write `content` with its `schema` ("name/major.minor") to `path`, whole or not at all.

    Raises ValueError when a number is NaN or infinite, TypeError when a value is nothing that JSON
    knows (a NumPy array, say), OSError when the file cannot be written.
    """
    write_file(path, encode_json(schema, content))


def encode_json(schema: str, content: Dict[str, Any]) -> bytes:
    """Return the bytes of a JSON file with `schema` first; raises ValueError, TypeError as above."""
    _check_finite(content, schema)
    document: Dict[str, Any] = {"schema": schema}
    document.update(content)
    document["schema"] = schema  # also when `content` came out of another file and brought its own
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode("utf-8")


def read_json(path: str, schema: str) -> Dict[str, Any]:
    """Read a JSON file that must be of `schema`'s name and major version; return it without `schema`.

    Raises CoopexportError naming the file when it is missing, unreadable, no JSON (which knows neither
    NaN nor infinity), or of another schema.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise StaleError(
            "{} is missing".format(path), path=path, fix="check the path, or run the command that writes it"
        ) from None
    except OSError as error:
        raise InputError(
            "{} cannot be read ({})".format(path, error.strerror), path=path, fix="fix that first"
        ) from None
    return decode_json(data, schema, path)


def decode_json(data: bytes, schema: str, path: str) -> Dict[str, Any]:
    """Return what the bytes of a JSON file hold, as `read_json` does; `path` names them in its errors."""
    try:
        document = json.loads(data.decode("utf-8"))
        _check_finite(document, "it")
    except (ValueError, RecursionError) as error:  # RecursionError: thousands of brackets in brackets
        raise DamagedFileError(
            "{} is not valid JSON ({})".format(path, error), path=path, fix="write it anew"
        ) from None
    if not isinstance(document, dict) or not isinstance(document.get("schema"), str):
        raise DamagedFileError(
            '{} has no "schema": it is not a file of coopexport'.format(path), path=path, fix="check the path"
        )
    found = document.pop("schema")
    if not same_major(found, schema):
        raise DamagedFileError(
            "{} is of schema {}, this version reads {}: write it anew, or use the coopexport that wrote it".format(
                path, found, schema
            ),
            path=path,
        )
    return document


def same_major(found: str, wanted: str) -> bool:
    """Tell whether two schemas ("name/major.minor") share name and major version."""
    return found.rpartition(".")[0] == wanted.rpartition(".")[0]


def _check_finite(value: Any, where: str) -> None:
    """Raise ValueError, saying where, when `value` is or holds NaN or an infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("{} holds {}: a failure is never a number".format(where, value))
    if isinstance(value, dict):
        for key, item in value.items():
            _check_finite(item, "{}.{}".format(where, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_finite(item, "{}[{}]".format(where, index))
