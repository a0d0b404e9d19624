"""Build requests to a device, and what comes back from it: engines are installed only where everything about them is
right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.building.prepared_file import PreparedFile
from engines.targets.target import Target
from jetson.engines.identity import EngineIdentity, identity_path
from jetson.engines.machine import machine_from_json
from jetson.engines.verification import verify_engine
from jetson.errors import DamagedFileError, InputError, StaleError
from jetson.files.atomic_files import sha256_of_bytes, temporary_folder_beside, write_files
from jetson.requests import build_request
from jetson.requests.build_request import EngineSpec, RequestTarget
from jetson.requests.measurement import Measurement
from jetson.tensorrt_engines.tensor_info import declared_tensors
from jetson.version import VERSION

_ON_CPU = "onnxruntime"


@dataclass(frozen=True)
class PendingEngine:
    """One engine that is requested: its item, the files that go with it (by SHA-256), and where it belongs here."""

    item: EngineSpec
    files: dict[str, bytes]
    path: Path


@dataclass(frozen=True)
class OrderedMeasurement:
    """What a device is to measure, and the files that this names, by SHA-256."""

    measurement: Measurement
    files: dict[str, bytes]


@dataclass(frozen=True)
class InstalledEngine:
    """What came back for one pending engine: its identity when it lies at `path` now, else `failure`.

    `reused`: the device had it already; `notes`: what it said about it, such as a DLA left out.
    """

    name: str
    path: Path
    identity: EngineIdentity | None
    failure: str | None
    reused: bool
    notes: tuple[str, ...]


def pending_engine(prepared: PreparedFile) -> PendingEngine:
    """Return the order of one engine: the target's own file, and golden data as that takes and gives them."""
    item = prepared.item
    path = item.engine_path(prepared.target, prepared.settings.batches)
    samples = build_request.encode_samples(prepared.golden_inputs, prepared.expected)
    pending = EngineSpec(
        name=f"{item.variant}/{path.stem}",
        variant=item.variant,
        layer=item.layer,
        role=item.role,
        graph_sha256=prepared.sha256,
        graph_bytes=len(prepared.data),
        source_sha256=item.graph.sha256,
        golden_sha256=item.golden.sha256,
        samples_sha256=sha256_of_bytes(samples),
        samples_bytes=len(samples),
        settings=prepared.settings,
        inputs=tuple(declared_tensors(prepared.inputs)),
        outputs=tuple(declared_tensors(prepared.outputs)),
        forms=prepared.forms,
        notes=prepared.notes,
    )
    return PendingEngine(pending, {prepared.sha256: prepared.data, pending.samples_sha256: samples}, path)


def check_device_target(target: Target) -> None:
    """Raise InputError when no device builds or checks engines for `target`."""
    if target.backend == "tensorrt":
        return
    if target.backend != _ON_CPU or target.providers != ("CPUExecutionProvider",):
        raise InputError(
            f'engines for "{target.name}" are not built on a device but here, by {target.backend}: leave out --device, '
            "--order and --result"
        )
    if target.name == "cpu":
        raise InputError(
            'target "cpu" is the processor of this machine as well: give the device a target of its own',
            fix='such as nano-cpu, arm64-cpu, or [targets.NAME] with base = "cpu" in the project file',
        )


def request_target(target: Target) -> RequestTarget:
    """Return what the device is compared with before it builds."""
    return RequestTarget(
        target.name,
        board=target.board,
        chip=target.chip,
        jetpack=target.jetpack,
        l4t=target.l4t,
        last_l4t=target.last_l4t,
        tensorrt=target.tensorrt,
        compute_capability=target.compute_capability,
        backend=target.backend,
        architecture=target.architecture if target.chip is None else None,  # a chip has but one
    )


def write_request(
    path: Path, target: Target, pending: Sequence[PendingEngine], measured: OrderedMeasurement | None = None
) -> str:
    """Write a build request (".zip": one file; else a manifest with its files beside it); return its SHA-256. Raises
    OSError.

    Files that are in several items go once. `measured`: what is to be measured as well.
    """
    files: dict[str, bytes] = {} if measured is None else dict(measured.files)
    for one in pending:
        files.update(one.files)
    items = [one.item for one in pending]
    measurement = None if measured is None else measured.measurement
    return build_request.write_request(
        str(path), request_target(target), VERSION, items, sorted(files.items()), measurement
    )


def install_result(path: Path, target: Target, pending: Sequence[PendingEngine]) -> list[InstalledEngine]:
    """Put the engines of a result, with their identities, where they belong; return what became of each.

    Each is looked at first: size, header, hash, whether it is of the machine that the result says it is of, and
    whether it was built from what the bundles hold now. Raises CoopexportError when the result is damaged or lacks
    one, or an engine is not the one that was requested; engines before it are installed then.
    """
    result = build_request.open_result(str(path))
    answers = {item.name: item for item in result.items}
    return [_install(one, answers, result, target) for one in pending]


def _install(
    one: PendingEngine, answers: Mapping[str, build_request.ResultItem], result: build_request.Result, target: Target
) -> InstalledEngine:
    item = one.item
    answer = answers.get(item.name)
    if answer is None:
        raise StaleError(
            f"{result.archive.path} says nothing about {item.name}: it is of another order",
            path=result.archive.path,
            fix="build the order again",
        )
    if answer.failure is not None:
        return InstalledEngine(item.name, one.path, None, answer.failure, False, answer.notes)
    engine, described = build_request.read_engine(result, answer)
    try:
        machine = machine_from_json(result.probe["machine"])
    except (KeyError, ValueError) as error:
        raise DamagedFileError(
            f"{result.archive.path} does not say of which machine it is ({error!r})", path=result.archive.path
        ) from None
    expected = item.expected(target.backend, target.name)
    names = one.path.name, Path(identity_path(str(one.path))).name
    one.path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder_beside(str(one.path)) as folder:
        write_files(folder, {names[0]: engine, names[1]: described})
        identity, data = verify_engine(str(Path(folder) / names[0]), machine, expected)
    if identity.golden_sha256 != item.golden_sha256:
        raise StaleError(
            f"{result.archive.path}: {item.name} was checked with other golden data than there are now",
            path=result.archive.path,
            fix="order it again",
        )
    # Without the DLA where the device could not build for it, which its notes say.
    if identity.settings not in (item.settings, item.settings._replace(dla_core=None)):
        raise StaleError(
            f"{result.archive.path}: {item.name} was built with other settings than are asked for now",
            path=result.archive.path,
            fix="order it again",
        )
    write_files(str(one.path.parent), {names[0]: data, names[1]: described})
    return InstalledEngine(item.name, one.path, identity, None, answer.reused, answer.notes)
