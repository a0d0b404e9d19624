"""Build engines from split bundles, with identity and parity check."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from engines.backends import find_backend
from engines.backends.interface import Backend, Engine, Runner
from engines.target_file import describe_values, target_file
from engines.targets import Target, find_target
from exporter import parity
from exporter.bundle import (
    BoundaryTensor,
    FileRecord,
    check_file,
    check_weights,
    read_golden,
    read_split,
    read_whole,
)
from exporter.encoding import symbols_of
from exporter.golden import golden_exits, golden_outputs, golden_sent, golden_taken
from exporter.parity import Parity
from jetson import preprocessing
from jetson.atomic_files import sha256_of_bytes, write_files
from jetson.build_settings import BuildSettings
from jetson.engine_admission import Expected, admit, read_engine
from jetson.engine_header import begins_like_engine
from jetson.engine_identity import EngineIdentity, encode_identity, identity_path
from jetson.errors import CoopexportError
from jetson.machine import Machine
from jetson.preprocessing import Preprocessing
from jetson.version import VERSION

WHOLE = "whole"
# Docs: at most 0.1 % of symbols off, none by more than one.
_SYMBOL_FRACTION_BOUND = 1e-3


@dataclass(frozen=True)
class BuildItem:
    """One graph to build: a role of a layer (or of the whole network) in a variant's folder.

    `tensors`: those that cross the cut.
    """

    folder: Path
    variant: str
    layer: str
    role: str
    graph: FileRecord
    golden: FileRecord
    contract: Preprocessing
    tensors: tuple[BoundaryTensor, ...] = ()

    def engine_path(self, target: Target) -> Path:
        """Return where the engine for `target` goes."""
        name = self.layer if self.role == WHOLE else f"{self.layer}.{self.role}"
        return self.folder / "engines" / target.name / (name + find_backend(target.backend).file_suffix)


@dataclass(frozen=True)
class BuildResult:
    """An engine on the disk; `reused` when it was there already and still fits."""

    path: Path
    identity: EngineIdentity
    reused: bool


def items_of_layer(folder: Path, layer: str) -> list[BuildItem]:
    """Return head and tail of a split bundle; raises CoopexportError when there is none."""
    bundle = read_split(folder, layer)
    return [
        BuildItem(folder, bundle.variant, layer, role, record, bundle.golden, bundle.contract(), bundle.tensors)
        for role, record in (("head", bundle.head), ("tail", bundle.tail))
    ]


def item_of_whole(folder: Path) -> BuildItem:
    """Return the whole network of a variant, for the device alone or the edge alone."""
    whole = read_whole(folder)
    return BuildItem(folder, whole.variant, WHOLE, WHOLE, whole.model, whole.golden, whole.contract())


def require_buildable(target: Target) -> str:
    """Return the version of the target's backend; raises CoopexportError when it cannot build here."""
    available = find_backend(target.backend).can_build(target)
    if not available.usable or available.version is None:
        raise CoopexportError(f'cannot build for target "{target.name}" here: {available.reason}')
    return available.version


def build_engine(model: onnx.ModelProto, target_name: str, batch: int = 1) -> Engine:
    """Return the engine of a graph in memory (a head, a tail, a whole network) for a target.

    `batch`: fixed size of the first dimension. Raises CoopexportError when the target is unknown or unusable here,
    or its builder refuses the graph.
    """
    target = find_target(target_name)
    require_buildable(target)
    return find_backend(target.backend).build(
        target_file(model, target, (batch, batch, batch), "the graph"), target, _settings(target, batch)
    )


def _settings(target: Target, batch: int) -> BuildSettings:
    """Return how engines for `target` are built: float32, one batch size."""
    capability = target.compute_capability
    ahead = (capability,) if target.backend == "tensorrt-rtx" and capability is not None else ()
    return BuildSettings(batches=(batch, batch, batch), compute_capabilities=ahead)


def build(item: BuildItem, target: Target, batch: int = 1) -> BuildResult:
    """Build one engine, or return the one that is there when nothing has changed.

    Raises CoopexportError when the bundle is damaged, the backend is missing or refuses the graph, or the engine
    computes something else than the golden data say; nothing is written then.
    """
    version = require_buildable(target)
    backend = find_backend(target.backend)
    _check_preprocessing(item)
    graph_path = check_file(item.folder, item.graph)
    check_weights(item.folder, graph_path)
    # An absolute path: with a relative one some versions of onnx look for weights in the working directory.
    model = target_file(onnx.load(str(graph_path.resolve())), target, (batch, batch, batch), str(graph_path))
    source = model.SerializeToString(deterministic=True)
    path = item.engine_path(target)
    stored = _still_fits(path, item, target, batch, sha256_of_bytes(source), version)
    if stored is not None:
        return BuildResult(path, stored, reused=True)
    started_at, started_s = datetime.now(timezone.utc), time.monotonic()
    engine = backend.build(model, target, _settings(target, batch))
    build_seconds = round(time.monotonic() - started_s, 3)
    if not begins_like_engine(backend.name, engine.data):
        raise CoopexportError(
            f"{backend.name} {version} built something that does not begin like its engines ({engine.data[:4]!r}): "
            "this version of it is not known here"
        )
    checks, reason = _check(item, backend, target, engine.data, batch)
    identity = EngineIdentity(
        engine_sha256=sha256_of_bytes(engine.data),
        engine_bytes=len(engine.data),
        source_sha256=item.graph.sha256,
        target_file_sha256=sha256_of_bytes(source),
        golden_sha256=item.golden.sha256,
        variant=item.variant,
        layer=item.layer,
        role=item.role,
        target=target.name,
        backend=backend.name,
        backend_version=version,
        compute_capabilities=_compute_capabilities(target),
        settings=_settings(target, batch),
        flags=engine.flags,
        builder=backend.name,
        coopexport_version=VERSION,
        machine=this_machine(target, version),
        inputs=describe_values(model.graph.input),
        outputs=describe_values(model.graph.output),
        built_at=started_at.isoformat(timespec="seconds"),
        build_seconds=build_seconds,
        parity=checks,
        parity_reason=reason,
    )
    identity_name = Path(identity_path(str(path))).name
    write_files(str(path.parent), {path.name: engine.data, identity_name: encode_identity(identity)})
    return BuildResult(path, identity, reused=False)


def this_machine(target: Target, version: str | None) -> Machine:
    """Return what is known of this machine where engines of `target` are concerned; `version`: of its backend."""
    backends = {} if version is None else {target.backend: version}
    return Machine(platform.system(), platform.machine(), backends=backends)


def _compute_capabilities(target: Target) -> tuple[str, ...]:
    return () if target.compute_capability is None else (target.compute_capability,)


def _still_fits(
    path: Path, item: BuildItem, target: Target, batch: int, target_file_sha256: str, version: str
) -> EngineIdentity | None:
    """Return the identity of the engine at `path` when building it again would change nothing that it says.

    An engine that could not be checked when it was built is built again where it can be.
    """
    if not path.is_file():
        return None
    try:
        identity, _ = read_engine(str(path))
    except CoopexportError:
        return None
    backend = find_backend(target.backend)
    fits = (
        (identity.variant, identity.layer, identity.role) == (item.variant, item.layer, item.role)
        and (identity.source_sha256, identity.target_file_sha256) == (item.graph.sha256, target_file_sha256)
        and (identity.target, identity.compute_capabilities) == (target.name, _compute_capabilities(target))
        and (identity.backend, identity.backend_version) == (target.backend, version)
        and (identity.builder, identity.coopexport_version) == (backend.name, VERSION)
        and (identity.settings, identity.golden_sha256) == (_settings(target, batch), item.golden.sha256)
        and (identity.parity is not None or not backend.can_run(target).usable)
    )
    return identity if fits else None


def _check_preprocessing(item: BuildItem) -> None:
    """Refuse a bundle whose preprocessing, applied here to the golden images, does not give the golden inputs.

    Nothing else would notice: an engine agrees with golden inputs whatever the images are turned into.
    """
    golden = read_golden(item.folder, item.golden)
    inputs = preprocessing.apply(item.contract, golden["images"]).astype(np.float32)
    if not np.array_equal(inputs, golden["inputs"]):
        raise CoopexportError(
            f"{item.variant} {item.layer}: the preprocessing in its manifest does not turn the golden images into the "
            "golden inputs: the manifest was altered, or another version wrote it; run: coopexport split"
        )


def _check(
    item: BuildItem, backend: Backend, target: Target, engine: bytes, batch: int
) -> tuple[list[dict[str, Any]] | None, str | None]:
    """Run the engine on the golden data where that is possible; return the checks, or why there are none."""
    runnable = backend.can_run(target)
    if not runnable.usable:
        return None, runnable.reason
    golden = read_golden(item.folder, item.golden)
    inputs = golden_taken(golden) if item.role == "tail" else [golden["inputs"]]
    runner = backend.load(engine, target)
    try:
        found = run_batches(runner, inputs, batch)
    finally:
        runner.close()
    where = f"{item.layer} {item.role} for {target.name}"
    checks = []
    if item.role == "head":
        for boundary, sent in zip(item.tensors, golden_sent(golden), strict=True):
            checks.append(compare_sent(boundary, sent, found.pop(0), where))
        expected = golden_exits(golden)
    else:
        expected = golden_outputs(golden)
    checks += [compare_with_golden(one, other, where) for one, other in zip(expected, found, strict=True)]
    return [check.to_json() for check in checks], None


def run_batches(runner: Runner, inputs: Sequence[NDArray[Any]], batch: int) -> list[NDArray[Any]]:
    """Return the outputs of an engine of fixed batch size for all samples of `inputs` (N x ... each)."""
    parts = []
    count = len(inputs[0])
    for start in range(0, count, batch):
        left = min(batch, count - start)
        # The engine takes full batches only: the last input fills up the last one.
        full = [
            np.concatenate([item[start : start + left], np.repeat(item[-1:], batch - left, axis=0)]) for item in inputs
        ]
        parts.append([output[:left] for output in runner(full)])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def compare_sent(boundary: BoundaryTensor, expected: NDArray[Any], found: NDArray[Any], where: str) -> Parity:
    """Compare what an engine's head sends with the golden one: symbols by count, packed ones taken apart.

    Raises CoopexportError naming `where` and the number as `compare_with_golden`.
    """
    if boundary.encoding.kind != "affine":
        return compare_with_golden(expected, found, where)
    _require_same_form(expected, found, where)
    one, other = (symbols_of(boundary.encoding, item, boundary.shape).astype(np.int16) for item in (expected, found))
    difference = np.abs(one - other)
    if difference.max(initial=0) > 1:
        raise CoopexportError(f"{where}: a symbol differs by {difference.max()} from the golden data; allowed is 1")
    how = "fraction of golden symbols that differ, none by more than one"
    check = Parity("build", float((difference > 0).mean()), _SYMBOL_FRACTION_BOUND, len(expected), how)
    return parity.require(check, where)


def compare_with_golden(expected: NDArray[Any], found: NDArray[Any], where: str) -> Parity:
    """Compare an engine's output (features, scores) with the golden one, by spread.

    Raises CoopexportError naming `where` and the number when the difference is too large, or when dtype or shape are
    not the same.
    """
    _require_same_form(expected, found, where)
    error = parity.relative_error(expected, found, where)
    how = "engine against golden outputs"
    return parity.require(Parity("build", error, parity.BUILD_BOUND, len(expected), how), where)


def _require_same_form(expected: NDArray[Any], found: NDArray[Any], where: str) -> None:
    if (found.dtype, found.shape) != (expected.dtype, expected.shape):
        raise CoopexportError(
            f"{where}: the engine returns {found.dtype} of shape {found.shape}, the golden data hold {expected.dtype} "
            f"of shape {expected.shape}"
        )


def open_engine(item: BuildItem, target: Target) -> Runner:
    """Load an engine that takes one sample at a time, after checking it against its identity; raises CoopexportError.

    Also refuses an engine that was built from another graph than the bundle now holds, for another target, or for
    larger batches.
    """
    path = item.engine_path(target)
    backend = find_backend(target.backend)
    expected = Expected(
        backend=target.backend,
        target=target.name,
        variant=item.variant,
        layer=item.layer,
        role=item.role,
        source_sha256=item.graph.sha256,
        batch=1,
    )
    _, data = admit(str(path), this_machine(target, backend.can_build(target).version), expected)
    return backend.load(data, target)
