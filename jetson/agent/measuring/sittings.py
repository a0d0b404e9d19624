"""Sittings one after the other, until every stage has its samples or a reason: a process that ends costs one stage."""

import os
import statistics
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from jetson.agent.engine_maker import MODULE, ONNXRUNTIME, TRTEXEC, Maker
from jetson.agent.item_process import run_step
from jetson.agent.measuring.memory import add_memory
from jetson.agent.measuring.sitting import read_marker, write_marker
from jetson.agent.measuring.stages import Stage
from jetson.agent.progress import Tell, relay
from jetson.agent.result_engines import CheckedEngine
from jetson.errors import CoopexportError
from jetson.requests.build_request import BuildRequest
from jetson.requests.measurement import Measurement

_CALL = {
    MODULE: "wall time of a call: inputs to the GPU, compute, outputs back",
    ONNXRUNTIME: "wall time of a call on one thread",
    TRTEXEC: "codecs and images: wall time of a call on one thread",
}


# What was found of each stage, by its number.
Found = Dict[int, Dict[str, Any]]


class Measured(NamedTuple):
    """What was found of each stage, by its number: `samples_ms` and what belongs to them, or `failure`.

    `warm_up`: rounds, of the sitting with the most; `steady`: None where nobody looked. `interleaved`: whether all
    were timed against each other in one sitting. `timings`: in words, what a sample is. `libraries`: versions of what
    coded pictures, by name. `power`: how power was read for the energies, and what it was while nothing ran; of the
    last sitting, None where energy was not measured.
    """

    found: Found
    warm_up: int
    steady: Optional[bool]
    interleaved: bool
    timings: Tuple[str, ...]
    libraries: Dict[str, str] = {}
    power: Optional[Dict[str, Any]] = None


def measure(
    request: BuildRequest, maker: Maker, stages: List[Stage], engines: List[CheckedEngine], how: Measurement,
    folder: str, tell: Tell,
) -> Measured:  # fmt: skip
    """Time all stages; `folder`: for engines and notes, removed by the caller."""
    found: Found = {}
    files = _write_engines(stages, engines, folder, found)
    timings = set()
    interleaved = True
    if maker.kind == TRTEXEC:
        timings |= _by_trtexec(request, maker, stages, files, how, found, tell)
        interleaved = False
    base = {
        "step": "measuring",
        "order": os.path.abspath(request.archive.path),
        "order_sha256": request.archive.sha256,
        "maker": dict(maker._asdict()),
        "engines": files,
        "rounds": how.rounds,
        "warm_up": how.warm_up,
        "energy": how.energy,
        "energy_seconds": how.energy_seconds,
        "marker": os.path.join(folder, "marker"),
    }
    left = [number for number, _ in enumerate(stages) if number not in found]
    warm_up, steady, sittings, power = 0, None, 0, None
    libraries: Dict[str, str] = {}
    while left:
        answer = _sit(dict(base, stages=left), stages, found, tell)
        if answer is None:
            left = [number for number in left if number not in found]
            continue
        for number, what in answer["stages"].items():
            found[int(number)] = what
        if answer["stages"]:
            sittings += 1
            timings.add(_CALL[maker.kind])
        libraries.update(answer["libraries"])
        warm_up = max(warm_up, answer["warm_up"])
        if answer["steady"] is not None:
            steady = answer["steady"] and steady is not False
        power = answer["power"] or power
        left = answer["left"]
    if sittings > 1:
        timings.add("in {} sittings, as not all engines fit into the memory at once".format(sittings))
    add_memory(base, maker.kind, stages, found, relay(tell, {"name": "engines by themselves"}, "memory"))
    _tell_of_all(stages, found, tell)
    return Measured(found, warm_up, steady, interleaved and sittings <= 1, tuple(sorted(timings)), libraries, power)


def _write_engines(stages: List[Stage], engines: List[CheckedEngine], folder: str, found: Found) -> Dict[str, Any]:
    """Write engines where a sitting loads them; stages whose engine may not be loaded have failed."""
    by_name = {engine.name: engine for engine in engines}
    files: Dict[str, Any] = {}
    for number, stage in enumerate(stages):
        if stage.item is None:
            continue
        engine = by_name.get(stage.item.name, CheckedEngine(stage.item.name, failure="it was not built"))
        if engine.identity is None:
            found[number] = {"failure": engine.failure}
            continue
        path = os.path.join(folder, "engine-{}".format(number))
        with open(path, "wb") as file:
            file.write(engine.data)
        settings = engine.identity.settings.to_json()
        files[stage.item.name] = {"path": path, "sha256": engine.identity.engine_sha256, "settings": settings}
    return files


def _sit(job: Dict[str, Any], stages: List[Stage], found: Found, tell: Tell) -> Optional[Dict[str, Any]]:
    """Have one sitting and return its answer; None when a stage ended it, which has then failed."""
    write_marker(job["marker"])
    where = {"name": "{} rows".format(len(job["stages"]))}
    try:
        return run_step(job, relay(tell, where, "measuring"))
    except CoopexportError as error:
        number = read_marker(job["marker"])
        if number is None:
            raise
        found[number] = {"failure": str(error)}
        text = "{}; the others are measured without it".format(error)
        tell({"event": "note", "name": stages[number].name, "text": text})
        return None


def _by_trtexec(
    request: BuildRequest, maker: Maker, stages: List[Stage], files: Dict[str, Any], how: Measurement,
    found: Found, tell: Tell,
) -> Any:  # fmt: skip
    """Time engines with trtexec, a process for each; return in words what its samples are."""
    timings = set()
    numbers = {item.name: number for number, item in enumerate(request.items)}
    timed = [number for number, stage in enumerate(stages) if stage.item is not None and number not in found]
    for index, number in enumerate(timed):
        stage = stages[number]
        assert stage.item is not None
        file = files[stage.item.name]
        job = {
            "step": "timing",
            "order": os.path.abspath(request.archive.path),
            "order_sha256": request.archive.sha256,
            "number": numbers[stage.item.name],
            "maker": dict(maker._asdict()),
            "settings": file["settings"],
            "engine": file["path"],
            "engine_sha256": file["sha256"],
            "rounds": how.rounds,
        }
        where = {"name": stage.name, "number": index + 1, "count": len(timed)}
        try:
            answer = run_step(job, relay(tell, where, "timing"))
        except CoopexportError as error:
            found[number] = {"failure": str(error)}
            continue
        timings.add(answer.pop("timing"))
        found[number] = answer
        if how.energy:
            answer["unknown"] = {"energy_mj": "trtexec starts anew for an engine, and loads it meanwhile"}
    return timings


def _tell_of_all(stages: List[Stage], found: Found, tell: Tell) -> None:
    for index, stage in enumerate(stages):
        where = {"name": stage.name, "number": index + 1, "count": len(stages)}
        what = found[index]
        if "failure" in what:
            tell(dict(where, event="failed", reason=what["failure"]))
        else:
            median_ms, count = statistics.median(what["samples_ms"]), len(what["samples_ms"])
            tell(dict(where, event="measured", median_ms=median_ms, samples=count))
