"""What an engine is: checked before it is loaded, because loading an engine runs what is in it."""

import os
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from jetson.atomic_files import sha256_of_file
from jetson.errors import CoopexportError
from jetson.json_files import encode_json, read_json

SCHEMA = "coopexport.engine/1.0"
SUFFIX = ".engine.json"

# First bytes of the file, by backend, as TensorRT-RTX 1.7.1 and TensorRT 8 to 11 write them.
MAGIC: Dict[str, bytes] = {"tensorrt-rtx": b"vtrt", "tensorrt": b"ftrt"}

_TEXT_FIELDS = (
    "engine_sha256",
    "source_sha256",
    "target_file_sha256",
    "variant",
    "layer",
    "role",
    "target",
    "backend",
    "backend_version",
    "precision",
    "platform",
    "built_at",
)
_NUMBER_FIELDS = ("engine_bytes", "batch")
_OPTIONAL_TEXT_FIELDS = ("compute_capability", "parity_reason")


class EngineIdentity(NamedTuple):
    """All that decides whether an engine may be loaded here, as `docs/formats.md` defines it.

    `inputs` and `outputs`: objects with name, dtype and shape. `parity` or `parity_reason` is absent.
    """

    engine_sha256: str
    engine_bytes: int
    source_sha256: str
    target_file_sha256: str
    variant: str
    layer: str
    role: str
    target: str
    backend: str
    backend_version: str
    compute_capability: Optional[str]
    precision: str
    batch: int
    inputs: List[Dict[str, Any]]
    outputs: List[Dict[str, Any]]
    flags: Dict[str, Any]
    platform: str
    built_at: str
    parity: Optional[List[Dict[str, Any]]] = None
    parity_reason: Optional[str] = None


def identity_path(engine_path: str) -> str:
    """Return the path of the identity that lies beside an engine."""
    return os.path.splitext(engine_path)[0] + SUFFIX


def encode_identity(identity: EngineIdentity) -> bytes:
    """Return the identity file's bytes."""
    content = {key: value for key, value in identity._asdict().items() if value is not None}
    return encode_json(SCHEMA, content)


def read_identity(engine_path: str) -> EngineIdentity:
    """Read the identity beside an engine; raises CoopexportError when it is missing or malformed."""
    path = identity_path(engine_path)
    content = read_json(path, SCHEMA)
    known = {key: value for key, value in content.items() if key in EngineIdentity._fields}
    known.setdefault("compute_capability", None)
    optional = ("parity", "parity_reason")
    missing = [field for field in EngineIdentity._fields if field not in known and field not in optional]
    if missing:
        raise CoopexportError("{} lacks {}; build the engine again".format(path, ", ".join(missing)))
    for problem in _problems(known):
        raise CoopexportError("{}: {}; build the engine again".format(path, problem))
    return EngineIdentity(**known)


def _problems(known: Dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the fields of an identity, none of which is missing."""
    for field in _TEXT_FIELDS + _OPTIONAL_TEXT_FIELDS:
        value = known.get(field)
        if not isinstance(value, str) and not (value is None and field in _OPTIONAL_TEXT_FIELDS):
            yield "{} is no text".format(field)
    for field in _NUMBER_FIELDS:
        if type(known[field]) is not int or known[field] < 1:  # True is an int as well
            yield "{} is no positive number".format(field)
    for field in ("inputs", "outputs", "parity"):
        items = [] if field == "parity" and known.get(field) is None else known[field]
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            yield "{} is no list of objects".format(field)
    if not isinstance(known["flags"], dict):
        yield "flags is no object"
    if bool(known.get("parity")) == bool(known.get("parity_reason")):
        yield "it needs parity, or parity_reason, and not both"


def check_magic(backend: str, engine: bytes) -> bool:
    """Tell whether `engine` (its first 4 bytes suffice) begins like an engine of `backend`."""
    return engine.startswith(MAGIC.get(backend, b""))


def check_engine(engine_path: str) -> EngineIdentity:
    """Return the identity of an engine whose file is what its identity says: hash, size, magic.

    Raises CoopexportError otherwise. Call it before handing the file to any runtime.
    """
    if not os.path.isfile(engine_path):
        raise CoopexportError("engine {} is missing; make it with: coopexport build".format(engine_path))
    identity = read_identity(engine_path)
    same_size = os.path.getsize(engine_path) == identity.engine_bytes
    if not same_size or sha256_of_file(engine_path) != identity.engine_sha256:
        raise CoopexportError(
            "engine {} is not the file that its identity names: do not load it; build or copy it again".format(
                engine_path
            )
        )
    with open(engine_path, "rb") as file:
        if not check_magic(identity.backend, file.read(4)):
            raise CoopexportError(
                "engine {} does not begin like an engine of {}; build it again".format(engine_path, identity.backend)
            )
    return identity
