"""The files of a store of engines: how they are named, read, listed and removed.

<root>/blobs/<SHA-256>         engines (jetson.store.blobs)
<root>/keys/<key digest>.json  what each is the engine of: the key, and the identity
<root>/locks/                  locks, while they are held
"""

import contextlib
import os
import time
from typing import List, NamedTuple, Optional, Union

from jetson.engines.identity import EngineIdentity, decode_identity, encode_identity
from jetson.engines.verification import header_problems
from jetson.errors import DamagedFileError, InputError
from jetson.files.atomic_files import is_partial
from jetson.files.json_files import decode_json, encode_json
from jetson.store.blobs import (
    LEFTOVER_AGE_S,
    BlobStore,
    is_sha256,
    modified_s,
    read_blob,
    remove_blob,
    remove_leftovers,
    total_bytes,
)
from jetson.store.key import EngineKey, key_from_json

SCHEMA = "coopexport.stored-engine/1.0"
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


def engine_blobs(store: EngineStore) -> BlobStore:
    """Return where a store's engines lie."""
    return BlobStore(os.path.join(store.root, "blobs"))


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
        raise InputError(
            "{} cannot be read ({})".format(path, error.strerror), path=path, fix="fix that first"
        ) from None
    content = decode_json(data, SCHEMA, path)
    try:
        key = key_from_json(content["key"])
        # The name holds the key's digest: no changed key goes unnoticed.
        same = os.path.basename(path) == key.digest + _SUFFIX
        identity = decode_identity(content["identity"].encode("utf-8"), path)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedFileError("{} is not an entry of a store ({!r})".format(path, error), path=path) from None
    if not same or not is_of_key(identity, key):
        raise DamagedFileError("{} is not of the key that it is named after".format(path), path=path)
    if encode_json(SCHEMA, content) != data:
        raise DamagedFileError("{} is not as it was written".format(path), path=path)
    return Entry(key, identity, used_at_s)


def is_of_key(identity: EngineIdentity, key: EngineKey) -> bool:
    """Tell whether an identity says what its key says, as far as both do."""
    said = (identity.target_file_sha256, identity.backend, identity.backend_version, identity.settings)
    return said == (key.target_file_sha256, key.backend, key.backend_version, key.settings)


def load(store: EngineStore, key: EngineKey) -> Union[Hit, Miss]:
    """Return the engine that is kept under `key`, read whole and checked; a miss without words when there is none."""
    try:
        entry = read_entry(os.path.join(store.root, entry_name(key)))
    except (DamagedFileError, InputError) as error:
        return Miss("its entry is damaged ({})".format(error), True)
    if entry is None:
        return Miss("")
    identity = entry.identity
    try:
        data = read_blob(engine_blobs(store), identity.engine_sha256, identity.engine_bytes)
    except FileNotFoundError:
        return Miss("its file is gone", True)
    except OSError as error:
        return Miss("its file cannot be read ({})".format(error.strerror), True)
    except DamagedFileError as error:
        return Miss("it is damaged ({})".format(error), True)
    for problem in header_problems(identity, data):
        return Miss("it {}".format(problem), True)
    return Hit(identity, data)


def entries(store: EngineStore) -> List[Entry]:
    """Return what is stored, the least recently used first; damaged entries are left out."""
    found = []
    for name in _key_files(store):
        with contextlib.suppress(DamagedFileError, InputError):
            entry = read_entry(os.path.join(store.root, "keys", name)) if name.endswith(_SUFFIX) else None
            if entry is not None:
                found.append(entry)
    return sorted(found, key=lambda entry: (entry.used_at_s, entry.key.digest))


def stored_bytes(store: EngineStore) -> int:
    """Return how many bytes the store's engines have, leftovers of kills included."""
    return total_bytes(engine_blobs(store))


def make_room(store: EngineStore, limit_bytes: int, alone: bool) -> int:
    """Remove the least recently used engines until at most `limit_bytes` are left; returns the bytes that went.

    First goes what a kill left behind: half-written files, engines without entry, damaged entries; where nobody else
    can be writing (`alone`) at once, else when it is old.
    """
    before = stored_bytes(store)
    stored = entries(store)
    listed = {entry_name(entry.key) for entry in stored}
    latest_s = time.time() - LEFTOVER_AGE_S
    for name in (os.path.join("keys", name) for name in _key_files(store)):
        if name not in listed and (alone or modified_s(os.path.join(store.root, name)) < latest_s):
            remove(store, name)
    blobs = engine_blobs(store)
    remove_leftovers(blobs, 0.0 if alone else LEFTOVER_AGE_S, {entry.identity.engine_sha256 for entry in stored})
    total = stored_bytes(store)
    while stored and total > limit_bytes:
        oldest = stored.pop(0)
        # The entry first: a kill in between leaves a blob without entry, and never the other way round.
        remove(store, entry_name(oldest.key))
        sha256 = oldest.identity.engine_sha256
        if all(entry.identity.engine_sha256 != sha256 for entry in stored):
            total -= remove_blob(blobs, sha256)
    return before - stored_bytes(store)


def remove(store: EngineStore, name: str) -> None:
    """Remove the file of an entry; one that is gone, or cannot go, is left to the next time."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(store.root, name))


def _key_files(store: EngineStore) -> List[str]:
    """Return the names of entries, and of what kills left beside them; files of other names are not the store's."""
    try:
        names = sorted(os.listdir(os.path.join(store.root, "keys")))
    except OSError:
        return []
    return [name for name in names if is_partial(name) or (name.endswith(_SUFFIX) and is_sha256(name[: -len(_SUFFIX)]))]
