"""Load a built engine for a bundle's graph: the one place where engines of a project are opened."""

from __future__ import annotations

from engines.backends.interface import Runner
from engines.backends.registry import find_backend
from engines.building.build_items import BuildItem
from engines.host.this_machine import this_machine
from engines.targets.target import Target
from jetson.engines.verification import Expected, verify_engine


def open_engine(item: BuildItem, target: Target, batches: tuple[int, int, int] = (1, 1, 1)) -> Runner:
    """Load the engine of `item` after checking it against its identity, this machine and the bundle.

    Raises CoopexportError for one that is not what its identity says, does not belong here, or was built from another
    graph than the bundle now holds, for another target, precision or batch.
    """
    backend = find_backend(target.backend)
    expected = Expected(
        backend=target.backend,
        target=target.name,
        variant=item.variant,
        layer=item.layer,
        role=item.role,
        source_sha256=item.graph.sha256,
        precision=item.precision,
        batch=batches[1],
    )
    path = item.engine_path(target, batches)
    _, data = verify_engine(str(path), this_machine(), expected)
    return backend.load(data, target)
