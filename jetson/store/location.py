"""Where the store of engines lies, and how large it may become."""

import os
import re
from typing import Mapping

from jetson.errors import InputError

ROOT_VARIABLE = "COOPEXPORT_STORE"
LIMIT_VARIABLE = "COOPEXPORT_STORE_LIMIT"
DEFAULT_LIMIT_BYTES = 4 << 30
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS.update({"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40})


def store_root(environment: Mapping[str, str]) -> str:
    """Return the store's folder: COOPEXPORT_STORE, else below XDG_CACHE_HOME, else below ~/.cache.

    A relative XDG_CACHE_HOME is ignored, as the XDG Base Directory Specification asks.
    """
    chosen = environment.get(ROOT_VARIABLE)
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    cache = environment.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(cache):
        cache = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "coopexport", "engines")


def store_limit_bytes(environment: Mapping[str, str]) -> int:
    """Return how many bytes of engines the store keeps: COOPEXPORT_STORE_LIMIT ("4GiB", "500MB"), or 4 GiB."""
    text = environment.get(LIMIT_VARIABLE)
    return byte_count(text, LIMIT_VARIABLE) if text else DEFAULT_LIMIT_BYTES


def byte_count(text: str, where: str) -> int:
    """Return the bytes that a size with a unit says; raises CoopexportError naming `where` it stands."""
    found = re.match(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*$", text)
    unit = _UNITS.get(found.group(2).upper()) if found else None
    if found is None or unit is None:
        raise InputError(
            "{}: {!r} is not a size".format(where, text),
            fix="write a number of bytes, or one with KB, MB, GB, KiB, MiB, GiB such as 4GiB",
        )
    return int(float(found.group(1)) * unit)
