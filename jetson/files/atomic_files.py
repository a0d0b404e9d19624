"""Files that appear whole or not at all: write beside the final name, flush, rename.

A reader never sees half a file, and a full disk, a read-only mount or a kill leaves what was there
before (and, after a kill, at most a hidden `.*.part` file beside it, which nothing reads: `is_partial`).
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import tempfile
from typing import IO, Callable, Iterable, Iterator, List, Mapping, Optional, Tuple

_BLOCK_BYTES = 1 << 20
_PARTIAL = ".part"


def sha256_of_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: str) -> str:
    """Return the SHA-256 of the file at `path` in lower-case hexadecimal; raises OSError."""
    with open(path, "rb") as file:
        return sha256_of_blocks(blocks_of(file))


def sha256_of_blocks(blocks: Iterable[bytes]) -> str:
    """Return the SHA-256 of `blocks`, one after the other, in lower-case hexadecimal."""
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def blocks_of(file: IO[bytes], length_bytes: Optional[int] = None) -> Iterator[bytes]:
    """Yield what an open file holds from where it stands, in blocks of 1 MiB at most; raises OSError.

    `length_bytes`: how much of it, all by default; a file that ends earlier just ends.
    """
    while length_bytes is None or length_bytes > 0:
        block = file.read(_BLOCK_BYTES if length_bytes is None else min(_BLOCK_BYTES, length_bytes))
        if not block:
            return
        if length_bytes is not None:
            length_bytes -= len(block)
        yield block


def write_file(path: str, data: bytes) -> None:
    """Write `data` to `path` atomically, making missing folders; raises OSError as `write_files` does."""
    folder, name = os.path.split(os.path.abspath(path))
    write_files(folder, {name: data})


def write_files(folder: str, files: Mapping[str, bytes]) -> None:
    """Write several files that belong together into `folder`; the last name is the manifest.

    `files` maps names relative to `folder` (subfolders allowed) to contents. All contents are on
    the disk before the first name appears, names appear in the order given, and the manifest appears
    once the names of the others are on the disk too: it is never there without its files. New files
    get the permissions that the umask leaves.

    Raises OSError; then no new name is left behind, nor any folder that was made for it, and what
    existed is as it was, with one exception. Several renames are not one: when a rename itself fails
    (foreseeable causes, such as a folder of that name, are looked for before the first one) or the
    process is killed between two, names that existed and were already replaced keep their *new*
    contents below the *old* manifest. That is why manifests hold the hashes of their files: such a
    set is refused by whoever reads it, and writing it again mends it. Files named by their own hash
    cannot be affected. Once the manifest itself has replaced an older one, all files stay.

    Two processes that write the same names at the same time need a lock around this call: the one
    that fails would remove a new name that the other has just replaced.
    """
    folder = os.path.abspath(folder)
    made: List[str] = []
    staged: List[Tuple[str, str]] = []  # (temporary path, final path), in the order given
    new: List[str] = []
    try:
        for name, data in files.items():
            final = os.path.join(folder, name)
            _make_folders(os.path.dirname(final), made)
            staged.append((_write_beside(final, [data]), final))
        replaces = [_is_file(final) for _, final in staged]
        for index, (temporary, final) in enumerate(staged):
            is_manifest = index == len(staged) - 1
            if is_manifest:
                _flush_names([path for _, path in staged[:-1]] + made)
            if not replaces[index]:
                new.append(final)
            os.replace(temporary, final)
            if is_manifest and replaces[index]:
                new.clear()  # a manifest is in place that names them
        _flush_names([path for _, path in staged[-1:]])
    except BaseException:
        # Newest first, so that the manifest goes before its files.
        for path in [temporary for temporary, _ in staged] + new[::-1]:
            with contextlib.suppress(OSError):
                os.unlink(path)
        _remove_folders(made)
        raise


def write_blocks(folder: str, blocks: Iterable[bytes], name: Callable[[], Optional[str]]) -> None:
    """Write `blocks` to a file in `folder`, which is made if missing, one block in memory at a time.

    `name` is asked for the file's name once the content is on the disk; None: the file is not needed after all. The
    name itself survives a power cut after `flush_folder(folder)`. Raises OSError, and what `blocks` and `name` raise;
    then nothing is left behind, nor any folder that was made for it.
    """
    folder = os.path.abspath(folder)
    made: List[str] = []
    temporary = None
    try:
        _make_folders(folder, made)
        temporary = _write_beside(os.path.join(folder, "blocks"), blocks)
        _flush_names(made)
        final = name()
        if final is None:
            os.unlink(temporary)
        else:
            os.replace(temporary, os.path.join(folder, final))
    except BaseException:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        _remove_folders(made)
        raise


def flush_folder(folder: str) -> None:
    """Flush the names in `folder` to the disk, so that they survive a power cut; raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_partial(name: str) -> bool:
    """Tell whether a file is called like one that is being written, or that a kill left behind."""
    return name.startswith(".") and name.endswith(_PARTIAL)


@contextlib.contextmanager
def temporary_folder_beside(path: str) -> Iterator[str]:
    """Yield a fresh folder on the same file system as `path`, removed at the end with its contents.

    The folder that `path` lies in must exist. Raises OSError.
    """
    parent = os.path.dirname(os.path.abspath(path))
    with tempfile.TemporaryDirectory(prefix=".coopexport-", dir=parent) as folder:
        yield folder


def _make_folders(folder: str, made: List[str]) -> None:
    """Make `folder` and its missing parents, appending each one that was made to `made`."""
    missing = []
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        missing.append(folder)
        folder = os.path.dirname(folder)
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was quicker, or a file is in the way
            os.mkdir(path)
            made.append(path)


def _remove_folders(made: List[str]) -> None:
    for path in made[::-1]:
        with contextlib.suppress(OSError):  # not empty: another process uses it by now
            os.rmdir(path)


def _write_beside(final: str, blocks: Iterable[bytes]) -> str:
    """Write `blocks` to a new hidden file in the folder of `final`, flush it to the disk, return its path."""
    folder, name = os.path.split(final)
    path = os.path.join(folder, ".{}.{}{}".format(name[:40], secrets.token_hex(8), _PARTIAL))
    try:
        # Not tempfile.mkstemp: its files are for the owner alone, and the umask cannot be asked for
        # without changing it for all threads.
        with open(path, "xb") as file:
            for block in blocks:
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    return path


def _is_file(path: str) -> bool:
    """Tell whether something is at `path` that a rename replaces; raises OSError when it could not."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    return True


def _flush_names(paths: Iterable[str]) -> None:
    """Flush the folders that `paths` lie in to the disk, so that the names survive a power cut."""
    for folder in sorted({os.path.dirname(path) for path in paths}):
        flush_folder(folder)
