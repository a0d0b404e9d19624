"""Targets by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from engines.targets.capabilities import check_target_name
from engines.targets.catalogue import all_targets, full_name
from engines.targets.target import Target
from jetson.errors import InputError

__all__ = ["Target", "find_target", "load_targets"]


def load_targets() -> dict[str, Target]:
    """Return all targets by name: the general ones, graphics cards, then Jetsons by board and JetPack."""
    return {target.name: target for target in all_targets()}


def find_target(name: str, own: Mapping[str, Target] | None = None) -> Target:
    """Return the target called `name`, which may be one of a project's `own`.

    A board without its JetPack ("orin-nano") is that of its newest JetPack 6, or of the newest that it has; a JetPack
    that ships the same TensorRT as another ("orin-nano@6.2.1") is that other. Raises CoopexportError with the nearest
    name, or with the reason where there cannot be such a target.
    """
    targets = {**load_targets(), **(own or {})}
    known = name if name in targets else full_name(name)
    if known in targets:
        return targets[known]
    check_target_name(name)
    candidates = list(dict.fromkeys([*targets, *(item.partition("@")[0] for item in targets)]))
    nearest = difflib.get_close_matches(name, candidates, n=1)
    advice = f"did you mean {nearest[0]}? " if nearest else ""
    raise InputError(f'target "{name}" is unknown', fix=f"{advice}list them with: coopexport targets")
