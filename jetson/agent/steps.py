"""What is done in a process of its own: building, checking and measuring one engine.

A job names the build request, the item's number in it, who makes engines, the settings, and files to read and write.
"""

import os
import time
from typing import Any, Callable, Dict, Tuple

from jetson.agent.engine_maker import Maker, build_item, load_item
from jetson.agent.measuring.memory import memory_step
from jetson.agent.measuring.sitting import measure_step
from jetson.cuda.gpu_times import median_times
from jetson.engines.build_settings import settings_from_json
from jetson.engines.golden_check import compare_outputs, run_in_batches
from jetson.errors import StaleError
from jetson.files.atomic_files import sha256_of_bytes, write_file
from jetson.requests.build_request import BuildRequest, EngineSpec, open_request, read_graph, read_samples

Tell = Callable[[Dict[str, Any]], None]


def build_step(job: Dict[str, Any], tell: Tell) -> Dict[str, Any]:
    """Build an engine into the file `job["engine"]`; return flags, warnings, version and seconds."""
    maker, request, item = _read(job)
    settings = settings_from_json(job["settings"])

    def on_progress(phase: str, done: int, steps: int) -> None:
        tell({"phase": phase, "done": done, "steps": steps})

    started = time.monotonic()
    built = build_item(maker, item, read_graph(request, item), settings, on_progress)
    seconds = time.monotonic() - started
    write_file(job["engine"], built.data)
    return {"flags": built.flags, "warnings": built.warnings, "version": built.version, "seconds": seconds}


def parity_step(job: Dict[str, Any], tell: Tell) -> Dict[str, Any]:
    """Run the engine in `job["engine"]`, whose hash the job names, on the golden data; return the parity records."""
    maker, request, item = _read(job)
    settings = settings_from_json(job["settings"])
    inputs, expected = read_samples(request, item)
    runner = load_item(maker, item, _engine(job), settings.dla_core)
    done = [0]

    def told(arrays: Any) -> Any:
        outputs = runner(arrays)
        done[0] += 1
        tell({"phase": "run", "done": done[0], "steps": -(-len(inputs[0]) // settings.batches[1])})
        return outputs

    try:
        found = run_in_batches(told, inputs, settings.batches[1])
    finally:
        runner.close()
    return {"parity": compare_outputs(item.forms, expected, found, "{} on this device".format(item.name))}


def trtexec_step(job: Dict[str, Any], _tell: Tell) -> Dict[str, Any]:
    """Measure the engine in `job["engine"]` with trtexec; return milliseconds per run, what they are, and of what."""
    maker, _, item = _read(job)
    settings = settings_from_json(job["settings"])
    from jetson.agent.trtexec_engines import TIMING, Trtexec

    trtexec = Trtexec(str(maker.trtexec), maker.version)
    times, gpu = trtexec.measure(_engine(job), item.inputs, settings.batches[1], int(job["rounds"]), settings.dla_core)
    medians = median_times(gpu)
    return dict({} if medians is None else {"gpu_ms": medians}, samples_ms=times, timing=TIMING)


STEPS = {
    "building": build_step,
    "checking": parity_step,
    "timing": trtexec_step,
    "measuring": measure_step,
    "memory": memory_step,
}


def _read(job: Dict[str, Any]) -> Tuple[Maker, BuildRequest, EngineSpec]:
    request = open_request(job["order"])
    if request.archive.sha256 != job["order_sha256"]:
        raise StaleError("{} was changed meanwhile".format(job["order"]), fix="run this again")
    return Maker(**job["maker"]), request, request.items[job["number"]]


def _engine(job: Dict[str, Any]) -> bytes:
    """Return the engine's bytes: those whose hash the parent knows, and no others are loaded."""
    with open(job["engine"], "rb") as file:
        data = file.read()
    if sha256_of_bytes(data) != job["engine_sha256"]:
        raise StaleError("{} was changed meanwhile".format(os.path.basename(job["engine"])), fix="run this again")
    return data
