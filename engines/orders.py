"""Orders to a device, and what comes back from it: engines are placed only where everything about them is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from engines.target import Target
from engines.target_file import describe_values
from exporter.bundle import BoundaryTensor
from exporter.parity import BUILD_BOUND
from jetson import work_order
from jetson.atomic_files import sha256_of_bytes, temporary_folder_beside, write_files
from jetson.build_settings import BuildSettings
from jetson.engine_admission import Expected, admit
from jetson.engine_identity import EngineIdentity, identity_path
from jetson.errors import CoopexportError
from jetson.golden_check import SYMBOL_FRACTION_BOUND, OutputForm
from jetson.machine import machine_from_json
from jetson.tensorrt_engines.ends import declared_ends
from jetson.version import VERSION
from jetson.work_order import OrderItem, OrderTarget


@dataclass(frozen=True)
class OrderedEngine:
    """One engine that is ordered: its item, the files that go with it (by SHA-256), and where it belongs here."""

    item: OrderItem
    files: dict[str, bytes]
    path: Path


@dataclass(frozen=True)
class PlacedEngine:
    """What came back for one ordered engine: its identity when it lies at `path` now, else `failure`.

    `reused`: the device had it already; `notes`: what it said about it, such as a DLA left out.
    """

    name: str
    path: Path
    identity: EngineIdentity | None
    failure: str | None
    reused: bool
    notes: tuple[str, ...]


def order_engine(
    path: Path,
    model: onnx.ModelProto,
    settings: BuildSettings,
    inputs: Sequence[NDArray[Any]],
    expected: Sequence[NDArray[Any]],
    forms: Sequence[OutputForm],
    *,
    variant: str,
    layer: str,
    role: str,
    source_sha256: str,
    golden_sha256: str,
) -> OrderedEngine:
    """Return the order of one engine that belongs at `path`.

    `model`: the target's own file. `inputs` and `expected`: golden data, N x ... each, in the form in which this file
    takes and gives them; `forms`: what each output holds (`forms_of`). Hashes: of the bundle's graph and golden data.
    """
    graph = model.SerializeToString(deterministic=True)
    samples = work_order.pack_samples(inputs, expected)
    item = OrderItem(
        name=f"{variant}/{layer}.{role}",
        variant=variant,
        layer=layer,
        role=role,
        graph_sha256=sha256_of_bytes(graph),
        graph_bytes=len(graph),
        source_sha256=source_sha256,
        golden_sha256=golden_sha256,
        samples_sha256=sha256_of_bytes(samples),
        samples_bytes=len(samples),
        settings=settings,
        inputs=tuple(declared_ends(describe_values(model.graph.input))),
        outputs=tuple(declared_ends(describe_values(model.graph.output))),
        forms=tuple(forms),
    )
    return OrderedEngine(item, {item.graph_sha256: graph, item.samples_sha256: samples}, path)


def forms_of(
    tensors: Sequence[BoundaryTensor],
    others: int,
    symbol_bound: float = SYMBOL_FRACTION_BOUND,
    number_bound: float = BUILD_BOUND,
) -> tuple[OutputForm, ...]:
    """Return what a graph's outputs hold: first `tensors` as they leave the head, then `others` of plain numbers.

    A tail has no `tensors`. Bounds: fraction of symbols that may differ by one; difference relative to the spread.
    """
    numbers = OutputForm("numbers", number_bound)
    sent = [
        OutputForm("symbols", symbol_bound, item.encoding.bits, item.encoding.packing, prod(item.shape))
        if item.encoding.kind == "affine"
        else numbers
        for item in tensors
    ]
    return (*sent, *[numbers] * others)


def order_target(target: Target) -> OrderTarget:
    """Return what the device is compared with before it builds."""
    return OrderTarget(
        target.name,
        board=target.board,
        chip=target.chip,
        jetpack=target.jetpack,
        l4t=target.l4t,
        last_l4t=target.last_l4t,
        tensorrt=target.tensorrt,
        compute_capability=target.compute_capability,
    )


def write_order(path: Path, target: Target, ordered: Sequence[OrderedEngine]) -> str:
    """Write an order (".zip": one file; else a manifest with its files beside it); return its SHA-256. Raises OSError.

    Files that are in several items go once.
    """
    files: dict[str, bytes] = {}
    for one in ordered:
        files.update(one.files)
    items = [one.item for one in ordered]
    return work_order.write_order(str(path), order_target(target), VERSION, items, sorted(files.items()))


def place_result(path: Path, target: Target, ordered: Sequence[OrderedEngine]) -> list[PlacedEngine]:
    """Put the engines of a result, with their identities, where they belong; return what became of each.

    Each is looked at first: size, header, hash, whether it is of the machine that the result says it is of, and
    whether it was built from what the bundles hold now. Raises CoopexportError when the result is damaged or lacks
    one, or an engine is not the one that was ordered; engines before it are placed then.
    """
    result = work_order.open_result(str(path))
    answers = {item.name: item for item in result.items}
    return [_place(one, answers, result, target) for one in ordered]


def _place(
    one: OrderedEngine, answers: Mapping[str, work_order.ResultItem], result: work_order.Result, target: Target
) -> PlacedEngine:
    item = one.item
    answer = answers.get(item.name)
    if answer is None:
        raise CoopexportError(
            f"{result.parcel.path} says nothing about {item.name}: it is of another order; build the order again"
        )
    if answer.failure is not None:
        return PlacedEngine(item.name, one.path, None, answer.failure, False, answer.notes)
    engine, described = work_order.read_engine(result, answer)
    try:
        machine = machine_from_json(result.probe["machine"])
    except (KeyError, ValueError) as error:
        raise CoopexportError(f"{result.parcel.path} does not say of which machine it is ({error!r})") from None
    expected = Expected(
        backend="tensorrt",
        target=target.name,
        variant=item.variant,
        layer=item.layer,
        role=item.role,
        source_sha256=item.source_sha256,
        target_file_sha256=item.graph_sha256,
        precision=item.settings.precision,
        batch=item.settings.batches[1],
    )
    names = one.path.name, Path(identity_path(str(one.path))).name
    one.path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder_beside(str(one.path)) as folder:
        write_files(folder, {names[0]: engine, names[1]: described})
        identity, data = admit(str(Path(folder) / names[0]), machine, expected)
    write_files(str(one.path.parent), {names[0]: data, names[1]: described})
    return PlacedEngine(item.name, one.path, identity, None, answer.reused, answer.notes)
