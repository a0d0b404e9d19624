"""Under what an engine is kept in a store: everything that would give another engine, and the differences in words."""

import json
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from jetson.engines.build_settings import BuildSettings, settings_from_json
from jetson.engines.identity import BACKEND_NAMES, EngineIdentity
from jetson.engines.machine import Machine
from jetson.files.atomic_files import sha256_of_bytes

# What another graph says about an engine that is near otherwise: more than all of the settings together.
_GRAPH_WEIGHT = 100


class EngineKey(NamedTuple):
    """Everything that would give another engine; what does not matter for a backend is None or empty.

    `device`: board, or GPU where there is no board; classic TensorRT times its kernels on it. `l4t`: first two numbers.
    A driver is not part of it: TensorRT asks for one that is new enough, and its engines outlive an update.
    """

    target_file_sha256: str
    backend: str
    backend_version: str
    compute_capabilities: Tuple[str, ...]
    platform: Optional[str]
    device: Optional[str]
    l4t: Optional[str]
    cuda: Optional[str]
    settings: BuildSettings
    builder: str
    coopexport_version: str

    def to_json(self) -> Dict[str, Any]:
        """Return the key as a store's entry holds it."""
        content = dict(self._asdict())
        content["compute_capabilities"] = list(self.compute_capabilities)
        content["settings"] = self.settings.to_json()
        return content

    @property
    def digest(self) -> str:
        """Return the SHA-256 over the key: its name in a store."""
        return sha256_of_bytes(json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode("ascii"))


def engine_key(
    target_file_sha256: str,
    backend: str,
    settings: BuildSettings,
    machine: Machine,
    builder: str,
    coopexport_version: str,
) -> EngineKey:
    """Return the key of the engine that `builder` would build on `machine`, which has to know the backend's version."""
    classic = backend == "tensorrt"
    capabilities = settings.compute_capabilities
    if classic:
        capabilities = (machine.compute_capability,) if machine.compute_capability is not None else ()
    return EngineKey(
        target_file_sha256=target_file_sha256,
        backend=backend,
        backend_version=machine.backends[backend],
        compute_capabilities=capabilities,
        platform=None if backend == "onnxruntime" else machine.platform,
        device=(machine.board or machine.gpu) if classic else None,
        l4t=".".join(machine.l4t.split(".")[:2]) if classic and machine.l4t is not None else None,
        cuda=machine.cuda if classic else None,
        settings=settings,
        builder=builder,
        coopexport_version=coopexport_version,
    )


def key_of(identity: EngineIdentity) -> EngineKey:
    """Return the key under which an engine that was built on its identity's machine is found again there."""
    machine = identity.machine._replace(backends={identity.backend: identity.backend_version})
    return engine_key(
        identity.target_file_sha256,
        identity.backend,
        identity.settings,
        machine,
        identity.builder,
        identity.coopexport_version,
    )


def key_from_json(content: Any) -> EngineKey:
    """Return the key that `to_json` wrote; raises ValueError, TypeError or KeyError for anything else."""
    if not isinstance(content, dict):
        raise ValueError("the key is not an object")
    known = dict(content)
    known["compute_capabilities"] = tuple(str(item) for item in known["compute_capabilities"])
    known["settings"] = settings_from_json(known["settings"])
    return EngineKey(**known)


def differences(wanted: EngineKey, stored: EngineKey) -> List[str]:
    """Return in words how a stored engine's key differs from the wanted one; empty when they are equal."""
    return [text for _, text in _differences(wanted, stored)]


def describe_miss(wanted: EngineKey, stored: Sequence[EngineKey]) -> str:
    """Return in words why nothing that is stored is the wanted engine: how the nearest one differs."""
    if not stored:
        return "the store holds no engine yet"
    distance = {key: sum(weight for weight, _ in _differences(wanted, key)) for key in stored}
    nearest = min(stored, key=lambda key: (distance[key], key.digest))
    count = "the one stored engine" if len(stored) == 1 else "the nearest of {} stored engines".format(len(stored))
    return "{} differs: {}".format(count, "; ".join(differences(wanted, nearest)))


def _differences(wanted: EngineKey, stored: EngineKey) -> Iterator[Tuple[int, str]]:
    """Yield (weight, words) for each difference."""
    name = BACKEND_NAMES.get(wanted.backend, wanted.backend)
    if wanted.target_file_sha256 != stored.target_file_sha256:
        yield (
            _GRAPH_WEIGHT,
            "it was built from another graph (SHA-256 {}..., wanted {}...)".format(
                stored.target_file_sha256[:12], wanted.target_file_sha256[:12]
            ),
        )
    if wanted.backend != stored.backend:
        yield 10, "backend {} wanted, it is of {}".format(wanted.backend, stored.backend)
    elif wanted.backend_version != stored.backend_version:
        yield 1, "{} {} here, engine built by {}".format(name, wanted.backend_version, stored.backend_version)
    for what, here, verb, there in (
        ("SM", ", ".join(wanted.compute_capabilities), "for", ", ".join(stored.compute_capabilities)),
        ("platform", wanted.platform, "on", stored.platform),
        ("device", wanted.device, "on", stored.device),
        ("L4T", wanted.l4t, "on", stored.l4t),
        ("CUDA", wanted.cuda, "with", stored.cuda),
        ("builder", wanted.builder, "by", stored.builder),
        ("coopexport", wanted.coopexport_version, "by", stored.coopexport_version),
    ):
        if here != there:
            yield 1, "{} {} here, engine built {} {}".format(what, here or "not known", verb, there or "one not known")
    one, other = wanted.settings.to_json(), stored.settings.to_json()
    for field in BuildSettings._fields:
        # Of what is built for, the line above speaks.
        if one[field] != other[field] and not (
            field == "compute_capabilities" and wanted.compute_capabilities != stored.compute_capabilities
        ):
            yield 1, "{} {} wanted, it has {}".format(field, _plain(one[field]), _plain(other[field]))


def _plain(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, list):
        return "/".join(str(item) for item in value) or "none"
    return str(value)
