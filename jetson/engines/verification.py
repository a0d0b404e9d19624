"""Whether an engine may be loaded here: decided from its identity, its header and its hash, before any runtime sees it.

The bytes that were hashed are handed over: nothing is read a second time between check and load.
"""

import os
from typing import Iterator, List, NamedTuple, Optional, Tuple

from jetson.engines.header import MAGIC, OLD_ENGINE_MAGIC, read_header, version_is_in_header
from jetson.engines.identity import BACKEND_NAMES, EngineIdentity, read_identity
from jetson.engines.machine import Machine
from jetson.errors import DamagedFileError, InputError, StaleError, UnsupportedError
from jetson.files.atomic_files import sha256_of_bytes

# Its engine is the ONNX file itself: any version, system and processor loads it.
_PORTABLE = "onnxruntime"


class Expected(NamedTuple):
    """What the engine should be; None where anything will do. `batch`: samples at a time that it has to take."""

    backend: Optional[str] = None
    target: Optional[str] = None
    variant: Optional[str] = None
    layer: Optional[str] = None
    role: Optional[str] = None
    source_sha256: Optional[str] = None
    target_file_sha256: Optional[str] = None
    precision: Optional[str] = None
    batch: Optional[int] = None


def verify_engine(engine_path: str, machine: Machine, expected: Expected) -> Tuple[EngineIdentity, bytes]:
    """Return an engine's identity and its bytes when it may be loaded on `machine` and is the one that is `expected`.

    Raises CoopexportError with one sentence: what is here, what the engine is, what to do. What `machine` does not
    know is not compared; `unchecked` lists it.
    """
    identity, data = read_engine(engine_path)
    for difference in describe_incompatibility(identity, machine):
        raise UnsupportedError(
            "engine {}: {}".format(engine_path, difference), path=engine_path, fix=_advice(identity, machine)
        )
    for difference in describe_mismatch(identity, expected):
        raise StaleError(
            "engine {} {}".format(engine_path, difference), path=engine_path, fix=_advice(identity, machine)
        )
    return identity, data


def read_engine(engine_path: str) -> Tuple[EngineIdentity, bytes]:
    """Return identity and bytes of an engine whose file is what its identity says: size, header, hash.

    Says nothing about whether it runs here. Raises CoopexportError.
    """
    if not os.path.isfile(engine_path):
        raise StaleError(
            "engine {} is missing".format(engine_path), path=engine_path, fix="make it with: coopexport build"
        )
    identity = read_identity(engine_path)
    data, size_bytes = _read(engine_path, identity.engine_bytes)
    for problem in file_problems(identity, data, size_bytes):
        raise DamagedFileError(
            "engine {} {}: do not load it".format(engine_path, problem),
            path=engine_path,
            fix="build it again, or copy engine and identity again",
        )
    return identity, data


def file_problems(identity: EngineIdentity, data: bytes, size_bytes: Optional[int] = None) -> Iterator[str]:
    """Yield why bytes are not the engine that an identity names: size, header, SHA-256.

    `size_bytes`: of the whole file, where `data` holds only its beginning.
    """
    size_bytes = len(data) if size_bytes is None else size_bytes
    if size_bytes != identity.engine_bytes:
        what = "truncated" if size_bytes < identity.engine_bytes else "too long"
        yield "is {} ({:,} bytes, its identity says {:,})".format(what, size_bytes, identity.engine_bytes)
    for problem in header_problems(identity, data):
        yield problem
    if sha256_of_bytes(data) != identity.engine_sha256:
        yield "is not the file that its identity names (another SHA-256)"


def header_problems(identity: EngineIdentity, data: bytes) -> Iterator[str]:
    """Yield how the beginning of an engine's file says something else than its identity does."""
    if identity.backend not in MAGIC:
        return
    name = BACKEND_NAMES[identity.backend]
    try:
        header = read_header(data)
    except DamagedFileError as error:
        yield "does not begin like an engine of {} ({})".format(name, error)
        return
    if header.backend != identity.backend:
        yield "does not begin like an engine of {} but like one of {}".format(name, BACKEND_NAMES[header.backend])
        return
    believed = version_is_in_header(identity.backend, identity.backend_version)
    if believed and data.startswith(OLD_ENGINE_MAGIC):
        yield "begins like an engine of {} before 8.6, its identity says {}".format(name, identity.backend_version)
    if believed and header.version is not None and not same_version(header.version, identity.backend_version):
        yield "was written by {} {}, its identity says {}".format(name, header.version, identity.backend_version)
    if header.total_bytes is not None and header.total_bytes != identity.engine_bytes:
        yield "is of {:,} bytes by its header, its identity says {:,}".format(header.total_bytes, identity.engine_bytes)
    if header.compute_capabilities is not None and set(header.compute_capabilities) != set(
        identity.compute_capabilities
    ):
        yield "is for SM {} by its header, its identity says {}".format(
            _listed(header.compute_capabilities), _listed(identity.compute_capabilities)
        )


def describe_incompatibility(identity: EngineIdentity, machine: Machine) -> List[str]:
    """Return all reasons why the engine does not run on `machine`, each in words; empty when none is known."""
    return list(_mismatches(identity, machine))


def describe_mismatch(identity: EngineIdentity, expected: Expected) -> List[str]:
    """Return all reasons why the engine is another one than the expected; empty when it is that one."""
    return list(_differences(identity, expected))


def unchecked(identity: EngineIdentity, machine: Machine) -> List[str]:
    """Return in words what could not be compared, or differs without being a reason to refuse."""
    return list(_unchecked(identity, machine))


def same_version(one: str, other: str) -> bool:
    """Tell whether two versions agree in all numbers that both have: trtexec tells three of TensorRT's four."""
    numbers, others = one.split("."), other.split(".")
    count = min(len(numbers), len(others))
    return numbers[:count] == others[:count]


def same_l4t(one: str, other: str) -> bool:
    """Tell whether two versions of Jetson Linux ("36.4.3") agree in the first two numbers, which fix the libraries."""
    return one.split(".")[:2] == other.split(".")[:2]


def _read(path: str, max_bytes: int) -> Tuple[bytes, int]:
    """Return the file's content, read once, and its size; of a file that is too long only the beginning."""
    try:
        with open(path, "rb") as file:
            data = file.read(max_bytes + 1)
            return data, len(data) if len(data) <= max_bytes else os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(
            "engine {} cannot be read ({})".format(path, error.strerror), path=path, fix="fix that first"
        ) from None


def _mismatches(identity: EngineIdentity, machine: Machine) -> Iterator[str]:
    if identity.backend not in BACKEND_NAMES:
        yield "its backend {} is not known to this version of coopexport".format(identity.backend)
        return
    name = BACKEND_NAMES[identity.backend]
    here = machine.backends.get(identity.backend)
    if machine.backends and here is None:
        yield "no usable {} here, engine built by {}".format(name, identity.backend_version)
    if identity.backend == _PORTABLE:
        return
    if here is not None and not same_version(here, identity.backend_version):
        yield "{} {} here, engine built by {}".format(name, here, identity.backend_version)
    capability = machine.compute_capability
    if capability is not None and identity.compute_capabilities and capability not in identity.compute_capabilities:
        yield "SM {} here, engine built for {}".format(capability, _listed(identity.compute_capabilities))
    built_on = identity.machine
    if machine.platform != built_on.platform:
        yield "{} here, engine built on {}".format(machine.platform, built_on.platform)
    if machine.l4t is not None and built_on.l4t is not None and not same_l4t(machine.l4t, built_on.l4t):
        yield "L4T {} here, engine built on {}".format(machine.l4t, built_on.l4t)
    other_board = None not in (machine.board, built_on.board) and machine.board != built_on.board
    if identity.settings.dla_core is not None and other_board:
        yield "{} here, engine built for the DLA of {}".format(machine.board, built_on.board)


def _differences(identity: EngineIdentity, expected: Expected) -> Iterator[str]:
    """Yield how the engine is another one than the expected."""
    for field in ("backend", "target", "variant", "layer", "role", "precision"):
        wanted, found = getattr(expected, field), getattr(identity, field)
        if wanted is not None and wanted != found:
            yield "is another one: needed is {} {}, its identity says {}".format(field, wanted, found)
    min_batch, _, max_batch = identity.batches
    if expected.batch is not None and not min_batch <= expected.batch <= max_batch:
        takes = "{} to {}".format(min_batch, max_batch) if min_batch != max_batch else str(min_batch)
        yield "takes batches of {}, needed is {}".format(takes, expected.batch)
    if expected.source_sha256 not in (None, identity.source_sha256):
        yield "was built from another or older {} of {} than the one here".format(identity.role, identity.layer)
    if expected.target_file_sha256 not in (None, identity.target_file_sha256):
        yield "was built from another file for {} than this version makes of the {} of {}".format(
            identity.target, identity.role, identity.layer
        )


def _unchecked(identity: EngineIdentity, machine: Machine) -> Iterator[str]:
    name = BACKEND_NAMES.get(identity.backend, identity.backend)
    here = machine.backends.get(identity.backend)
    built_on = identity.machine
    if here is None:
        yield "the version of {} here is not known, engine built by {}".format(name, identity.backend_version)
    elif identity.backend == _PORTABLE and here != identity.backend_version:
        done = "checked with" if identity.parity else "built by"
        yield "{} {} here, engine {} {}".format(name, here, done, identity.backend_version)
    elif len(here.split(".")) != len(identity.backend_version.split(".")):
        yield "{} {} here, engine built by {}: only what both say was compared".format(
            name, here, identity.backend_version
        )
    if identity.backend == _PORTABLE:
        if machine.platform != built_on.platform:
            done = "checked" if identity.parity else "built and not checked"
            yield "{} here, engine {} on {}".format(machine.platform, done, built_on.platform)
        return
    if machine.compute_capability is None or not identity.compute_capabilities:
        yield "SM {} here, engine built for {}".format(
            machine.compute_capability or "not known", ", ".join(identity.compute_capabilities) or "one not known"
        )
    if (machine.l4t is None) != (built_on.l4t is None):
        yield "L4T {} here, engine built on {}".format(machine.l4t or "not known", built_on.l4t or "one not known")
    for device, other in ((machine.board, built_on.board), (machine.gpu, built_on.gpu)):
        # Same chip or SM, so it runs; its kernels were chosen for the speed of the other one.
        if identity.backend == "tensorrt" and None not in (device, other) and device != other:
            yield "{} here, engine tuned on {}".format(device, other)


def _advice(identity: EngineIdentity, machine: Machine) -> str:
    """Return what to do about an engine that does not belong here."""
    if machine.l4t is not None or machine.board is not None:
        return (
            "build it again on this device: python3 coop-agent.pyz build (or coopexport build --target {} --device "
            "user@host)".format(identity.target)
        )
    return "build it again: coopexport build --target {}".format(identity.target)


def _listed(names: Tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
