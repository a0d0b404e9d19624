"""Whether a file still is what it would be if it were made now: it records what it was made from.

`made_from` in a file maps names that a user knows ("checkpoint", "network code") to digests. What only proves a result
right, such as the inputs that two networks are compared on, is nothing that it is made from, and is not recorded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from jetson.errors import StaleError
from jetson.files.atomic_files import sha256_of_bytes

# What a file was made from, as it records it; and as it is now, None where that is not known on this machine.
MadeFrom: TypeAlias = Mapping[str, str]
Inputs: TypeAlias = Mapping[str, str | None]

# The input that is the format of the file itself; its digest is the file's schema.
FORMAT = "format"


def digest(value: Any) -> str:
    """Return the SHA-256 of what JSON can say of `value`; the order of a dictionary's keys does not matter."""
    return sha256_of_bytes(json.dumps(value, sort_keys=True).encode())


def recorded(inputs: Inputs) -> dict[str, str]:
    """Return inputs as a file records them: those that are known."""
    return {name: value for name, value in inputs.items() if value is not None}


def changed_inputs(made_from: MadeFrom, now: Inputs) -> tuple[str, ...]:
    """Return which inputs of a file are others `now`, in the order of `now`; one that is not recorded is another.

    What is not known on this machine (None) proves nothing, and what `now` does not name is not compared.
    """
    return tuple(name for name, value in now.items() if value is not None and made_from.get(name) != value)


def check_fresh(what: str, made_from: MadeFrom, now: Inputs, command: str, layer: str | None = None) -> None:
    """Raise StaleError naming every input of a file that has changed, and the command that makes it again.

    `what`: the file and how it was made, such as "variant pruned was split"; `layer`: the one that it is about, if any.
    """
    changed = changed_inputs(made_from, now)
    if not changed:
        return
    if not made_from:
        message = f"{what} by an earlier version, which did not note from what"
        raise StaleError(message, layer=layer, fix=f"run: {command}")
    named = ", ".join(changed[:-1]) + " and " * (len(changed) > 1) + changed[-1]
    raise StaleError(f"{what} before {named} changed", layer=layer, fix=f"run: {command}")
