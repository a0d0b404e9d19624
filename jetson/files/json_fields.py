"""Values out of parsed JSON by their keys; every error names the file, the key and what to do, in one line."""

from typing import Any, NamedTuple, Tuple

from jetson.errors import DamagedFileError


class JsonObject(NamedTuple):
    """An object inside a JSON file.

    `path`: of the file; `prefix`: what its keys are called in errors, such as "tensors.0."; `advice`: what to do when
    the file is malformed.
    """

    content: Any
    path: str
    prefix: str
    advice: str


def wrong(place: JsonObject, key: str, reason: str) -> DamagedFileError:
    """Return the error for a key whose value cannot be used, such as "{path}: tensors.0.shape is not a list; ..."."""
    return DamagedFileError(
        "{}: {}{} {}".format(place.path, place.prefix, key, reason), path=place.path, fix=place.advice
    )


def has(place: JsonObject, key: str) -> bool:
    """Tell whether the object has a value at `key`; null is none."""
    return place.content.get(key) is not None


def object_at(place: JsonObject, key: str) -> JsonObject:
    """Return the object at `key`; raises CoopexportError when there is none."""
    return _object(place, key, _value(place, key))


def objects_at(place: JsonObject, key: str) -> Tuple[JsonObject, ...]:
    """Return the objects in the list at `key`; raises CoopexportError when there is no such list."""
    return tuple(_object(place, "{}.{}".format(key, index), value) for index, value in enumerate(_list_at(place, key)))


def text_at(place: JsonObject, key: str) -> str:
    """Return the text at `key`; raises CoopexportError when there is none."""
    value = _value(place, key)
    if not isinstance(value, str):
        raise wrong(place, key, "is not text")
    return value


def choice_at(place: JsonObject, key: str, choices: Tuple[str, ...]) -> str:
    """Return the text at `key`; raises CoopexportError when it is not one of `choices`."""
    value = text_at(place, key)
    if value not in choices:
        raise wrong(place, key, "is {!r}; this version knows {}".format(value, ", ".join(choices)))
    return value


def count_at(place: JsonObject, key: str) -> int:
    """Return the whole number at `key`, 1 or more; raises CoopexportError when there is none."""
    return _count(place, key, _value(place, key))


def counts_at(place: JsonObject, key: str) -> Tuple[int, ...]:
    """Return the whole numbers in the list at `key`, each 1 or more; raises CoopexportError for anything else."""
    return tuple(_count(place, "{}.{}".format(key, index), value) for index, value in enumerate(_list_at(place, key)))


def _value(place: JsonObject, key: str) -> Any:
    if key not in place.content:
        raise wrong(place, key, "is missing")
    return place.content[key]


def _object(place: JsonObject, key: str, value: Any) -> JsonObject:
    if not isinstance(value, dict):
        raise wrong(place, key, "is not an object")
    return place._replace(content=value, prefix="{}{}.".format(place.prefix, key))


def _list_at(place: JsonObject, key: str) -> Any:
    value = _value(place, key)
    if not isinstance(value, list):
        raise wrong(place, key, "is not a list")
    return value


def _count(place: JsonObject, key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise wrong(place, key, "is {!r}, and must be a whole number of 1 or more".format(value))
    return value
