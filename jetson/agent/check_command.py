"""`check`: the engines of a result run again on their golden data."""

import os
import tempfile

from jetson.agent.engine_maker import choose_maker
from jetson.agent.item_process import run_step
from jetson.agent.progress import open_progress, relay
from jetson.agent.result_engines import check_engine, open_result_of
from jetson.device.probe import take_probe
from jetson.errors import CoopexportError, DeviceError
from jetson.files.system_files import device_root
from jetson.requests.build_request import open_request


def check(request_path: str, result_path: str, maker_kind: str, as_json: bool) -> int:
    """Run every engine of a result on its golden data; return 0, raise CoopexportError listing those that fail.

    What was requested and not built is among those.
    """
    tell = open_progress(as_json)
    probe = take_probe(device_root())
    request = open_request(request_path)
    result = open_result_of(request, result_path)
    maker = choose_maker(probe, request.target.backend, maker_kind)
    numbers = {item.name: number for number, item in enumerate(request.items)}
    failures = []
    with tempfile.TemporaryDirectory(prefix="coopexport-") as folder:
        path = os.path.join(folder, "engine")
        for index, item in enumerate(result.items):
            where = {"name": item.name, "number": index + 1, "count": len(result.items)}
            engine = check_engine(request, result, item, probe.machine)
            reason = engine.failure
            if engine.identity is not None:
                with open(path, "wb") as file:
                    file.write(engine.data)
                job = {
                    "step": "checking",
                    "order": os.path.abspath(request_path),
                    "order_sha256": request.archive.sha256,
                    "number": numbers[item.name],
                    "maker": dict(maker._asdict()),
                    "settings": engine.identity.settings.to_json(),
                    "engine": path,
                    "engine_sha256": engine.identity.engine_sha256,
                }
                try:
                    run_step(job, relay(tell, where, "checking"))
                except CoopexportError as error:
                    reason = str(error)
            if reason is not None:
                failures.append("{}: {}".format(item.name, reason))
                if item.failure is None:
                    tell(dict(where, event="failed", reason=reason))
    count = len(result.items)
    tell(
        {
            "event": "note",
            "text": "{} of {} engines agree with their golden data".format(count - len(failures), count),
        }
    )
    if failures:
        raise DeviceError("{} of {} engines failed: {}".format(len(failures), count, "; ".join(failures)))
    return 0
