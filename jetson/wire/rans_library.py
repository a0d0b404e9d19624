"""rans.c as a shared library: compiled once with the compiler that is there, kept in the user's cache folder.

The cache is used only where its folder is the user's own and closed to others (0700): whoever could write
there could run code as this user. Otherwise every process compiles for itself. Files are written under
another name and renamed, so that processes that start together do not see halves of each other's.
"""

import ctypes
import functools
import hashlib
import os
import pkgutil
import platform
import secrets
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from typing import Any, List, NamedTuple, Optional, Tuple

import numpy as np

from jetson.errors import one_line
from jetson.wire.contexts import context_map, cumulative_frequencies, tables_of_planes
from jetson.wire.rans_python import STATE_BYTES
from jetson.wire.symbol_model import PROBABILITY_BITS, SymbolModel

HOW_TO_GET_A_COMPILER = "install one (on Debian and Ubuntu: apt-get install gcc libc6-dev), or set CC"
_FLAGS = ("-O2", "-shared", "-fPIC")
_COMPILE_TIMEOUT_S = 60
_BUCKET_BITS = 8  # as in rans.c
_INTEGER, _ADDRESS = ctypes.c_int64, ctypes.c_void_p
_ENCODE_ARGUMENTS = (
    _ADDRESS, _INTEGER, _INTEGER, _INTEGER, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _INTEGER, _ADDRESS, _ADDRESS,
    _INTEGER,
)  # fmt: skip
_DECODE_ARGUMENTS = (
    _ADDRESS, _INTEGER, _ADDRESS, _INTEGER, _INTEGER, _INTEGER, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS, _INTEGER,
    _ADDRESS, _ADDRESS,
)  # fmt: skip


class LibraryError(Exception):
    """Why rans.c cannot run here, in words."""


class _Tables(NamedTuple):
    """What rans.c takes, see there: the addresses hold as long as the arrays do."""

    arrays: Tuple[np.ndarray, ...]
    of_prediction: int
    of_activity: int
    context_counts: int
    cumulative: int
    first: int


@functools.lru_cache(maxsize=512)  # one for each cut of a large network, where all are timed in turn
def _tables(model: SymbolModel) -> _Tables:
    cumulative = cumulative_frequencies(model)
    buckets = np.arange(1 << _BUCKET_BITS) << (PROBABILITY_BITS - _BUCKET_BITS)
    first = np.stack([np.searchsorted(row[1:], buckets, side="right") for row in cumulative]).astype(np.uint8)
    of = context_map(model)
    counts = np.array(of.context_counts, np.uint16)
    arrays = (of.of_prediction, np.ascontiguousarray(of.of_activity), counts, cumulative.astype(np.uint16), first)
    return _Tables(arrays, *[array.ctypes.data for array in arrays])


class _OfPlanes(NamedTuple):
    """The table of each plane, and where that array is."""

    tables: np.ndarray
    address: int


@functools.lru_cache(maxsize=512)
def _of_planes(model: SymbolModel, planes: int) -> _OfPlanes:
    tables = np.ascontiguousarray(tables_of_planes(model, planes))
    return _OfPlanes(tables, tables.ctypes.data)


class RansLibrary:
    """The two functions of rans.c on arrays; the same bytes and the same answers as rans_python's."""

    def __init__(self, library: Any) -> None:
        self._encode, self._decode = library.coopexport_rans_encode, library.coopexport_rans_decode
        self._encode.argtypes, self._decode.argtypes = _ENCODE_ARGUMENTS, _DECODE_ARGUMENTS
        self._encode.restype = self._decode.restype = _INTEGER

    def encode(self, symbols: np.ndarray, model: SymbolModel) -> bytes:
        """Return the code of `symbols`, C-contiguous uint8 planes x height x width, each below 2^bits.

        Raises ValueError for a symbol that is not.
        """
        tables = _tables(model)
        # No frequency is below 1 of 2^15: no symbol sheds more than one word of 16 bits.
        buffer = np.empty(2 * symbols.size + STATE_BYTES, np.uint8)
        planes, height, width = symbols.shape
        of_planes = _of_planes(model, planes)
        size_bytes = self._encode(
            symbols.ctypes.data, planes, height, width, of_planes.address, tables.of_prediction, tables.of_activity,
            tables.context_counts, 1 << model.bits, tables.cumulative, buffer.ctypes.data, buffer.size,
        )  # fmt: skip
        if size_bytes < 0:
            raise ValueError("a symbol is not below {}".format(1 << model.bits))
        return buffer[buffer.size - size_bytes :].tobytes()

    def decode(self, coded: bytes, shape: Tuple[int, int, int], model: SymbolModel) -> Tuple[int, np.ndarray]:
        """Return (0, symbols), uint8 planes x height x width, or (the reason's number, symbols that mean nothing)."""
        tables = _tables(model)
        symbols, of_planes = np.empty(shape, np.uint8), _of_planes(model, shape[0])
        source = np.frombuffer(coded or b"\0", np.uint8)  # older NumPy takes no empty bytes
        problem = self._decode(
            source.ctypes.data, len(coded), symbols.ctypes.data, shape[0], shape[1], shape[2], of_planes.address,
            tables.of_prediction, tables.of_activity, tables.context_counts, 1 << model.bits, tables.cumulative,
            tables.first,
        )  # fmt: skip
        return int(problem), symbols


def load_library() -> RansLibrary:
    """Return rans.c compiled and loaded; raises LibraryError with the reason where that cannot be done."""
    source = pkgutil.get_data("jetson.wire", "rans.c")
    if source is None:
        raise LibraryError("rans.c is missing from this installation")
    compiler = _find_compiler()
    name = "rans-{}.so".format(_identity(source, compiler))
    folder = _cache_folder()
    if folder is not None:
        path = os.path.join(folder, name)
        try:
            if not os.path.exists(path):
                _compile(compiler, source, path)
            return RansLibrary(ctypes.CDLL(path))
        except (OSError, AttributeError, LibraryError):
            pass  # a full disk, a mount that forbids execution, a file of another machine: compile for this process
    try:
        with tempfile.TemporaryDirectory(prefix="coopexport-rans-") as own:
            path = os.path.join(own, name)
            _compile(compiler, source, path)
            return RansLibrary(ctypes.CDLL(path))  # stays loaded when the file is gone
    except (OSError, AttributeError) as error:
        raise LibraryError("the compiled rans.c cannot be loaded: {}".format(one_line(error))) from None


def _find_compiler() -> List[str]:
    """Return the command of the first C compiler that is there: $CC, cc, gcc, clang."""
    try:
        chosen = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise LibraryError("CC is {!r}: {}".format(os.environ["CC"], one_line(error))) from None
    candidates = [chosen, ["cc"], ["gcc"], ["clang"]]
    for candidate in candidates:
        path: Optional[str] = shutil.which(candidate[0]) if candidate else None
        if path is not None:
            return [path] + candidate[1:]
    raise LibraryError("there is no C compiler ($CC, cc, gcc, clang)")


def _identity(source: bytes, compiler: List[str]) -> str:
    """Return a hash of all that the compiled file depends on."""
    found = os.stat(compiler[0])
    parts = (compiler, os.path.realpath(compiler[0]), found.st_size, found.st_mtime, _FLAGS, platform.machine(),
             sys.maxsize)  # fmt: skip
    return hashlib.sha256(repr(parts).encode("utf-8") + b"\0" + source).hexdigest()[:32]


def _cache_folder() -> Optional[str]:
    """Return the folder for compiled files, made where it is missing, or None where it cannot be trusted."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(base):
        return None
    folder = os.path.join(base, "coopexport")
    try:
        os.makedirs(base, exist_ok=True)
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
        found = os.lstat(folder)
    except OSError:
        return None
    closed = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return folder if closed else None


def _compile(compiler: List[str], source: bytes, path: str) -> None:
    """Compile `source` to the shared library `path`, which appears whole; raises OSError or LibraryError."""
    temporary = "{}.{}.part".format(path, secrets.token_hex(8))
    command = compiler + list(_FLAGS) + ["-x", "c", "-", "-o", temporary]
    try:
        try:
            finished = subprocess.run(
                command,
                input=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_COMPILE_TIMEOUT_S,
                env=dict(os.environ, LC_ALL="C"),
            )
        except subprocess.TimeoutExpired:
            raise LibraryError("{} did not end within {} s".format(compiler[0], _COMPILE_TIMEOUT_S)) from None
        if finished.returncode != 0:
            said = one_line(finished.stdout.decode("utf-8", "replace"))[-300:]
            raise LibraryError("{} fails: {}".format(compiler[0], said))
        os.rename(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
