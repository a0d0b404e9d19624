"""`check` and `bench`: the engines of a result, run again on this device, and measured."""

import os
import statistics
import sys
import tempfile
from datetime import datetime, timezone
from typing import Any, Dict, List, Tuple

from jetson.agent.engine_maker import TRTEXEC, choose_maker
from jetson.agent.item_process import run_step
from jetson.agent.progress import open_progress, relay
from jetson.device.clocks import read_temperatures, read_throttle_events
from jetson.device.probe import Probe, take_probe
from jetson.engines.identity import decode_identity
from jetson.engines.verification import Expected, describe_incompatibility, describe_mismatch, file_problems
from jetson.errors import CoopexportError, DeviceError, InputError, StaleError
from jetson.files.json_files import write_json
from jetson.files.system_files import device_root
from jetson.requests.build_request import BuildRequest, open_request, open_result, read_engine

RUN_SCHEMA = "coopexport.latency-run/1.1"
_WARM_UP_ROUNDS = 20


def check(request_path: str, result_path: str, maker_kind: str, as_json: bool) -> int:
    """Run every engine of a result on its golden data; return 0, raise CoopexportError listing those that fail.

    What was requested and not built is among those.
    """
    tell = open_progress(as_json)
    probe = take_probe(device_root())
    answers = _do_all("checking", request_path, result_path, maker_kind, probe, tell, {})
    failures = ["{}: {}".format(name, answer["failure"]) for name, answer in answers if "failure" in answer]
    tell({"event": "note", "text": "{} of {} engines agree with their golden data".format(
        len(answers) - len(failures), len(answers))})  # fmt: skip
    if failures:
        raise DeviceError("{} of {} engines failed: {}".format(len(failures), len(answers), "; ".join(failures)))
    return 0


def bench(request_path: str, result_path: str, output: str, rounds: int, maker_kind: str, as_json: bool) -> int:
    """Measure every engine of a result into the latency run `output`; return 0, raise CoopexportError on failures.

    Each engine has a process of its own, one after the other. What fails is a row with its reason.
    """
    tell = open_progress(as_json)
    started = datetime.now(timezone.utc)
    request, probe = open_request(request_path), take_probe(device_root())
    more = {"rounds": rounds, "warm_up": _WARM_UP_ROUNDS}
    answers = dict(_do_all("measuring", request_path, result_path, maker_kind, probe, tell, more))
    maker = choose_maker(probe, request.target.backend, maker_kind)
    items = []
    for item in request.items:
        answer = answers.get(item.name, {"failure": "it was not built"})
        row: Dict[str, Any] = {
            "variant": item.variant,
            "layer": item.layer,
            "part": item.role,
            "precision": item.settings.precision,
            "batch": item.settings.batches[1],
            "source_sha256": item.source_sha256,
        }
        row.update({key: answer[key] for key in ("samples_ms", "failure", "unsteady") if key in answer})
        items.append(row)
    run: Dict[str, Any] = {
        "run": "{:%Y%m%dT%H%M%SZ}-{}".format(started, request.archive.sha256[:8]),
        "started_at": started.isoformat().split(".")[0] + "+00:00",
        "target": request.target.name,
        "host": _host(probe, sorted({answer["timing"] for answer in answers.values() if "timing" in answer})),
        "backend": maker.backend,
        "backend_version": maker.version,
        "threads": 1,
        # As they were, of the engine with the most. trtexec warms up by time, as `timing` says.
        "warm_up": max([answer.get("warm_up_rounds", 0) for answer in answers.values()] or [0]),
        "rounds": rounds,
        "interleaved": False,
        "affinity": sorted(os.sched_getaffinity(0)),
        "items": items,
    }
    if maker.kind != TRTEXEC:
        run["steady"] = not any("unsteady" in row for row in items)
    output = output or os.path.splitext(result_path)[0] + ".run.json"
    write_json(output, RUN_SCHEMA, run)
    failures = ["{layer} {part}: {failure}".format(**row) for row in items if "failure" in row]
    tell({"event": "done", "succeeded": len(items) - len(failures), "count": len(items), "output": output})
    if failures:
        raise DeviceError("{} of {} engines failed: {}".format(len(failures), len(items), "; ".join(failures)))
    return 0


def _host(probe: Probe, timings: List[str]) -> Dict[str, Any]:
    """Return the device as a latency run names its host, with what changed while it was measured."""
    machine = probe.machine
    events = read_throttle_events(device_root())
    return {
        "name": os.uname().nodename,
        "processor": machine.board or machine.chip or machine.architecture,
        "cores": os.cpu_count(),
        "operating_system": "{}, L4T {}".format(machine.platform, machine.l4t or "unknown"),
        "python": ".".join(str(number) for number in sys.version_info[:3]),
        "timing": "; ".join(timings),
        "probe": probe.to_json(),
        "temperatures_after": read_temperatures(device_root()),
        "throttled_meanwhile": {name: count - probe.throttle_events.get(name, 0) for name, count in events.items()},
    }


def _do_all(
    step: str, request_path: str, result_path: str, maker_kind: str, probe: Probe, tell: Any, more: Dict[str, Any]
) -> List[Tuple[str, Dict[str, Any]]]:
    """Do one step for each engine of a result; return name and answer, or its failure, of each.

    An engine that does not belong on this device is refused before anything loads it.
    """
    request, result = open_request(request_path), open_result(result_path)
    if result.request_sha256 != request.archive.sha256:
        raise InputError(
            "{} is the result of another order than {}".format(result_path, request_path), path=result_path
        )
    maker = choose_maker(probe, request.target.backend, maker_kind)
    numbers = {item.name: number for number, item in enumerate(request.items)}
    answers: List[Tuple[str, Dict[str, Any]]] = []
    with tempfile.TemporaryDirectory(prefix="coopexport-") as folder:
        for item in result.items:
            if item.failure is not None:
                answers.append((item.name, {"failure": "it was not built: {}".format(item.failure)}))
                continue
            where = {"name": item.name, "number": len(answers) + 1, "count": len(result.items)}
            try:
                path = os.path.join(folder, "engine")
                engine, described = read_engine(result, item)
                identity = decode_identity(described, item.name)
                problems = list(file_problems(identity, engine)) + describe_incompatibility(identity, probe.machine)
                for problem in problems + describe_mismatch(identity, _expected(request, item.name)):
                    raise StaleError(problem, fix="build it again on this device")
                with open(path, "wb") as file:
                    file.write(engine)
                job = {
                    "step": step,
                    "order": os.path.abspath(request_path),
                    "order_sha256": request.archive.sha256,
                    "number": numbers[item.name],
                    "maker": dict(maker._asdict()),
                    "settings": identity.settings.to_json(),
                    "engine": path,
                    "engine_sha256": identity.engine_sha256,
                }
                job.update(more)
                answer = run_step(job, relay(tell, where, step))
            except CoopexportError as error:
                answer = {"failure": str(error)}
                tell(dict(where, event="failed", reason=str(error)))
            if "samples_ms" in answer:
                median = statistics.median(answer["samples_ms"])
                tell(dict(where, event="measured", median_ms=median, samples=len(answer["samples_ms"])))
            answers.append((item.name, answer))
    return answers


def _expected(request: BuildRequest, name: str) -> Expected:
    """Return what the engine of the item called `name` has to be; raises CoopexportError when none was requested."""
    for item in request.items:
        if item.name == name:
            return Expected(
                backend=request.target.backend,
                target=request.target.name,
                variant=item.variant,
                layer=item.layer,
                role=item.role,
                source_sha256=item.source_sha256,
                target_file_sha256=item.graph_sha256,
                precision=item.settings.precision,
                batch=item.settings.batches[1],
            )
    raise InputError("it is not in the order")
