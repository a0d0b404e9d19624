"""A section of the project file with some of its values replaced by a request's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from jetson.errors import InputError

_Section = TypeVar("_Section", bound=BaseModel)


class SettingError(InputError):
    """A value that a setting cannot have.

    `key`: of the setting, empty where values contradict each other; `problem`: what is wrong, without the key.
    """

    def __init__(self, message: str, key: str = "", problem: str = "") -> None:
        super().__init__(message)
        self.key, self.problem = key, problem


def overridden(section: _Section, given: Mapping[str, object]) -> _Section:
    """Return `section` with the values of `given` by key.

    Values that are None, and keys of other sections, leave it as it is: `vars` of a request will do. Raises
    SettingError naming the key whose value is not allowed.
    """
    values = {key: value for key, value in given.items() if key in type(section).model_fields and value is not None}
    try:
        return type(section).model_validate({**section.model_dump(), **values})
    except ValidationError as error:
        found = error.errors()[0]
        key, problem = ".".join(map(str, found["loc"])), found["msg"].removeprefix("Value error, ")
        raise SettingError(f"{key}: {found['msg']}" if key else problem, key, problem) from None
