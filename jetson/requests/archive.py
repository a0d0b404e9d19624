"""A manifest with the files that it names, carried as one zip file or as a manifest beside a folder of files.

Files are called by their SHA-256 alone, `blobs/<sha256>`, and their hash is checked whenever one is read: what is
carried twice is there once, what is there already need not be carried, and no name in an archive chooses a path.
"""

import json
import os
import zipfile
from typing import Any, BinaryIO, Dict, Iterable, List, NamedTuple, Set, Tuple

from jetson.errors import DamagedFileError, InputError
from jetson.files.atomic_files import sha256_of_bytes, temporary_folder_beside, write_file
from jetson.files.json_files import encode_json, same_major
from jetson.store.blobs import BlobStore, flush_names, is_sha256, read_blob, write_blob

BLOBS_FOLDER = "blobs"
ZIP_SUFFIX = ".zip"
_MAX_MANIFEST_BYTES = 64 << 20
# Equal contents give equal bytes: the earliest date that a zip file knows, and plain permissions.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_PERMISSIONS = 0o644 << 16


class Archive(NamedTuple):
    """An archive that was opened. `content`: its manifest, without `schema`; `sha256`: of the manifest's bytes."""

    path: str
    content: Dict[str, Any]
    sha256: str


def write_archive(path: str, manifest_name: str, schema: str, content: Dict[str, Any],
                 blobs: Iterable[Tuple[str, bytes]]) -> str:  # fmt: skip
    """Write an archive to `path`, whole or not at all; return the SHA-256 of its manifest.

    A path that ends in ".zip" becomes one file; any other is the manifest, and `blobs` the folder beside it. `blobs`:
    (SHA-256, bytes) of each file, taken one at a time. Raises OSError, and CoopexportError when bytes are not of their
    SHA-256.
    """
    manifest = encode_json(schema, content)
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    if not path.endswith(ZIP_SUFFIX):
        beside = blobs_beside(path)
        for sha256, data in blobs:
            write_blob(beside, data, sha256)
        flush_names(beside)
        write_file(path, manifest)
        return sha256_of_bytes(manifest)
    with temporary_folder_beside(path) as temporary:
        partial = os.path.join(temporary, "archive")
        with open(partial, "wb") as file:
            _write_zip(file, manifest_name, manifest, blobs)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    return sha256_of_bytes(manifest)


def blobs_beside(path: str) -> BlobStore:
    """Return where the files of an archive lie whose manifest is the file `path`."""
    return BlobStore(os.path.join(os.path.dirname(os.path.abspath(path)), BLOBS_FOLDER))


def open_archive(path: str, manifest_name: str, schema: str) -> Archive:
    """Open an archive and read its manifest; files are read, and checked, when they are asked for.

    Raises CoopexportError when it is missing or damaged, holds a name that does not belong there, or is of another
    schema.
    """
    if path.endswith(ZIP_SUFFIX):
        manifest = _manifest_of_zip(path, manifest_name)
    else:
        try:
            with open(path, "rb") as file:
                manifest = file.read(_MAX_MANIFEST_BYTES)
        except OSError as error:
            raise InputError(
                "{} cannot be read ({})".format(path, error.strerror), path=path, fix="check the path"
            ) from None
    try:
        content = json.loads(manifest.decode("utf-8"))
        found = str(content.pop("schema"))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):  # brackets in brackets in ...
        raise _damaged(path, "its {} is not a manifest".format(manifest_name)) from None
    if not same_major(found, schema):
        raise DamagedFileError(
            "{} is of schema {}, this version reads {}: use the same coopexport for both sides".format(
                path, found, schema
            ),
            path=path,
        )
    return Archive(path, content, sha256_of_bytes(manifest))


def read_member(archive: Archive, sha256: str, size_bytes: int) -> bytes:
    """Return one file of an archive; raises CoopexportError when it is missing, or its size or hash is not that."""
    if not is_sha256(sha256):
        raise _damaged(archive.path, '"{}" is not a hash'.format(sha256))
    try:
        if archive.path.endswith(ZIP_SUFFIX):
            return _member_of_zip(archive.path, sha256, size_bytes)
        return read_blob(blobs_beside(archive.path), sha256, size_bytes)
    except (KeyError, FileNotFoundError):
        raise _damaged(archive.path, "it lacks the file {}".format(sha256[:12])) from None
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise _damaged(archive.path, str(error)) from None
    except DamagedFileError:
        raise _damaged(archive.path, "the file {} is not what its name says".format(sha256[:12])) from None


def _manifest_of_zip(path: str, manifest_name: str) -> bytes:
    """Return the manifest of a zip file after looking at every name and size in it."""
    try:
        with zipfile.ZipFile(path) as zip_file:
            members = zip_file.infolist()
            _reject_unknown_members(path, members, manifest_name)
            if zip_file.getinfo(manifest_name).file_size > _MAX_MANIFEST_BYTES:
                raise _damaged(path, "its {} is too large".format(manifest_name))
            return zip_file.read(manifest_name)
    except FileNotFoundError:
        raise InputError("{} is missing".format(path), path=path, fix="check the path") from None
    except KeyError:
        raise _damaged(path, "there is no {} in it".format(manifest_name)) from None
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise _damaged(path, str(error)) from None


def _member_of_zip(path: str, sha256: str, size_bytes: int) -> bytes:
    """Return one file out of a zip file; raises CoopexportError when it is not that, KeyError when it is not there."""
    name = _member_name(sha256)
    with zipfile.ZipFile(path) as zip_file, zip_file.open(name) as file:
        data = file.read(size_bytes + 1)
    if len(data) != size_bytes or sha256_of_bytes(data) != sha256:
        raise DamagedFileError("{} is not what its name says".format(name))
    return data


def _member_name(sha256: str) -> str:
    """Return how a file is called in a zip file: as it is in a folder."""
    return "{}/{}".format(BLOBS_FOLDER, sha256)


def _is_member_name(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return folder == BLOBS_FOLDER and is_sha256(file)


def _reject_unknown_members(path: str, members: List[zipfile.ZipInfo], manifest_name: str) -> None:
    """Refuse names that no archive has, such as ../../.bashrc, names that are there twice, and compressed files."""
    seen: Set[str] = set()
    for member in members:
        if member.filename != manifest_name and not _is_member_name(member.filename):
            raise _damaged(path, '"{}" does not belong there'.format(member.filename[:80]))
        if member.filename in seen:
            raise _damaged(path, "{} is there twice".format(member.filename))
        if member.compress_type != zipfile.ZIP_STORED:
            raise _damaged(path, "{} is compressed, which no version writes".format(member.filename))
        seen.add(member.filename)


def _write_zip(file: BinaryIO, manifest_name: str, manifest: bytes, blobs: Iterable[Tuple[str, bytes]]) -> None:
    """Write manifest and files as members, each once; raises OSError, and CoopexportError as `write_archive` does."""
    zip_file = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)
    try:
        _add(zip_file, manifest_name, manifest)
        written: Set[str] = set()
        for sha256, data in blobs:
            if sha256 not in written:
                written.add(sha256)
                if sha256_of_bytes(data) != sha256:
                    raise DamagedFileError("what was to be kept as {} has another SHA-256".format(sha256))
                _add(zip_file, _member_name(sha256), data)
        zip_file.close()
    except BaseException:
        zip_file.fp = None  # closing it after a full disk fails again, with other words
        raise


def _add(zip_file: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name, _ZIP_DATE)
    member.external_attr = _PERMISSIONS
    zip_file.writestr(member, data)


def _damaged(path: str, what: str) -> DamagedFileError:
    return DamagedFileError("{} is damaged: {}".format(path, what), path=path, fix="copy or make it again")
