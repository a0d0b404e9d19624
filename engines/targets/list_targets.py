"""What engines can be built for: the targets of a project and those that come with coopexport."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from engines.targets.lookup import find_target, load_targets
from engines.targets.project_targets import own_targets
from engines.targets.target import Kind, Target
from exporter.project.settings import Project
from jetson.errors import InputError


@dataclass(frozen=True)
class TargetsRequest:
    """Which targets: those of one `kind`; None: all."""

    kind: Kind | None = None


@dataclass(frozen=True)
class TargetsResult:
    """The targets, a project's own first, then the general ones, graphics cards, and Jetsons by board and JetPack."""

    targets: tuple[Target, ...]


def list_targets(project: Project | None, request: TargetsRequest) -> TargetsResult:
    """Return what engines can be built for, with what is known of each; `project`: whose own targets count, too.

    Raises CoopexportError when one of the project's targets cannot be, or there is no such kind.
    """
    if request.kind is not None and request.kind not in get_args(Kind):
        raise InputError(f'there are no targets of the kind "{request.kind}", only {", ".join(get_args(Kind))}')
    own = _own_targets(project)
    every = {**own, **load_targets(), **own}.values()
    return TargetsResult(tuple(target for target in every if request.kind in (None, target.kind)))


def show_target(project: Project | None, name: str) -> Target:
    """Return the target called `name`, one of the project's own or one that `find_target` knows.

    Raises CoopexportError as `find_target` does, and when one of the project's targets cannot be.
    """
    return find_target(name, _own_targets(project))


def _own_targets(project: Project | None) -> Mapping[str, Target]:
    return {} if project is None else own_targets(project.settings.targets)
