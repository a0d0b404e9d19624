"""What this machine's store of engines holds, what an engine is and whether it may be loaded here, and making room."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from engines.host.this_machine import this_machine
from jetson.engines.identity import EngineIdentity
from jetson.engines.machine import Machine
from jetson.engines.verification import describe_incompatibility, read_engine, unchecked
from jetson.errors import DamagedFileError, InputError
from jetson.store.entries import stored_bytes
from jetson.store.location import store_limit_bytes, store_root
from jetson.store.store import EngineStore, Entry, Hit, entries, evict, find


@dataclass(frozen=True)
class StoredEngines:
    """What a store holds: its entries, the most recently used first, and the bytes of its files, leftovers included."""

    store: EngineStore
    entries: tuple[Entry, ...]
    stored_bytes: int


@dataclass(frozen=True)
class ExplainRequest:
    """Which engine: a file with its identity beside it, or the beginning of a stored one's key.

    `machine`: where it is to be loaded; None: this one.
    """

    engine: str
    machine: Machine | None = None


@dataclass(frozen=True)
class ExplainResult:
    """What an engine is, the machine that it was compared with, and how that went, in words.

    `mismatches`: why the engine may not be loaded there. `unchecked`: what could not be compared, or differs without
    being a reason to refuse.
    """

    identity: EngineIdentity
    machine: Machine
    mismatches: tuple[str, ...]
    unchecked: tuple[str, ...]


@dataclass(frozen=True)
class PruneStoreRequest:
    """How many bytes of engines to keep; None: the store's own limit."""

    limit_bytes: int | None = None


@dataclass(frozen=True)
class PruneStoreResult:
    """How many bytes went, and what is left."""

    removed_bytes: int
    left: StoredEngines


def own_store() -> EngineStore:
    """Return the store of this user: COOPEXPORT_STORE and COOPEXPORT_STORE_LIMIT say where, and how large.

    Raises CoopexportError when the limit is not a size.
    """
    return EngineStore(store_root(os.environ), store_limit_bytes(os.environ))


def list_engines(store: EngineStore) -> StoredEngines:
    """Return what `store` holds; one that is not there is empty, and damaged entries are left out."""
    return StoredEngines(store, tuple(reversed(entries(store))), stored_bytes(store))


def explain_engine(request: ExplainRequest, store: EngineStore | None = None) -> ExplainResult:
    """Return what an engine is and whether it may be loaded; `store`: where keys are looked up; None: `own_store()`.

    An engine that may not be loaded is no error. Raises CoopexportError when there is no such engine, and when it is
    not what its identity says.
    """
    machine = this_machine() if request.machine is None else request.machine
    is_file = Path(request.engine).exists() or os.sep in request.engine
    identity = read_engine(request.engine)[0] if is_file else _stored(request.engine, store or own_store())
    mismatches, unknown = describe_incompatibility(identity, machine), unchecked(identity, machine)
    return ExplainResult(identity, machine, tuple(mismatches), tuple(unknown))


def prune_engines(store: EngineStore, request: PruneStoreRequest) -> PruneStoreResult:
    """Remove the least recently used engines beyond a size, and what interrupted builds left behind."""
    removed_bytes = evict(store, store.limit_bytes if request.limit_bytes is None else request.limit_bytes)
    return PruneStoreResult(removed_bytes, list_engines(store))


def _stored(digest: str, store: EngineStore) -> EngineIdentity:
    """Return the identity of the stored engine whose key begins with `digest`; raises CoopexportError."""
    keys = [entry.key for entry in entries(store) if digest and entry.key.digest.startswith(digest)]
    if len(keys) != 1:
        count = "no stored engine" if not keys else f"{len(keys)} stored engines"
        raise InputError(
            f"there is no file {digest}, and {count} in {store.root} with a key that begins like that",
            fix="see: coopexport engines list",
        )
    found = find(store, keys[0])
    if not isinstance(found, Hit):
        raise DamagedFileError(f"{found.reason}", fix="build it again: coopexport build")
    return found.identity
