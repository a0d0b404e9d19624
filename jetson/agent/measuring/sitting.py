"""One sitting: all that is timed against each other, in one process, in interleaved rounds.

What is at work is noted in a file that outlives the process: of one that a signal ends, the parent knows which stage
ended it.
"""

import mmap
import os
import struct
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from jetson.agent.engine_maker import Maker
from jetson.agent.measuring.built_files import BuiltFile, load_file
from jetson.agent.measuring.energy import add_energy
from jetson.agent.measuring.stages import Run, Stage, open_stage, stages_of
from jetson.device.memory import read_memory
from jetson.errors import CoopexportError, StaleError
from jetson.files.system_files import device_root
from jetson.requests.build_request import BuildRequest, EngineSpec, open_request
from jetson.runtime.gpu_rounds import GpuRounds, Read
from jetson.runtime.sampling import sample_interleaved, until_steady
from jetson.wire.image_message import ImageCoding
from jetson.wire.pictures import PICTURE_CODECS, picture_libraries

Tell = Callable[[Dict[str, Any]], None]
NOTHING = 0xFFFFFFFF
_NUMBER = struct.Struct("=I")
# A loaded engine has its weights, a copy while it loads, and activations; the rest is for the system.
_COPIES_OF_ENGINE = 3
_SPARE_BYTES = 64 << 20


def measure_step(job: Dict[str, Any], tell: Tell) -> Dict[str, Any]:
    """Time the stages whose numbers are `job["stages"]`; return what was found of each, by its number as text.

    `job["engines"]`: the built files by item's name; `job["marker"]`: the file that says what is at work. Stages whose
    engines do not fit into the memory beside the others are `left`, for another sitting. `libraries`: what coded
    pictures, by name with its version.
    """
    request = open_request(job["order"])
    if request.archive.sha256 != job["order_sha256"]:
        raise StaleError("{} was changed meanwhile".format(job["order"]), fix="run this again")
    files = {name: BuiltFile(**file) for name, file in job["engines"].items()}
    with open(job["marker"], "r+b") as marker_file, mmap.mmap(marker_file.fileno(), _NUMBER.size) as marker:
        opened = _open_all(request, Maker(**job["maker"]), files, job["stages"], marker, tell)
        try:
            return dict(_time(request, opened, job, tell), libraries=_libraries(stages_of(request), opened))
        finally:
            for runner in opened.runners:
                runner.close()


def read_marker(path: str) -> Optional[int]:
    """Return the number of the stage that was at work, None when none was."""
    with open(path, "rb") as file:
        (number,) = _NUMBER.unpack(file.read(_NUMBER.size))
    return None if number == NOTHING else int(number)


def write_marker(path: str) -> None:
    """Write the file that says that no stage is at work."""
    with open(path, "wb") as file:
        file.write(_NUMBER.pack(NOTHING))


class _Opened(NamedTuple):
    runs: Dict[int, Run]
    load_ms: Dict[str, float]
    failures: Dict[int, str]
    left: List[int]
    runners: List[Any]
    gpu_times: Dict[str, Read]


def _open_all(
    request: BuildRequest, maker: Maker, files: Dict[str, BuiltFile], numbers: List[int], marker: Any, tell: Tell
) -> _Opened:
    """Open stages in their order, chain by chain, as long as there is memory."""
    stages = stages_of(request)
    opened = _Opened({}, {}, {}, [], [], {})

    def load(item: EngineSpec) -> Any:
        started = time.perf_counter()  # of the first one with its library, and what that has to set up
        runner = load_file(maker, item, files[item.name])
        opened.load_ms[item.name] = 1000.0 * (time.perf_counter() - started)
        opened.runners.append(runner)
        return runner

    chains = [stages[number].chain for number in numbers]
    for place, number in enumerate(numbers):
        stage = stages[number]
        begins = chains[:place][-1:] != [stage.chain]
        if opened.left or (begins and opened.runners and not _fits(_chain_bytes(stages, numbers, stage, files))):
            opened.left.append(number)
            continue
        marker[:] = _NUMBER.pack(number)
        tell({"phase": "load", "done": len(opened.runs) + 1, "steps": len(numbers)})
        try:
            run = open_stage(request, stage, load)
        except CoopexportError as error:
            opened.failures[number] = str(error)
        except MemoryError:
            opened.failures[number] = "memory ran out while it was loaded"
        else:
            opened.runs[number] = _marked(run, marker, _NUMBER.pack(number))
            if stage.item is not None and hasattr(opened.runners[-1], "gpu_times"):
                opened.runners[-1].trace()
                opened.gpu_times[str(number)] = opened.runners[-1].gpu_times
    return opened


def _time(request: BuildRequest, opened: _Opened, job: Dict[str, Any], tell: Tell) -> Dict[str, Any]:
    stages = stages_of(request)
    told = [0.0]
    gpu = GpuRounds(opened.gpu_times)

    def on_round(done: int, total: int) -> None:
        gpu.take()
        if time.monotonic() - told[0] >= 1.0:  # between rounds, and not more often than somebody reads it
            told[0] = time.monotonic()
            tell({"phase": "rounds", "done": done, "steps": total})

    taken = sample_interleaved(
        [(str(number), run) for number, run in opened.runs.items()],
        int(job["rounds"]),
        until_steady(int(job["warm_up"])),
        on_round,
        lambda name: stages[int(name)].chain,
    )
    found: Dict[str, Dict[str, Any]] = {str(number): {"failure": why} for number, why in opened.failures.items()}
    found.update({name: {"failure": why} for name, why in taken.failures.items()})
    gpu_ms = gpu.medians(int(job["rounds"]))
    for name, samples in taken.samples_ms.items():
        found[name] = {"samples_ms": samples}
        if name in gpu_ms:
            found[name]["gpu_ms"] = gpu_ms[name]
        item = stages[int(name)].item
        if item is not None:
            found[name]["load_ms"] = opened.load_ms[item.name]
        if taken.unsteady and name in taken.unsteady:
            found[name]["unsteady"] = taken.unsteady[name]
    power = add_energy(
        stages,
        opened.runs,
        found,
        job["energy"],
        job["energy_seconds"],
        lambda done, total: tell({"phase": "energy", "done": done, "steps": total}),
    )
    return {
        "stages": found,
        "left": opened.left,
        "warm_up": taken.warm_up_rounds,
        "steady": taken.steady,
        "power": power,
    }


def _libraries(stages: List[Stage], opened: _Opened) -> Dict[str, str]:
    """Return the versions of what codes pictures, if any are timed."""
    timed = [stages[number].codec or "" for number in opened.runs]
    return picture_libraries() if any(ImageCoding(codec).codec in PICTURE_CODECS for codec in timed) else {}


def _marked(run: Run, marker: Any, number: bytes) -> Run:
    """Return a function that notes that a stage is at work (0.15 microseconds on a desktop), and runs it."""

    def marked() -> None:
        marker[:] = number
        run()

    return marked


def _chain_bytes(stages: List[Stage], numbers: List[int], stage: Stage, files: Dict[str, BuiltFile]) -> int:
    """Return the size of all engines of a stage's chain."""
    chain = [stages[number] for number in numbers if stages[number].chain == stage.chain]
    return sum(os.path.getsize(files[one.item.name].path) for one in chain if one.item is not None)


def _fits(engine_bytes: int) -> bool:
    memory = read_memory(device_root())
    return (
        memory is None or not engine_bytes or memory.available_bytes >= _COPIES_OF_ENGINE * engine_bytes + _SPARE_BYTES
    )
