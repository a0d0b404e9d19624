"""Engines that were built once and need not be built again: a content-addressed folder, for device and host.

Any moment is a good one for a kill: a file appears whole or not at all, an entry after its engine, and what is left
behind (a hidden file, an engine without entry) goes the next time somebody writes. A reader needs no lock: it reads an
engine whole and checks it; one that is removed meanwhile stays readable for whoever has it open, or reads as a miss.
"""

import contextlib
import os
from typing import Callable, NamedTuple, Optional, Tuple, Union

from jetson.engines.identity import EngineIdentity
from jetson.engines.verification import file_problems
from jetson.errors import InputError
from jetson.files.atomic_files import write_file
from jetson.files.file_lock import locked
from jetson.store.blobs import flush_names, write_blob
from jetson.store.entries import (
    EngineStore,
    Entry,
    Hit,
    Miss,
    encode_entry,
    engine_blobs,
    entries,
    entry_name,
    is_of_key,
    load,
    lock_path,
    make_room,
    remove,
)
from jetson.store.key import EngineKey, describe_miss

__all__ = ["EngineStore", "Entry", "Hit", "Miss", "Obtained", "add", "entries", "evict", "find", "obtain"]


class Obtained(NamedTuple):
    """An engine from the store (`reused`), or one that was newly built because of `reason`.

    `not_stored`: why a new one is not in the store, None where it is.
    """

    identity: EngineIdentity
    data: bytes
    reused: bool
    reason: str = ""
    not_stored: Optional[str] = None


def find(store: EngineStore, key: EngineKey) -> Union[Hit, Miss]:
    """Return the engine of a key, or why there is none; one that is damaged is removed."""
    found = load(store, key)
    if isinstance(found, Hit):
        with contextlib.suppress(OSError):  # a store that cannot be written to
            os.utime(os.path.join(store.root, entry_name(key)), None)
        return found
    if not found.damaged:
        return Miss(describe_miss(key, [entry.key for entry in entries(store)]))
    with locked(lock_path(store, "store")) as alone:
        again = load(store, key)  # somebody may have mended it
        if isinstance(again, Hit):
            return again
        remove(store, entry_name(key))
        make_room(store, store.limit_bytes, alone)  # its file goes too, unless it is another entry's as well
    return Miss("the stored engine was removed: {}".format(found.reason), True)


def add(store: EngineStore, key: EngineKey, identity: EngineIdentity, data: bytes) -> None:
    """Keep an engine; the least recently used ones go where there is no room.

    Raises ValueError when engine, identity and key are not of each other (a bug), CoopexportError when the engine
    alone is larger than the store, OSError when the disk is full or not writable; the store is whole then.
    """
    for problem in file_problems(identity, data):
        raise ValueError("the engine {}".format(problem))
    if not is_of_key(identity, key):
        raise ValueError("the engine's identity is not of the key that it is to be kept under")
    if len(data) > store.limit_bytes:
        raise InputError(
            "an engine of {:,} bytes does not fit into the store of {:,}".format(len(data), store.limit_bytes),
            fix="raise COOPEXPORT_STORE_LIMIT",
        )
    entry, blobs = encode_entry(key, identity), engine_blobs(store)
    with locked(lock_path(store, "store")) as alone:
        make_room(store, store.limit_bytes - len(data), alone)
        try:
            write_blob(blobs, data)
            flush_names(blobs)  # an entry is never there without its engine
            write_file(os.path.join(store.root, entry_name(key)), entry)
        except BaseException:
            make_room(store, store.limit_bytes, alone)  # an engine without entry goes at once
            raise


def obtain(
    store: EngineStore,
    key: EngineKey,
    build: Callable[[], Tuple[EngineIdentity, bytes]],
    on_wait: Optional[Callable[[], None]] = None,
) -> Obtained:
    """Return the engine of a key, built by `build` when it is not stored; what `build` raises is passed on.

    Of several processes that want the same engine at the same time one builds and the others wait for it (`on_wait`
    is called once); should that one fail or be killed, the next one builds. A store that cannot keep an engine does
    not hinder its use.
    """
    found = find(store, key)
    if isinstance(found, Hit):
        return Obtained(found.identity, found.data, True)
    with locked(lock_path(store, key.digest), on_wait):
        again = load(store, key)
        if isinstance(again, Hit):
            return Obtained(again.identity, again.data, True)
        identity, data = build()
        try:
            add(store, key, identity, data)
        except (OSError, InputError) as error:
            return Obtained(identity, data, False, found.reason, "{}: {}".format(store.root, error))
    return Obtained(identity, data, False, found.reason)


def evict(store: EngineStore, limit_bytes: int) -> int:
    """Remove the least recently used engines until at most `limit_bytes` are left; returns the bytes that went.

    What kills left behind goes in any case.
    """
    with locked(lock_path(store, "store")) as alone:
        return make_room(store, limit_bytes, alone)
