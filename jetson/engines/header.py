"""The first bytes of an engine file: which library wrote it, in which version, and for RTX its size and its GPUs.

Read without that library and without a GPU. TensorRT-RTX 1.7.1 notices neither another version nor another GPU
before it calls the driver, and holds no checksum.
"""

import struct
from typing import Dict, List, NamedTuple, Optional, Tuple

from jetson.errors import DamagedFileError

HEADER_BYTES = 64
# Size at 16, version at 24 and mask at 32 are inside; less is not an engine of any version.
_MIN_BYTES = 36
MAGIC: Dict[str, bytes] = {"tensorrt-rtx": b"vtrt", "tensorrt": b"ftrt"}
# Of plans before 8.6, which brought the header that is read here. trtexec's help: "--getPlanVersionOnly" is for 8.6 on;
# later runtimes refuse older plans naming their magic, 0x74727470.
OLD_ENGINE_MAGIC = b"ptrt"
_FIRST_WITH_VERSION = (8, 6)
_CAPABILITY_BITS: Dict[str, int] = {"7.5": 0x01, "8.0": 0x02, "8.6": 0x04, "8.9": 0x08, "12.0": 0x10, "12.1": 0x20}
# Versions of the library that are believed where classic TensorRT's layout is not documented for each of them.
_PLAUSIBLE_MAJORS = range(7, 100)


class EngineHeader(NamedTuple):
    """What an engine file says of itself; None where this kind of file does not say it.

    `version`: four numbers, "10.3.0.30". `total_bytes`: of the whole file. `compute_capabilities`: those that it runs
    on, as "8.9"; a bit that is not known here reads "bit 7".
    """

    backend: str
    version: Optional[str]
    total_bytes: Optional[int]
    compute_capabilities: Optional[Tuple[str, ...]]


def read_header(first_bytes: bytes) -> EngineHeader:
    """Return what the first bytes (64 suffice) of an engine say; raises CoopexportError when they are of no engine.

    Layout, little-endian: magic at 0, u32 serialisation version at 4, u64 size at 16, four version bytes at 24, u32
    mask of compute capabilities at 32; size and mask as measured on TensorRT-RTX 1.7.1. Of classic plans only the
    magic and the version are relied on, as trtexec does with `--getPlanVersionOnly` (10 and later), and the version
    only with serialisation version 0, for which that place is known. Plans of 8.5 and before do not say theirs.
    """
    backend = {magic: name for name, magic in _beginnings()}.get(bytes(first_bytes[:4]))
    if backend is None:
        raise DamagedFileError(
            "the file begins with {!r} and not like an engine ({})".format(
                bytes(first_bytes[:4]), " or ".join(repr(magic) for _, magic in _beginnings())
            )
        )
    if len(first_bytes) < _MIN_BYTES:
        raise DamagedFileError("the file ends after {} bytes, within the header".format(len(first_bytes)))
    (serialisation,) = struct.unpack_from("<I", first_bytes, 4)
    (total_bytes,) = struct.unpack_from("<Q", first_bytes, 16)
    numbers = tuple(first_bytes[24:28])
    version = ".".join(str(number) for number in numbers)
    if backend == "tensorrt":
        old = first_bytes[:4] == OLD_ENGINE_MAGIC
        known = not old and serialisation == 0 and numbers[0] in _PLAUSIBLE_MAJORS
        return EngineHeader(backend, version if known else None, None, None)
    (mask,) = struct.unpack_from("<I", first_bytes, 32)
    return EngineHeader(backend, version, total_bytes, _capabilities(mask))


def begins_like_engine(backend: str, first_bytes: bytes) -> bool:
    """Tell whether `first_bytes` (4 suffice) begin like an engine of `backend`; one without a magic takes any."""
    known = tuple(magic for name, magic in _beginnings() if name == backend)
    return not known or first_bytes.startswith(known)


def version_is_in_header(backend: str, version: str) -> bool:
    """Tell whether engines of a backend's `version` ("8.5.2.2") hold their version where it is read."""
    numbers = tuple(int(number) for number in version.split(".")[:2] if number.isdigit())
    return backend != "tensorrt" or numbers >= _FIRST_WITH_VERSION


def _beginnings() -> List[Tuple[str, bytes]]:
    return list(MAGIC.items()) + [("tensorrt", OLD_ENGINE_MAGIC)]


def _capabilities(mask: int) -> Tuple[str, ...]:
    names = {bit: name for name, bit in _CAPABILITY_BITS.items()}
    return tuple(names.get(1 << shift, "bit {}".format(shift)) for shift in range(32) if mask >> shift & 1)
