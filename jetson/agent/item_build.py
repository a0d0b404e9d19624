"""One engine of a build request: found in the store, or built and checked, each step in a process of its own.

It is built within the memory that is free: boards of 4 GB, where CPU and GPU share it, have none to waste.
"""

import os
from datetime import datetime, timezone
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from jetson.agent.engine_maker import TENSORRT, Maker
from jetson.agent.item_process import run_step
from jetson.agent.progress import Tell, relay
from jetson.device.memory import Memory, read_memory
from jetson.device.probe import Probe
from jetson.engines.build_settings import BuildSettings
from jetson.engines.identity import EngineIdentity, for_another_owner, run_on
from jetson.engines.verification import file_problems
from jetson.errors import DeviceError, ParityError, UnsupportedError
from jetson.files.atomic_files import sha256_of_bytes, write_file
from jetson.files.system_files import device_root
from jetson.requests.build_request import BuildRequest, EngineSpec
from jetson.store.key import engine_key
from jetson.store.store import EngineStore, Hit, Obtained, find, obtain
from jetson.version import VERSION

_WAITING = "another process builds it at the moment: waiting for that one"
# In an identity's flags: what was checked, and why an engine was built for the GPU.
_CHECKED, _WITHOUT_DLA = "checked_sha256", "without_dla"


class Workshop(NamedTuple):
    """All that building an item needs beside the item. `folder`: for files between two steps."""

    request: BuildRequest
    probe: Probe
    maker: Maker
    store: EngineStore
    folder: str
    tell: Tell


class Made(NamedTuple):
    """An engine of an item, its golden data checked. `notes`: what the user should know about it."""

    identity: EngineIdentity
    data: bytes
    reused: bool
    notes: Tuple[str, ...]


def make_engine(shop: Workshop, number: int, where: Dict[str, Any]) -> Made:
    """Return the engine of item `number`; raises CoopexportError with the reason when there is none to be had.

    An engine that fails on the DLA is built for the GPU, and that is noted. `where`: how progress names the item.
    """
    item = shop.request.items[number]
    notes: List[str] = []
    obtained, why = None, ""
    if item.settings.dla_core is not None:
        obtained, why = _with_dla(shop, number, where)
        if obtained is None:
            notes.append("built for the GPU, as DLA core {} failed: {}".format(item.settings.dla_core, why))
            shop.tell(dict(where, event="note", text=notes[-1]))
    if obtained is None:
        flags = {_WITHOUT_DLA: why} if notes else {}
        obtained = _obtain(shop, number, where, item.settings._replace(dla_core=None), flags)
    if obtained.not_stored is not None:
        notes.append("not kept for the next time: {}".format(obtained.not_stored))
    if not obtained.reused:
        return Made(obtained.identity, obtained.data, False, tuple(notes))
    return Made(_owned(shop, number, where, obtained), obtained.data, True, tuple(notes))


def _with_dla(shop: Workshop, number: int, where: Dict[str, Any]) -> Tuple[Optional[Obtained], str]:
    """Return the engine on the DLA and "", or None and why it failed there, now or when the build request came
    before.
    """
    item = shop.request.items[number]
    instead = find(shop.store, _key(shop, item, item.settings._replace(dla_core=None)))
    before = instead.identity.flags.get(_WITHOUT_DLA) if isinstance(instead, Hit) else None
    if before is not None:
        return None, str(before)
    try:
        return _obtain(shop, number, where, item.settings, {}), ""
    except (UnsupportedError, ParityError, DeviceError) as error:
        return None, str(error)


def _obtain(
    shop: Workshop, number: int, where: Dict[str, Any], settings: BuildSettings, flags: Dict[str, Any]
) -> Obtained:
    return obtain(
        shop.store,
        _key(shop, shop.request.items[number], settings),
        lambda: _built(shop, number, where, settings, flags),
        lambda: shop.tell(dict(where, event="note", text=_WAITING)),
    )


def _key(shop: Workshop, item: EngineSpec, settings: BuildSettings) -> Any:
    return engine_key(item.graph_sha256, shop.maker.backend, settings, shop.probe.machine, shop.maker.builder, VERSION)


def _built(
    shop: Workshop, number: int, where: Dict[str, Any], settings: BuildSettings, flags: Dict[str, Any]
) -> Tuple[EngineIdentity, bytes]:
    """Build one engine with the memory that is free, and check it on its golden data."""
    item = shop.request.items[number]
    started_at = datetime.now(timezone.utc).isoformat().split(".")[0] + "+00:00"
    limited = _limited(shop, item, settings)
    job = _job(shop, number, "building", limited)
    answer = run_step(job, relay(shop.tell, where, "building"))
    with open(job["engine"], "rb") as file:
        data = file.read()
    os.unlink(job["engine"])
    machine = shop.probe.machine
    told = dict(answer["flags"])
    if shop.maker.backend == TENSORRT:
        told.update(workspace_bytes=limited.workspace_bytes, header_version=answer["version"])
    told.update(item.notes)
    told.update(flags)
    if answer["warnings"]:
        told["warnings"] = answer["warnings"]
    identity = EngineIdentity(
        engine_sha256=sha256_of_bytes(data),
        engine_bytes=len(data),
        source_sha256=item.source_sha256,
        target_file_sha256=item.graph_sha256,
        golden_sha256=item.golden_sha256,
        variant=item.variant,
        layer=item.layer,
        role=item.role,
        target=shop.request.target.name,
        backend=shop.maker.backend,
        backend_version=machine.backends[shop.maker.backend],
        compute_capabilities=_compute_capabilities(shop),
        # As requested: the workspace that was free just then is in the flags, and the same order finds this engine.
        settings=settings,
        flags=told,
        builder=shop.maker.builder,
        coopexport_version=VERSION,
        machine=machine,
        inputs=[tensor.to_json() for tensor in item.inputs],
        outputs=[tensor.to_json() for tensor in item.outputs],
        built_at=started_at,
        build_seconds=round(answer["seconds"], 3),
    )
    for problem in file_problems(identity, data):
        raise UnsupportedError("the engine that was built {}: its builder is not known here".format(problem))
    return _checked(shop, number, where, identity, data), data


def _limited(shop: Workshop, item: EngineSpec, settings: BuildSettings) -> BuildSettings:
    """Return `settings` within the memory that is free, where the builder needs more than the graph itself."""
    memory = read_memory(device_root())
    if memory is None or shop.maker.backend != TENSORRT:
        return settings
    return within_memory(settings, item.graph_bytes, memory)


def _compute_capabilities(shop: Workshop) -> Tuple[str, ...]:
    capability = shop.probe.machine.compute_capability
    return () if capability is None or shop.maker.backend != TENSORRT else (capability,)


def _owned(shop: Workshop, number: int, where: Dict[str, Any], obtained: Obtained) -> EngineIdentity:
    """Return a stored engine's identity with this item's names, checked again where its golden data are others."""
    item = shop.request.items[number]
    target, flags = shop.request.target.name, dict(obtained.identity.flags, **item.notes)
    identity = for_another_owner(
        obtained.identity, item.variant, item.layer, item.role, target, item.source_sha256, item.golden_sha256
    )._replace(flags=flags)
    if identity.parity is not None and flags.get(_CHECKED) == _what_is_checked(item):
        return identity
    return _checked(shop, number, where, identity, obtained.data)


def _what_is_checked(item: EngineSpec) -> str:
    """Return a hash over golden data and bounds: an engine that was checked with the same need not be again."""
    return sha256_of_bytes(repr((item.samples_sha256, [tuple(form) for form in item.forms])).encode("utf-8"))


def _checked(
    shop: Workshop, number: int, where: Dict[str, Any], identity: EngineIdentity, data: bytes
) -> EngineIdentity:
    """Return the identity with what the engine's run on the item's golden data has shown; raises CoopexportError."""
    item = shop.request.items[number]
    job = dict(
        _job(shop, number, "checking", identity.settings),
        engine_sha256=identity.engine_sha256,
    )
    write_file(job["engine"], data)
    try:
        answer = run_step(job, relay(shop.tell, where, "checking"))
    finally:
        os.unlink(job["engine"])
    flags = dict(identity.flags)
    flags[_CHECKED] = _what_is_checked(item)
    parity = run_on(answer["parity"], shop.probe.machine, shop.maker.backend)
    return identity._replace(parity=parity, parity_reason=None, flags=flags)


def _job(shop: Workshop, number: int, step: str, settings: BuildSettings) -> Dict[str, Any]:
    return {
        "step": step,
        "order": os.path.abspath(shop.request.archive.path),
        "order_sha256": shop.request.archive.sha256,
        "number": number,
        "maker": dict(shop.maker._asdict()),
        "settings": settings.to_json(),
        "engine": os.path.join(shop.folder, "engine-{}".format(number)),
    }


_MEBIBYTE = 1 << 20
# TensorRT's libraries and CUDA's context: a build of VGG-16 by TensorRT-RTX stood at 430 MiB with its 60 MB of weights.
_BASE_BYTES = 400 * _MEBIBYTE
# The file, the parser's copy, the builder's and the engine's.
_COPIES_OF_WEIGHTS = 4
# With less, most tactics of a convolution are out of reach.
_MIN_WORKSPACE_BYTES = 16 * _MEBIBYTE
# The other half is for activations while tactics are timed, and for the system.
_WORKSPACE_SHARE = 0.5


def within_memory(settings: BuildSettings, graph_bytes: int, memory: Memory) -> BuildSettings:
    """Return `settings` with a workspace that fits into `memory`; never a larger one than they ask for.

    `graph_bytes`: size of the ONNX file. Raises CoopexportError saying how much is missing when not even the least
    workspace fits.
    """
    need = _BASE_BYTES + _COPIES_OF_WEIGHTS * graph_bytes + int(_MIN_WORKSPACE_BYTES / _WORKSPACE_SHARE)
    if memory.available_bytes < need:
        raise DeviceError(
            "{:,} MiB of memory are free and about {:,} MiB are needed: close other programs (the desktop too: sudo "
            "systemctl isolate multi-user.target), then run this again".format(
                memory.available_bytes // _MEBIBYTE, -(-need // _MEBIBYTE)
            )
        )
    left = memory.available_bytes - need
    fits = _MIN_WORKSPACE_BYTES + int(_WORKSPACE_SHARE * left)
    # In whole MiB, which is what trtexec takes.
    fits -= fits % _MEBIBYTE
    wanted = settings.workspace_bytes
    return settings._replace(workspace_bytes=fits if wanted is None else min(wanted, fits))
