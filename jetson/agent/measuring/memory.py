"""The step that measures what memory each engine needs, one after the other, each in a process of its own."""

from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

from jetson.agent.engine_maker import MODULE, ONNXRUNTIME, TRTEXEC, Maker
from jetson.agent.item_process import run_step
from jetson.agent.measuring.built_files import BuiltFile, load_file
from jetson.agent.measuring.stages import Stage, open_stage, stages_of
from jetson.device.board import read_board
from jetson.errors import CoopexportError, StaleError
from jetson.files.system_files import device_root
from jetson.requests.build_request import BuildRequest, EngineSpec, open_request
from jetson.runtime.peak_memory import Begin, Run, peak_memory

if TYPE_CHECKING:  # imported where it is needed
    from jetson.cuda.free_memory import GpuMemory

Tell = Callable[[Dict[str, Any]], None]
FIELD = "peak_memory_bytes"
_BY_TRTEXEC = "trtexec runs it in a process of its own, whose memory for TensorRT cannot be told from the engine's"


def memory_step(job: Dict[str, Any], tell: Tell) -> Dict[str, Any]:
    """Measure the engines of the stages `job["stages"]`; return by number `peak_memory_bytes`, or why it is `unknown`.

    `job["engines"]`: the built files by item's name. Nothing is loaded in this process, only in its children.
    """
    request = open_request(job["order"])
    if request.archive.sha256 != job["order_sha256"]:
        raise StaleError("{} was changed meanwhile".format(job["order"]), fix="run this again")
    maker, stages = Maker(**job["maker"]), stages_of(request)
    files = {name: BuiltFile(**file) for name, file in job["engines"].items()}
    open_gpu = _import_runtime(maker)
    found: Dict[str, Dict[str, Any]] = {}
    for index, number in enumerate(job["stages"]):
        tell({"phase": "load", "done": index + 1, "steps": len(job["stages"])})
        peak = peak_memory(_work(request, maker, files, stages[number]), open_gpu)
        found[str(number)] = {"unknown": {FIELD: peak.reason}} if peak.bytes is None else {FIELD: peak.bytes}
    return found


def add_memory(
    job: Dict[str, Any], kind: str, stages: List[Stage], found: Dict[int, Dict[str, Any]], tell: Tell
) -> None:
    """Put into `found`, for each stage with an engine and samples, what memory it needs, or why that is unknown.

    `kind`: of what makes the engines; `job`: as of `memory_step`, without its stages.
    """
    numbers = [index for index, stage in enumerate(stages) if stage.item is not None and "failure" not in found[index]]
    answer: Dict[str, Any] = {}
    reason = _BY_TRTEXEC
    if numbers and kind != TRTEXEC:
        try:
            answer = run_step(dict(job, step="memory", stages=numbers), tell)
        except CoopexportError as error:
            reason = str(error)
    for number in numbers:
        _merge(found[number], answer.get(str(number), {"unknown": {FIELD: reason}}))


def _merge(row: Dict[str, Any], more: Dict[str, Any]) -> None:
    row.update(dict(more, unknown=dict(row.get("unknown", {}), **more.get("unknown", {}))))
    if not row["unknown"]:
        del row["unknown"]


def _work(request: BuildRequest, maker: Maker, files: Dict[str, BuiltFile], stage: Stage) -> Callable[[Begin], Run]:
    def work(begin: Begin) -> Run:
        def load(item: EngineSpec) -> Any:
            begin()
            return load_file(maker, item, files[item.name])

        return open_stage(request, stage, load)

    return work


def _import_runtime(maker: Maker) -> Optional[Callable[[], "GpuMemory"]]:
    """Import what runs the engines, without a session or a driver; return how to ask the GPU where they run on one."""
    if maker.kind == ONNXRUNTIME:
        import onnxruntime  # noqa: F401

        return None
    assert maker.kind == MODULE
    from jetson.cuda.free_memory import open_gpu
    from jetson.tensorrt_engines.library import TENSORRT, open_library

    open_library(TENSORRT)
    is_jetson = read_board(device_root()).chip is not None
    return lambda: open_gpu(shared=True if is_jetson else None)
