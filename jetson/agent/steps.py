"""What is done in a process of its own: building, checking and measuring one engine.

A job names the build request, the item's number in it, who makes engines, the settings, and files to read and write.
"""

import os
import time
from typing import Any, Callable, Dict, Tuple

from jetson.agent.engine_maker import TRTEXEC, Maker, build_item, load_item
from jetson.engines.build_settings import settings_from_json
from jetson.engines.golden_check import compare_outputs, filled_up, run_in_batches
from jetson.errors import DeviceError, StaleError
from jetson.files.atomic_files import sha256_of_bytes, write_file
from jetson.requests.build_request import BuildRequest, EngineSpec, open_request, read_graph, read_samples
from jetson.runtime.sampling import sample_interleaved, until_steady

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


def measure_step(job: Dict[str, Any], _tell: Tell) -> Dict[str, Any]:
    """Measure the engine in `job["engine"]`; return milliseconds per run and how they were taken.

    `job["warm_up"]` is the least number of rounds of the warm-up; the answer has how many there were, and, if they did
    not end steady, why.
    """
    maker, request, item = _read(job)
    settings = settings_from_json(job["settings"])
    batch, rounds = settings.batches[1], int(job["rounds"])
    if maker.kind == TRTEXEC:
        from jetson.agent.trtexec_engines import WARM_UP_MS, Trtexec

        how = "trtexec's latency after {} ms of warm-up: inputs to the GPU, compute, outputs back".format(WARM_UP_MS)
        trtexec = Trtexec(str(maker.trtexec), maker.version)
        times = trtexec.measure(_engine(job), item.inputs, batch, rounds, settings.dla_core)
        return {"samples_ms": times, "timing": how}
    inputs, _ = read_samples(request, item)
    arrays = [filled_up(one[:batch], batch) for one in inputs]
    runner = load_item(maker, item, _engine(job), settings.dla_core)
    try:
        taken = sample_interleaved([(item.name, lambda: runner(arrays))], rounds, until_steady(int(job["warm_up"])))
    finally:
        runner.close()
    if taken.failures:
        raise DeviceError(taken.failures[item.name])
    answer: Dict[str, Any] = {
        "samples_ms": taken.samples_ms[item.name],
        "timing": "wall time of a call: inputs to the GPU, compute, outputs back",
        "warm_up_rounds": taken.warm_up_rounds,
    }
    if taken.unsteady:
        answer["unsteady"] = taken.unsteady[item.name]
    return answer


STEPS = {"building": build_step, "checking": parity_step, "measuring": measure_step}


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
