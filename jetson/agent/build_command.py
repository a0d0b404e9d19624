"""`build`: all engines of a build request, and one file that goes back."""

import contextlib
import os
import shutil
import time
from typing import Any, Dict, Iterator, List, Tuple

from jetson.agent.engine_maker import Maker, choose_maker
from jetson.agent.item_build import Made, Workshop, make_engine
from jetson.agent.progress import Tell, open_progress
from jetson.device.matching import check_device
from jetson.device.probe import Probe, take_probe
from jetson.engines.identity import encode_identity
from jetson.errors import CoopexportError, DamagedFileError, DeviceError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.files.system_files import device_root
from jetson.requests.build_request import BuildRequest, ResultItem, open_request, write_result
from jetson.store.blobs import BlobStore, link_blob, read_blob, write_blob
from jetson.store.entries import engine_blobs
from jetson.store.location import store_limit_bytes, store_root
from jetson.store.store import EngineStore

_PARTIAL = ".partial"


def build(request_path: str, output: str, maker_kind: str, as_json: bool) -> int:
    """Build a build request into the result file `output`; return 0.

    Raises CoopexportError when the build request is damaged, this device is not what it is for, or nothing here builds;
    and listing the reasons when items failed: the others are in the result.
    """
    tell = open_progress(as_json)
    request = open_request(request_path)
    output = os.path.abspath(output or os.path.splitext(request_path)[0] + ".result.zip")
    probe = take_probe(device_root())
    check_device(request.target, probe.machine, probe.jetpack, "this device")
    maker = choose_maker(probe, request.target.backend, maker_kind)
    failures = build_items(request, probe, maker, output, tell)
    count = len(request.items)
    tell({"event": "done", "succeeded": count - len(failures), "count": count, "output": output})
    if failures:
        raise DeviceError(
            "{} of {} engines failed; the others are in {}; {}".format(
                len(failures), count, output, "; ".join(failures)
            )
        )
    return 0


def build_items(request: BuildRequest, probe: Probe, maker: Maker, output: str, tell: Tell) -> List[str]:
    """Build a build request into the result file `output`; return which items failed, each with its reason."""
    text = "{} engines for {} by {} {}".format(len(request.items), request.target.name, maker.builder, maker.version)
    tell({"event": "note", "text": text})
    store = EngineStore(store_root(os.environ), store_limit_bytes(os.environ))
    with folder_for(output) as folder:
        shop = Workshop(request, probe, maker, store, folder, tell)
        results = [_result_of(shop, number) for number in range(len(request.items))]
        write_result(output, request, probe.to_json(), results, _files(folder, results))
    return ["{}: {}".format(item.name, item.failure) for item in results if item.failure is not None]


def _result_of(shop: Workshop, number: int) -> ResultItem:
    """Return what became of one item, its engine laid aside for the result; a failure is a row with its reason."""
    item = shop.request.items[number]
    where: Dict[str, Any] = {"name": item.name, "number": number + 1, "count": len(shop.request.items)}
    started = time.monotonic()
    try:
        made = make_engine(shop, number, where)
        identity = encode_identity(made.identity)
        _lay_aside(shop, made, identity)
    except (CoopexportError, OSError) as error:
        reason = _reason(error)
        shop.tell(dict(where, event="failed", reason=reason))
        return ResultItem(item.name, failure=reason)
    event = {"event": "built", "reused": made.reused, "seconds": time.monotonic() - started, "bytes": len(made.data)}
    shop.tell(dict(where, checked="golden data agree", **event))
    return ResultItem(
        item.name,
        made.identity.engine_sha256,
        len(made.data),
        sha256_of_bytes(identity),
        len(identity),
        made.reused,
        notes=made.notes,
    )


def _lay_aside(shop: Workshop, made: Made, identity: bytes) -> None:
    """Have engine and identity in the result's folder, where nothing that makes room in the store removes them."""
    aside = BlobStore(shop.folder)
    try:
        # A second name, not a second copy, where both are on one disk.
        link_blob(engine_blobs(shop.store), made.identity.engine_sha256, aside)
    except OSError:  # or it is there already, of another item
        write_blob(aside, made.data)
    write_blob(aside, identity)


def _files(folder: str, results: List[ResultItem]) -> Iterator[Tuple[str, bytes]]:
    """Yield engines and identities, one in memory at a time."""
    for result in results:
        for sha256 in (result.engine_sha256, result.identity_sha256):
            if sha256 is not None:
                try:
                    data = read_blob(BlobStore(folder), sha256)
                except DamagedFileError as error:
                    raise DamagedFileError(
                        "the engine of {} was damaged meanwhile ({})".format(result.name, error), fix="run this again"
                    ) from None
                yield sha256, data


@contextlib.contextmanager
def folder_for(output: str) -> Iterator[str]:
    """Yield a folder beside the result for what goes into it; what killed runs left there is removed."""
    parent, name = os.path.split(output)
    prefix = ".{}.".format(name)
    os.makedirs(parent, exist_ok=True)
    for left in os.listdir(parent):
        of_process = left[len(prefix) : -len(_PARTIAL)]
        ours = left == "{}{}{}".format(prefix, of_process, _PARTIAL) and of_process.isdigit()
        # In a container every run may have the same process id, which then is this one.
        if ours and (of_process == str(os.getpid()) or not os.path.exists("/proc/{}".format(of_process))):
            shutil.rmtree(os.path.join(parent, left), ignore_errors=True)
    folder = os.path.join(parent, "{}{}{}".format(prefix, os.getpid(), _PARTIAL))
    os.makedirs(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        where = " ({})".format(error.filename) if error.filename else ""
        return "{}{}".format(error.strerror or error, where)
    return str(error)
