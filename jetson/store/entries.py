"""The files of a store of engines: how they are named, read, listed and removed.

<root>/blobs/<SHA-256>         engines
<root>/keys/<key digest>.json  what each is the engine of: the key, and the identity
<root>/locks/                  locks, while they are held
"""

import contextlib
import os
import time
from typing import List, NamedTuple, Optional, Union

from jetson.engines.admission import file_problems
from jetson.engines.identity import EngineIdentity, decode_identity, encode_identity
from jetson.errors import CoopexportError
from jetson.files.json_files import decode_json, encode_json
from jetson.store.key import EngineKey, key_from_json

SCHEMA = "coopexport.stored-engine/1.0"
# Nobody writes for that long between two renames.
_LEFTOVER_AGE_S = 3600.0
_SUFFIX = ".json"


class EngineStore(NamedTuple):
    """A folder (made when it is first written to) and how many bytes of engines it keeps."""

    root: str
    limit_bytes: int


class Hit(NamedTuple):
    """A stored engine, checked against its identity."""

    identity: EngineIdentity
    data: bytes


class Miss(NamedTuple):
    """Why there is none, in words. `damaged`: there was one that has to go."""

    reason: str
    damaged: bool = False


class Entry(NamedTuple):
    """What a store says of one engine; `used_at_s`: when it was last found or added, seconds since 1970."""

    key: EngineKey
    identity: EngineIdentity
    used_at_s: float


def entry_name(key: EngineKey) -> str:
    """Return the file of an entry, relative to the root."""
    return "/".join(("keys", key.digest + _SUFFIX))


def blob_name(engine_sha256: str) -> str:
    """Return the file of an engine, relative to the root."""
    return "/".join(("blobs", engine_sha256))


def lock_path(store: EngineStore, name: str) -> str:
    """Return the path of a lock: of a key's digest for building, of "store" for writing."""
    return os.path.join(store.root, "locks", name + ".lock")


def encode_entry(key: EngineKey, identity: EngineIdentity) -> bytes:
    """Return the bytes of an entry's file; the identity stands in it as the text of its own file."""
    return encode_json(SCHEMA, {"key": key.to_json(), "identity": encode_identity(identity).decode("utf-8")})


def read_entry(path: str) -> Optional[Entry]:
    """Return the entry at `path`, None when there is none; raises CoopexportError when it is damaged."""
    try:
        with open(path, "rb") as file:
            data = file.read()
            used_at_s = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CoopexportError("{} cannot be read ({}); mend that first".format(path, error.strerror)) from None
    content = decode_json(data, SCHEMA, path)
    try:
        key = key_from_json(content["key"])
        # The name holds the key's digest: no changed key goes unnoticed.
        same = os.path.basename(path) == key.digest + _SUFFIX
        identity = decode_identity(content["identity"].encode("utf-8"), path)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CoopexportError("{} is no entry of a store ({!r})".format(path, error)) from None
    if not same or not is_of_key(identity, key):
        raise CoopexportError("{} is not of the key that it is named after".format(path))
    if encode_json(SCHEMA, content) != data:
        raise CoopexportError("{} is not as it was written".format(path))
    return Entry(key, identity, used_at_s)


def is_of_key(identity: EngineIdentity, key: EngineKey) -> bool:
    """Tell whether an identity says what its key says, as far as both do."""
    said = (identity.target_file_sha256, identity.backend, identity.backend_version, identity.settings)
    return said == (key.target_file_sha256, key.backend, key.backend_version, key.settings)


def load(store: EngineStore, key: EngineKey) -> Union[Hit, Miss]:
    """Return the engine that is kept under `key`, read whole and checked; a miss without words when there is none."""
    try:
        entry = read_entry(os.path.join(store.root, entry_name(key)))
    except CoopexportError as error:
        return Miss("its entry is damaged ({})".format(error), True)
    if entry is None:
        return Miss("")
    try:
        with open(os.path.join(store.root, blob_name(entry.identity.engine_sha256)), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return Miss("its file is gone", True)
    except OSError as error:
        return Miss("its file cannot be read ({})".format(error.strerror), True)
    for problem in file_problems(entry.identity, data):
        return Miss("it {}".format(problem), True)
    return Hit(entry.identity, data)


def entries(store: EngineStore) -> List[Entry]:
    """Return what is stored, the least recently used first; damaged entries are left out."""
    found = []
    for name in _names(store, "keys"):
        with contextlib.suppress(CoopexportError):
            entry = read_entry(os.path.join(store.root, "keys", name)) if name.endswith(_SUFFIX) else None
            if entry is not None:
                found.append(entry)
    return sorted(found, key=lambda entry: (entry.used_at_s, entry.key.digest))


def stored_bytes(store: EngineStore) -> int:
    """Return how many bytes lie in the store's folder of engines, leftovers of kills included."""
    return sum(_size(os.path.join(store.root, "blobs", name)) for name in _names(store, "blobs"))


def make_room(store: EngineStore, limit_bytes: int, alone: bool) -> int:
    """Remove the least recently used engines until at most `limit_bytes` are left; returns the bytes that went.

    First goes what a kill left behind: hidden files, blobs without entry, damaged entries; where nobody else can be
    writing (`alone`) at once, else when it is old.
    """
    before = stored_bytes(store)
    kept = entries(store)
    used = {entry_name(entry.key) for entry in kept} | {blob_name(entry.identity.engine_sha256) for entry in kept}
    oldest_s = time.time() if alone else time.time() - _LEFTOVER_AGE_S
    for folder in ("keys", "blobs"):
        for name in _names(store, folder):
            path = os.path.join(store.root, folder, name)
            if "/".join((folder, name)) not in used and (alone or _modified_s(path) < oldest_s):
                remove(store, path)
    total = stored_bytes(store)
    while kept and total > limit_bytes:
        oldest = kept.pop(0)
        # The entry first: a kill in between leaves a blob without entry, and never the other way round.
        remove(store, entry_name(oldest.key))
        sha256 = oldest.identity.engine_sha256
        if all(entry.identity.engine_sha256 != sha256 for entry in kept):
            path = os.path.join(store.root, blob_name(sha256))
            total -= _size(path)
            remove(store, path)
    return before - stored_bytes(store)


def remove(store: EngineStore, name: str) -> None:
    """Remove a file of the store; one that is gone, or cannot go, is left to the next time."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(store.root, name))


def _names(store: EngineStore, folder: str) -> List[str]:
    try:
        return sorted(os.listdir(os.path.join(store.root, folder)))
    except OSError:
        return []


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _modified_s(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return time.time()
