"""Files named by the SHA-256 of what they hold, in one folder: engines, weights, what goes to a device and comes back.

What is there twice is kept once, and nobody has to trust a file: its name says what must be in it.
"""

import contextlib
import hashlib
import os
import re
import time
from typing import Collection, Iterable, Iterator, List, NamedTuple, Optional, Union

from jetson.errors import DamagedFileError
from jetson.files.atomic_files import (
    flush_folder,
    is_partial,
    sha256_of_blocks,
    sha256_of_bytes,
    sha256_of_file,
    write_blocks,
)

# Nobody writes one file for that long.
LEFTOVER_AGE_S = 3600.0
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class BlobStore(NamedTuple):
    """A folder (made when it is first written to); `suffix`: what follows the SHA-256 in a file's name, or "".

    Files of other names may lie there too: nothing here reads, counts or removes them.
    """

    folder: str
    suffix: str = ""


def is_sha256(text: object) -> bool:
    """Tell whether something is a SHA-256 in lower-case hexadecimal, and thus a file's name and nothing else."""
    return isinstance(text, str) and _SHA256.match(text) is not None


def blob_name(blobs: BlobStore, sha256: str) -> str:
    """Return how a blob's file is called in its folder; raises ValueError when `sha256` is none."""
    if not is_sha256(sha256):
        raise ValueError("{!r} is not a SHA-256".format(sha256))
    return sha256 + blobs.suffix


def blob_path(blobs: BlobStore, sha256: str) -> str:
    """Return where a blob lies, whether it is there or not; raises ValueError when `sha256` is none."""
    return os.path.join(blobs.folder, blob_name(blobs, sha256))


def sha256_of_name(blobs: BlobStore, name: str) -> Optional[str]:
    """Return the SHA-256 that a file is called by, None for a name that no blob has."""
    sha256 = name[: len(name) - len(blobs.suffix)]
    return sha256 if is_sha256(sha256) and name == sha256 + blobs.suffix else None


def verify_blob(blobs: BlobStore, sha256: str) -> bool:
    """Tell whether a blob is there and whole: it is read. Raises ValueError when `sha256` is none."""
    path = blob_path(blobs, sha256)
    try:
        return os.path.isfile(path) and sha256_of_file(path) == sha256
    except OSError:
        return False


def read_blob(blobs: BlobStore, sha256: str, size_bytes: Optional[int] = None) -> bytes:
    """Return a blob, read once and verified; `size_bytes`: how long it has to be, where that is known.

    Raises CoopexportError when it is damaged (a file of another size is not read), OSError when it is missing
    (FileNotFoundError) or cannot be read, ValueError when `sha256` is none.
    """
    path = blob_path(blobs, sha256)
    with open(path, "rb") as file:
        found_bytes = os.fstat(file.fileno()).st_size
        if size_bytes is not None and found_bytes != size_bytes:
            what = "truncated" if found_bytes < size_bytes else "too long"
            raise DamagedFileError(
                "{} is {}: {:,} bytes in place of {:,}".format(path, what, found_bytes, size_bytes), path=path
            )
        data = file.read()
    if sha256_of_bytes(data) != sha256:
        raise DamagedFileError("{} is not what its name says: it has another SHA-256".format(path), path=path)
    return data


def write_blob(blobs: BlobStore, content: Union[bytes, Iterable[bytes]], sha256: Optional[str] = None) -> str:
    """Keep `content`, the bytes or blocks of them, and return its SHA-256; `sha256`: what that has to be, if known.

    Of blocks one is in memory at a time. The file appears whole or not at all, and one that is there and whole is not
    written again; names survive a power cut after `flush_names`. Raises CoopexportError when the content is not of
    `sha256`, and OSError; then the store is as it was, as it is when the blocks raise.
    """
    if isinstance(content, bytes):
        found = _expected(sha256_of_bytes(content), sha256)
        if not verify_blob(blobs, found):
            write_blocks(blobs.folder, [content], lambda: blob_name(blobs, found))
        return found
    digest = hashlib.sha256()

    def hashed(blocks: Iterable[bytes]) -> Iterator[bytes]:
        for block in blocks:
            digest.update(block)
            yield block

    def name() -> Optional[str]:
        found = _expected(digest.hexdigest(), sha256)
        return None if verify_blob(blobs, found) else blob_name(blobs, found)

    write_blocks(blobs.folder, hashed(content), name)
    return digest.hexdigest()


def sha256_of_content(content: Union[bytes, Iterable[bytes]]) -> str:
    """Return the SHA-256 by which `write_blob` would keep `content`; nothing is written."""
    return sha256_of_bytes(content) if isinstance(content, bytes) else sha256_of_blocks(content)


def link_blob(source: BlobStore, sha256: str, blobs: BlobStore) -> None:
    """Give a blob of `source` a second name in `blobs`, which has to exist, without reading it.

    Raises OSError where the blob is missing, where `blobs` has a file of that name, on another disk, and on file
    systems without hard links.
    """
    os.link(blob_path(source, sha256), blob_path(blobs, sha256))


def flush_names(blobs: BlobStore) -> None:
    """Have the names of all blobs on the disk, before something that refers to them is written; raises OSError."""
    with contextlib.suppress(FileNotFoundError):  # none was written
        flush_folder(blobs.folder)


def list_blobs(blobs: BlobStore) -> List[str]:
    """Return the SHA-256 of all blobs, sorted, not verified; none of a folder that is missing or cannot be read."""
    found = (sha256_of_name(blobs, name) for name in _names(blobs))
    return sorted(sha256 for sha256 in found if sha256 is not None)


def remove_blob(blobs: BlobStore, sha256: str) -> int:
    """Remove a blob and return the bytes that it had; 0 when it is gone already, or cannot go now."""
    return _remove(blob_path(blobs, sha256))


def remove_leftovers(
    blobs: BlobStore, min_age_s: float = LEFTOVER_AGE_S, wanted: Optional[Collection[str]] = None
) -> int:
    """Remove what kills left behind, half-written files, and return the bytes that went.

    `min_age_s`: only files that nobody has written to for so long, or 0, where nobody else can be writing. `wanted`:
    the SHA-256 of blobs that are referred to; where it is given the others go as well.
    """
    latest_s = time.time() - min_age_s
    removed_bytes = 0
    for name in _names(blobs):
        sha256 = sha256_of_name(blobs, name)
        unwanted = sha256 is not None and wanted is not None and sha256 not in wanted
        path = os.path.join(blobs.folder, name)
        if (unwanted or is_partial(name)) and (min_age_s <= 0 or modified_s(path) < latest_s):
            removed_bytes += _remove(path)
    return removed_bytes


def total_bytes(blobs: BlobStore) -> int:
    """Return how many bytes all blobs have, half-written files of kills included."""
    names = (name for name in _names(blobs) if is_partial(name) or sha256_of_name(blobs, name) is not None)
    return sum(_size(os.path.join(blobs.folder, name)) for name in names)


def modified_s(path: str) -> float:
    """Return when a file was written to, in seconds since 1970; now for one that is gone."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return time.time()


def _expected(found: str, sha256: Optional[str]) -> str:
    if sha256 is not None and found != sha256:
        raise DamagedFileError("what was to be kept as {} has another SHA-256, {}".format(sha256, found))
    return found


def _names(blobs: BlobStore) -> List[str]:
    try:
        return os.listdir(blobs.folder)
    except OSError:
        return []


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _remove(path: str) -> int:
    size_bytes = _size(path)
    try:
        os.unlink(path)
    except OSError:
        return 0
    return size_bytes
