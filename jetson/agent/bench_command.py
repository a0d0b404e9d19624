"""`bench`: what an order asks to measure, into a latency run that coopexport reads."""

import contextlib
import os
import sys
from datetime import datetime, timezone
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from jetson.agent.build_command import build_items, folder_for
from jetson.agent.engine_maker import ONNXRUNTIME, Maker, choose_maker
from jetson.agent.measuring.sittings import Measured, measure
from jetson.agent.measuring.stages import FLOAT32, REFERENCE, WHOLE, Stage, stages_of
from jetson.agent.progress import Tell, open_progress
from jetson.agent.result_engines import CheckedEngine, check_engine, open_result_of
from jetson.device.conditions import describe_conditions, read_conditions
from jetson.device.half_arithmetic import computes_in_half
from jetson.device.matching import check_device
from jetson.device.power_mode import PowerMode
from jetson.device.power_mode_change import power_mode
from jetson.device.probe import Probe, take_probe
from jetson.errors import DeviceError
from jetson.files.file_lock import locked
from jetson.files.json_files import write_json
from jetson.files.system_files import device_root
from jetson.requests.build_request import BuildRequest, open_request
from jetson.requests.measurement import Measurement
from jetson.store.entries import EngineStore, lock_path
from jetson.store.location import store_limit_bytes, store_root
from jetson.wire.rans import rans_implementation

RUN_SCHEMA = "coopexport.latency-run/1.1"
# Of an order that says nothing about measuring.
_ROUNDS, _WARM_UP_ROUNDS = 200, 20
_WAITING = "another bench measures on this device: waiting until it is done"


class BenchOptions(NamedTuple):
    """What `bench` was told. `result`: of the order, "" to build first; `output`, `maker`: "" for the default.

    `rounds`: None for those of the order.
    """

    order: str
    result: str = ""
    output: str = ""
    rounds: Optional[int] = None
    maker: str = ""


def bench(options: BenchOptions, as_json: bool) -> int:
    """Measure an order into a latency run; return 0, raise CoopexportError when nothing could be measured at all.

    Engines come out of a result, or are built first. What fails is a row with its reason, and the run is written
    nevertheless: an error then lists the failures.
    """
    tell = open_progress(as_json)
    request = open_request(options.order)
    probe = take_probe(device_root())
    check_device(request.target, probe.machine, probe.jetpack, "this device")
    maker = choose_maker(probe, request.target.backend, options.maker)
    output = os.path.abspath(options.output or os.path.splitext(options.result or options.order)[0] + ".run.json")
    if not options.result:
        built = os.path.splitext(os.path.abspath(options.order))[0] + ".result.zip"
        build_items(request, probe, maker, built, tell)
        options = options._replace(result=built)
    result = open_result_of(request, options.result)
    engines = [check_engine(request, result, item, probe.machine) for item in result.items]
    store = EngineStore(store_root(os.environ), store_limit_bytes(os.environ))
    with locked(lock_path(store, "bench"), lambda: tell({"event": "note", "text": _WAITING})):
        with folder_for(output) as folder:
            run = _measured_run(request, probe, maker, engines, options, folder, tell)
    write_json(output, RUN_SCHEMA, run)
    failed = [row for row in run["items"] if "failure" in row]
    count = len(run["items"])
    tell({"event": "done", "succeeded": count - len(failed), "count": count, "output": output})
    if failed:
        said = "{} of {} rows failed; the others are in {}; {}"
        raise DeviceError(said.format(len(failed), count, output, "; ".join(_reasons(failed))))
    return 0


def _measured_run(
    request: BuildRequest, probe: Probe, maker: Maker, engines: List[CheckedEngine], options: BenchOptions, folder: str,
    tell: Tell,
) -> Dict[str, Any]:  # fmt: skip
    """Measure in the power mode that is asked for; return the run."""
    how = request.measurement or Measurement(_ROUNDS, _WARM_UP_ROUNDS, energy=False)
    if options.rounds is not None:
        how = how._replace(rounds=options.rounds)
    stages = stages_of(request)
    started = datetime.now(timezone.utc)
    with _in_mode(how.power_mode, tell) as mode_before:
        before = read_conditions(device_root())
        measured = measure(request, maker, stages, engines, how, folder, tell)
        after = read_conditions(device_root())
    conditions = describe_conditions(before, after)
    if mode_before is not None and mode_before != before.power_mode:
        conditions["power_mode_before"] = mode_before.to_json()
    if measured.power is not None:
        conditions["power"] = measured.power
    rows = [dict(stage.to_json(), **measured.found[number]) for number, stage in enumerate(stages)]
    run: Dict[str, Any] = {
        "run": "{:%Y%m%dT%H%M%SZ}-{}".format(started, os.urandom(4).hex()),
        "started_at": started.isoformat().split(".")[0] + "+00:00",
        "target": request.target.name,
        "host": dict(_host(probe, measured), **_float16(maker, probe, stages)),
        "backend": maker.backend,
        "backend_version": maker.version,
        "threads": 1,
        "warm_up": measured.warm_up,
        "rounds": how.rounds,
        "interleaved": measured.interleaved,
        "in_chains": True,
        "affinity": sorted(os.sched_getaffinity(0)),
        "conditions": conditions,
        "items": [rows[number] for number, stage in enumerate(stages) if not _is_reference(stage, how)],
    }
    if measured.steady is not None:
        run["steady"] = measured.steady
    if how.reference_failure is not None:
        run["reference"] = {"variant": REFERENCE, "layer": WHOLE, "part": WHOLE, "failure": how.reference_failure}
    for number, stage in enumerate(stages):
        if _is_reference(stage, how):
            run["reference"] = rows[number]
    return run


@contextlib.contextmanager
def _in_mode(name: Optional[str], tell: Tell) -> Iterator[Optional[PowerMode]]:
    """Have the device in the power mode `name`, where one is asked for; yield the one before."""
    if name is None:
        yield None
        return
    with power_mode(name, device_root()) as before:
        if before.name.lower() != name.lower():
            text = "power mode {}; {} is put back afterwards".format(name, before.name)
            tell({"event": "note", "text": text})
        yield before


def _is_reference(stage: Stage, how: Measurement) -> bool:
    return stage.item is not None and stage.item.name == how.reference


def _reasons(failed: List[Dict[str, Any]]) -> List[str]:
    """Return each reason once, with the first row that it is of, and of how many more."""
    rows: Dict[str, List[str]] = {}
    for row in failed:
        rows.setdefault(row["failure"], []).append(_row_name(row))
    more = {why: " and {} more".format(len(names) - 1) if names[1:] else "" for why, names in rows.items()}
    return ["{}{}: {}".format(names[0], more[why], why) for why, names in rows.items()]


def _row_name(row: Dict[str, Any]) -> str:
    words = [str(row[key]) for key in ("variant", "layer", "part", "codec") if key in row]
    words += [row["precision"]] if row["precision"] != FLOAT32 else []
    words += ["batch {}".format(row["batch"])] if row["batch"] != 1 else []
    return " ".join(words)


def _float16(maker: Maker, probe: Probe, stages: List[Stage]) -> Dict[str, str]:
    """Return in what ONNX Runtime computes float16 on this processor, where that is asked and is not float16."""
    if maker.kind != ONNXRUNTIME or not any(stage.precision == "fp16" for stage in stages):
        return {}
    return {} if computes_in_half(probe.machine.architecture, device_root()) else {"float16": "float32"}


def _host(probe: Probe, measured: Measured) -> Dict[str, Any]:
    """Return the device as a latency run names its host."""
    machine = probe.machine
    system = machine.platform if machine.l4t is None else "{}, L4T {}".format(machine.platform, machine.l4t)
    host = {
        "name": os.uname().nodename,
        "processor": machine.board or machine.chip or machine.architecture,
        "cores": os.cpu_count(),
        "operating_system": system,
        "python": ".".join(str(number) for number in sys.version_info[:3]),
        "rans": rans_implementation().name,
        "timing": "; ".join(measured.timings),
        "probe": probe.to_json(),
    }
    return dict(host, pictures=measured.libraries) if measured.libraries else host
