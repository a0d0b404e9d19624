"""Build engines from split bundles, with identity and parity check; what was built once is not built again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import onnx

from engines.backends.interface import Backend, Engine
from engines.backends.registry import find_backend
from engines.building.build_items import BuildItem
from engines.building.evidence import Evidence, evidence, is_own, reason_for_none
from engines.building.prepared_file import PreparedFile, prepare
from engines.host.this_machine import this_machine
from engines.preflight.check import buildable_graph_warnings
from engines.target_files.target_file import target_file
from engines.targets.capabilities import check_supported
from engines.targets.lookup import find_target
from engines.targets.target import Target
from jetson.engines.build_settings import BuildSettings
from jetson.engines.golden_check import compare_outputs, run_in_batches
from jetson.engines.header import begins_like_engine
from jetson.engines.identity import EngineIdentity, encode_identity, for_another_owner, identity_path, run_on
from jetson.engines.machine import Machine
from jetson.engines.verification import read_engine
from jetson.errors import DamagedFileError, DeviceError, StaleError, UnsupportedError
from jetson.files.atomic_files import sha256_of_bytes, write_files
from jetson.store.key import EngineKey, engine_key, key_of
from jetson.store.store import EngineStore, obtain
from jetson.version import VERSION

# Its engine is the ONNX file itself: nothing to be saved by keeping it twice.
_NOT_STORED = "onnxruntime"


@dataclass(frozen=True)
class BuildResult:
    """An engine on the disk. `origin`: "reused" (it was there and still fits), "stored" (it came out of the store) or
    "built". `reason`: why the store did not have it, or did not keep it; empty where there is nothing to say.
    """

    path: Path
    identity: EngineIdentity
    origin: str
    reason: str = ""

    @property
    def reused(self) -> bool:
        """Tell whether nothing was built."""
        return self.origin != "built"


def builder_version(target: Target) -> str:
    """Return the version of the target's backend; raises CoopexportError when it cannot build here."""
    available = find_backend(target.backend).can_build(target)
    if not available.usable and target.kind == "jetson" and target.backend == "tensorrt":
        raise UnsupportedError(
            f'engines for "{target.name}" are built on the device itself: give --device user@host, or write an order '
            f"for it with --order order.zip (here: {available.reason})"
        )
    if not available.usable or available.version is None:
        raise UnsupportedError(f'cannot build for target "{target.name}" here: {available.reason}')
    return available.version


def plain_settings(target: Target, batches: tuple[int, int, int] = (1, 1, 1)) -> BuildSettings:
    """Return the settings of a target for which a project says nothing else: float32, one sample at a time."""
    ahead = target.backend == "tensorrt-rtx" and target.compute_capability is not None
    return BuildSettings(batches=batches, compute_capabilities=(str(target.compute_capability),) if ahead else ())


def build_engine(
    model: onnx.ModelProto, target_name: str, batch: int = 1, precision: str = "fp32", most_batch: int | None = None
) -> Engine:
    """Return the engine of a graph in memory (a head, a tail, a whole network) for a target.

    `batch`: size of the first dimension, fixed; with `most_batch` the engine takes 1 to so many samples, and is tuned
    for `batch`. `precision`: the lowest that the graph holds. Raises CoopexportError when the target is unknown or
    unusable here, or preflight or the builder refuses the graph, with every node that is in the way.
    """
    target = find_target(target_name)
    batches = (batch, batch, batch) if most_batch is None else (1, batch, most_batch)
    settings = plain_settings(target, batches)._replace(precision=precision)
    return engine_of_graph(model, target, settings, "the graph")


def engine_of_graph(model: onnx.ModelProto, target: Target, settings: BuildSettings, origin: str) -> Engine:
    """Return the engine of a graph in memory, as `build_engine` does; `origin` names it in messages."""
    check_supported(target, settings)
    builder_version(target)
    file = target_file(model, target, settings.batches, origin)
    buildable_graph_warnings(file, target, settings, origin)
    return find_backend(target.backend).build(file, target, settings)


def build(
    item: BuildItem,
    target: Target,
    settings: BuildSettings | None = None,
    store: EngineStore | None = None,
    machine: Machine | None = None,
) -> BuildResult:
    """Build one engine, or return the one that is there, or in `store`, when nothing has changed.

    `settings`: for all items of the target; the precision is the item's. `machine`: this one, where it is known
    already. Raises CoopexportError when that is
    impossible, the bundle is damaged, the backend is missing or refuses the graph, or the engine computes something
    else than the golden data say; nothing is written then.
    """
    builder_version(target)
    prepared = prepare(item, target, settings or plain_settings(target))
    machine = machine or this_machine()
    key = engine_key(prepared.sha256, target.backend, prepared.settings, machine, builder_of(target), VERSION)
    path = item.engine_path(target, prepared.settings.batches)
    reused = _still_fits(path, prepared, key, machine)
    if reused is not None:
        return BuildResult(path, reused, "reused")
    if store is None or target.backend == _NOT_STORED:
        identity, data = _built(prepared, machine)
        result = BuildResult(path, identity, "built")
    else:
        obtained = obtain(store, key, lambda: _built(prepared, machine))
        identity, data = obtained.identity, obtained.data
        if obtained.reused:
            identity = _of_item(identity, data, prepared, machine)
        reason = "; ".join(text for text in (obtained.reason, obtained.not_stored) if text)
        result = BuildResult(path, identity, "stored" if obtained.reused else "built", reason)
    identity_name = Path(identity_path(str(path))).name
    write_files(str(path.parent), {path.name: data, identity_name: encode_identity(identity)})
    return result


def builder_of(target: Target) -> str:
    """Return the name of what builds for `target` here, as identities record it."""
    return target.backend if target.backend == "onnxruntime" else f"{target.backend} module"


def _built(prepared: PreparedFile, machine: Machine) -> tuple[EngineIdentity, bytes]:
    """Build and check one engine; raises CoopexportError when it is not what the golden data say."""
    item, target = prepared.item, prepared.target
    backend = find_backend(target.backend)
    started_at, started_s = datetime.now(timezone.utc), time.monotonic()
    engine = backend.build(prepared.model, target, prepared.settings)
    build_seconds = round(time.monotonic() - started_s, 3)
    version = machine.backends[target.backend]
    if not begins_like_engine(backend.name, engine.data):
        raise UnsupportedError(
            f"{backend.name} {version} built something that does not begin like its engines ({engine.data[:4]!r}): "
            "this version of it is not known here"
        )
    checks, reason = _golden_parity(prepared, backend, engine.data, machine)
    identity = EngineIdentity(
        engine_sha256=sha256_of_bytes(engine.data),
        engine_bytes=len(engine.data),
        source_sha256=item.graph.sha256,
        target_file_sha256=prepared.sha256,
        golden_sha256=item.golden.sha256,
        variant=item.variant,
        layer=item.layer,
        role=item.role,
        target=target.name,
        backend=backend.name,
        backend_version=version,
        compute_capabilities=_compute_capabilities(prepared, machine),
        settings=prepared.settings,
        flags={**engine.flags, **prepared.notes, **({"warnings": list(engine.warnings)} if engine.warnings else {})},
        builder=builder_of(target),
        coopexport_version=VERSION,
        machine=machine,
        inputs=prepared.inputs,
        outputs=prepared.outputs,
        built_at=started_at.isoformat(timespec="seconds"),
        build_seconds=build_seconds,
        parity=checks,
        parity_reason=reason,
    )
    return identity, engine.data


def _compute_capabilities(prepared: PreparedFile, machine: Machine) -> tuple[str, ...]:
    """Return which GPUs the engine is for: those that were asked for, or the one that it was built on."""
    if prepared.target.backend == "tensorrt" and machine.compute_capability is not None:
        return (machine.compute_capability,)
    return prepared.settings.compute_capabilities


def _of_item(identity: EngineIdentity, data: bytes, prepared: PreparedFile, machine: Machine) -> EngineIdentity:
    """Return the identity of a stored engine as that of `prepared`: the same file may come from several bundles."""
    item, target = prepared.item, prepared.target
    owned = for_another_owner(
        identity, item.variant, item.layer, item.role, target.name, item.graph.sha256, item.golden.sha256
    )
    if owned.parity is not None:
        return owned
    checks, reason = _golden_parity(prepared, find_backend(target.backend), data, machine)
    return owned._replace(parity=checks, parity_reason=reason)


def _still_fits(path: Path, prepared: PreparedFile, key: EngineKey, machine: Machine) -> EngineIdentity | None:
    """Return the identity of the engine at `path` when building it again would change nothing that it says.

    An engine is built again where a check shows more than the one that it had, or had none; and one whose check shows
    nothing of its target.
    """
    if not path.is_file():
        return None
    try:
        identity, _ = read_engine(str(path))
    except (DamagedFileError, StaleError):
        return None
    item, target = prepared.item, prepared.target
    fits = (
        _is_of_key(identity, key, target, machine)
        and (identity.variant, identity.layer, identity.role) == (item.variant, item.layer, item.role)
        and (identity.source_sha256, identity.golden_sha256) == (item.graph.sha256, item.golden.sha256)
        and (identity.target, identity.compute_capabilities) == (target.name, _compute_capabilities(prepared, machine))
        and _was_checked_as_well(identity, prepared, machine)
    )
    return identity if fits else None


def _is_of_key(identity: EngineIdentity, key: EngineKey, target: Target, machine: Machine) -> bool:
    """Tell whether an engine is the one that would be built here.

    One of ONNX Runtime that the target's own device has checked, with the version that it has there, is so too where
    this machine is another one: the file is the same, and its check says more.
    """
    found = key_of(identity)
    if target.backend == "onnxruntime" and is_own(target, identity.machine) and not is_own(target, machine):
        found = found._replace(backend_version=key.backend_version)
    return found == key


def _was_checked_as_well(identity: EngineIdentity, prepared: PreparedFile, machine: Machine) -> bool:
    """Tell whether the check that an identity holds shows as much as one here would, and no less than it claims."""
    model, target = prepared.model, prepared.target
    if identity.parity is not None:
        shown = evidence(model, target, identity.machine, machine)
        if shown in (Evidence.NONE, Evidence.OWN):
            return shown is Evidence.OWN
    else:
        shown = Evidence.NONE
    here = evidence(model, target, machine, machine)
    return here <= shown or not find_backend(target.backend).can_run(target).usable


def _golden_parity(
    prepared: PreparedFile, backend: Backend, engine: bytes, machine: Machine
) -> tuple[list[dict[str, Any]] | None, str | None]:
    """Run the engine on the golden data where that is possible; return the checks, or why there are none that count.

    Raises CoopexportError when it computes something else, also where equality would show nothing.
    """
    runnable = backend.can_run(prepared.target)
    if not runnable.usable:
        return None, runnable.reason
    runner = backend.load(engine, prepared.target)
    try:
        found = run_in_batches(runner, prepared.golden_inputs, prepared.settings.batches[1])
    except MemoryError:
        raise DeviceError(
            f"{prepared.item.stem}: {prepared.settings.batches[1]} samples at a time do not fit into the memory here, "
            "so that the engine cannot be checked",
            fix="ask for fewer",
        ) from None
    finally:
        runner.close()
    where = f"{prepared.item.stem} for {prepared.target.name}"
    checks = compare_outputs(prepared.forms, prepared.expected, found, where)
    if evidence(prepared.model, prepared.target, machine, machine) is Evidence.NONE:
        return None, reason_for_none(machine, machine.backends[backend.name])
    return run_on(checks, machine, backend.name), None
