"""The targets that engines are built for."""

from __future__ import annotations

import difflib
import sys
from dataclasses import dataclass
from importlib.resources import files

from jetson.errors import CoopexportError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Target:
    """One kind of machine: which backend builds for it, and with what settings."""

    name: str
    description: str
    backend: str
    providers: tuple[str, ...] = ()
    compute_capability: str | None = None


def load_targets() -> dict[str, Target]:
    """Return all targets by name."""
    content = tomllib.loads(files("engines").joinpath("targets.toml").read_text(encoding="utf-8"))
    return {
        name: Target(
            name,
            values["description"],
            values["backend"],
            tuple(values.get("providers", ())),
            values.get("compute_capability"),
        )
        for name, values in content.items()
    }


def find_target(name: str) -> Target:
    """Return the target called `name`; raises CoopexportError listing the nearest ones."""
    targets = load_targets()
    if name not in targets:
        nearest = difflib.get_close_matches(name, list(targets), n=1)
        advice = f"did you mean {nearest[0]}? " if nearest else ""
        raise CoopexportError(f'target "{name}" is unknown; {advice}known are: {", ".join(targets)}')
    return targets[name]
