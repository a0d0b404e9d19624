"""What an engine is: checked before it is loaded, because loading an engine runs what is in it."""

import json
import os
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from jetson.engines.build_settings import BuildSettings, settings_from_json
from jetson.engines.machine import Machine, machine_from_json
from jetson.errors import DamagedFileError, InputError, StaleError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.files.json_files import decode_json, encode_json

SCHEMA = "coopexport.engine/2.0"
SUFFIX = ".engine.json"
BACKEND_NAMES = {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT-RTX", "onnxruntime": "ONNX Runtime"}

_DIGEST = "identity_sha256"
_TEXT_FIELDS = (
    "engine_sha256",
    "source_sha256",
    "target_file_sha256",
    "golden_sha256",
    "variant",
    "layer",
    "role",
    "target",
    "backend",
    "backend_version",
    "builder",
    "coopexport_version",
    "built_at",
)
_OPTIONAL_FIELDS = ("parity", "parity_reason")


class EngineIdentity(NamedTuple):
    """All that decides whether an engine may be loaded, and all that is known of how it came to be.

    `docs/formats.md` defines the fields. `compute_capabilities`: those that it runs on, none for ONNX Runtime.
    `settings`: what the builder was told; `flags`: what it made of that. `builder`: "tensorrt module", "trtexec",
    "tensorrt-rtx module", "onnxruntime". `machine`: where it was built. `inputs` and `outputs`: objects with name,
    dtype and shape. `build_seconds`: time in the builder alone. `parity` or `parity_reason` is None; `parity` holds
    what `run_on` returns.
    """

    engine_sha256: str
    engine_bytes: int
    source_sha256: str
    target_file_sha256: str
    golden_sha256: str
    variant: str
    layer: str
    role: str
    target: str
    backend: str
    backend_version: str
    compute_capabilities: Tuple[str, ...]
    settings: BuildSettings
    flags: Dict[str, Any]
    builder: str
    coopexport_version: str
    machine: Machine
    inputs: List[Dict[str, Any]]
    outputs: List[Dict[str, Any]]
    built_at: str
    build_seconds: float
    parity: Optional[List[Dict[str, Any]]] = None
    parity_reason: Optional[str] = None

    @property
    def precision(self) -> str:
        """Return "fp32", "fp16" or "int8"."""
        return self.settings.precision

    @property
    def batches(self) -> Tuple[int, int, int]:
        """Return min, opt and max samples at a time."""
        return self.settings.batches

    def to_json(self) -> Dict[str, Any]:
        """Return the identity as its file holds it, without schema and digest."""
        content = dict(self._asdict())
        content["compute_capabilities"] = list(self.compute_capabilities)
        content["settings"] = self.settings.to_json()
        content["machine"] = self.machine.to_json()
        return {key: value for key, value in content.items() if value is not None}


def for_another_owner(
    identity: EngineIdentity,
    variant: str,
    layer: str,
    role: str,
    target: str,
    source_sha256: str,
    golden_sha256: str,
) -> EngineIdentity:
    """Return the identity of the same engine for another network that is built from the same file.

    With other golden data nothing is known of its parity until it is checked with them.
    """
    again = identity._replace(
        variant=variant,
        layer=layer,
        role=role,
        target=target,
        source_sha256=source_sha256,
        golden_sha256=golden_sha256,
    )
    if golden_sha256 == identity.golden_sha256:
        return again
    return again._replace(
        parity=None, parity_reason="built for {} and not checked with these golden data".format(identity.variant)
    )


def run_on(checks: List[Dict[str, Any]], machine: Machine, backend: str) -> List[Dict[str, Any]]:
    """Return parity records with where the engine was run: `run_on`, "Linux x86_64, ONNX Runtime 1.31.1"."""
    return [dict(check, run_on=_place(machine, backend)) for check in checks]


def where_run(identity: EngineIdentity) -> str:
    """Return where an engine was run on its golden data; of records that do not say it, where it was built."""
    places = [check["run_on"] for check in identity.parity or [] if isinstance(check.get("run_on"), str)]
    return places[0] if places else _place(identity.machine, identity.backend)


def _place(machine: Machine, backend: str) -> str:
    device = machine.board or machine.gpu
    version = machine.backends.get(backend, "of unknown version")
    parts = ([] if device is None else [device]) + [machine.platform]
    return ", ".join(parts + ["{} {}".format(BACKEND_NAMES.get(backend, backend), version)])


def identity_path(engine_path: str) -> str:
    """Return the path of the identity that lies beside an engine."""
    return os.path.splitext(engine_path)[0] + SUFFIX


def encode_identity(identity: EngineIdentity) -> bytes:
    """Return the identity file's bytes, with the digest of its content last.

    Raises TypeError or ValueError when a field holds what JSON does not know.
    """
    content = identity.to_json()
    content["schema"] = SCHEMA
    content[_DIGEST] = _digest(content)
    return encode_json(SCHEMA, content)


def read_identity(engine_path: str) -> EngineIdentity:
    """Read the identity beside an engine; raises CoopexportError when it is missing or malformed."""
    path = identity_path(engine_path)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise StaleError(
            "{} is missing: nothing says what this engine is, so do not load it".format(path),
            path=path,
            fix="build it again, or copy engine and identity together",
        ) from None
    except OSError as error:
        raise InputError(
            "{} cannot be read ({})".format(path, error.strerror), path=path, fix="fix that first"
        ) from None
    return decode_identity(data, path)


def decode_identity(data: bytes, path: str) -> EngineIdentity:
    """Return the identity that the bytes of its file hold; raises CoopexportError naming `path`.

    Any byte that differs from what was written is found, by the digest over the content or by the form of the file;
    not so a change by somebody who computes the digest anew.
    """
    content = decode_json(data, SCHEMA, path)
    missing = [field for field in EngineIdentity._fields if field not in content and field not in _OPTIONAL_FIELDS]
    if missing:
        raise DamagedFileError("{} lacks {}".format(path, ", ".join(missing)), path=path, fix="build the engine again")
    for problem in _problems(content):
        raise DamagedFileError("{}: {}".format(path, problem), path=path, fix="build the engine again")
    try:
        settings = _settings(content["settings"])
        machine = machine_from_json(content["machine"])
    except ValueError as error:
        raise DamagedFileError("{}: {}".format(path, error), path=path, fix="build the engine again") from None
    document = json.loads(data.decode("utf-8"))
    if encode_json(document["schema"], document) != data or document.pop(_DIGEST, None) != _digest(document):
        raise DamagedFileError(
            "{} was altered since it was written: do not load the engine".format(path),
            path=path,
            fix="build it again, or copy it again",
        )
    known = {key: value for key, value in content.items() if key in EngineIdentity._fields}
    known.update(settings=settings, machine=machine, compute_capabilities=tuple(content["compute_capabilities"]))
    return EngineIdentity(**known)


def _digest(content: Dict[str, Any]) -> str:
    """Return the SHA-256 over the content, schema included, as JSON with sorted keys, without blanks, in ASCII."""
    plain = json.loads(json.dumps(content))  # numbers as keys sort otherwise than the text they become
    return sha256_of_bytes(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode("ascii"))


def _settings(content: Any) -> BuildSettings:
    """Return an identity's settings, without those that only later versions know; raises ValueError."""
    if not isinstance(content, dict):
        raise ValueError("settings is not an object")
    known = {key: value for key, value in content.items() if key in BuildSettings._fields}
    try:
        settings = settings_from_json(known)
        again = settings.to_json()
        lawful = isinstance(settings.precision, str) and {key: again[key] for key in known} == known
        lawful = lawful and 1 <= settings.batches[0] <= settings.batches[1] <= settings.batches[2]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("settings are not those of a builder ({!r})".format(error)) from None
    if not lawful:
        raise ValueError("settings are not those of a builder")
    return settings


def _problems(content: Dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the fields of an identity, none of which is missing."""
    for field in _TEXT_FIELDS:
        if not isinstance(content[field], str):
            yield "{} is not text".format(field)
    if not isinstance(content.get("parity_reason"), (str, type(None))):
        yield "parity_reason is not text"
    if type(content["engine_bytes"]) is not int or content["engine_bytes"] < 1:  # True is an int as well
        yield "engine_bytes is not a positive number"
    if type(content["build_seconds"]) not in (int, float) or content["build_seconds"] < 0:
        yield "build_seconds is not a number of seconds"
    capabilities = content["compute_capabilities"]
    if not isinstance(capabilities, list) or not all(isinstance(item, str) for item in capabilities):
        yield "compute_capabilities is not a list of texts"
    for field in ("inputs", "outputs", "parity"):
        items = [] if field == "parity" and content.get(field) is None else content[field]
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            yield "{} is not a list of objects".format(field)
    if not isinstance(content["flags"], dict):
        yield "flags is not an object"
    if bool(content.get("parity")) == bool(content.get("parity_reason")):
        yield "it needs parity, or parity_reason, and not both"
