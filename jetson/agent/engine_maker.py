"""What builds and runs engines on this device: ONNX Runtime, or TensorRT by its Python module, or else by trtexec."""

from typing import Any, Dict, List, NamedTuple, Optional

from jetson.device.probe import Probe
from jetson.engines.build_settings import BuildSettings
from jetson.errors import InputError, UnsupportedError
from jetson.requests.build_request import EngineSpec
from jetson.tensorrt_engines.build import BuiltEngine
from jetson.tensorrt_engines.progress import OnProgress

MODULE, TRTEXEC, ONNXRUNTIME = "module", "trtexec", "onnxruntime"
TENSORRT = "tensorrt"


class Maker(NamedTuple):
    """One of the three, and what it needs.

    `version`: TensorRT's, as exact as it is known, or ONNX Runtime's; `trtexec`: its path.
    """

    kind: str
    version: str
    trtexec: Optional[str] = None

    @property
    def builder(self) -> str:
        """Return how identities name it."""
        return "tensorrt module" if self.kind == MODULE else self.kind

    @property
    def backend(self) -> str:
        """Return what its engines are of, as identities and targets name it."""
        return ONNXRUNTIME if self.kind == ONNXRUNTIME else TENSORRT


def choose_maker(probe: Probe, backend: str, wanted: str = "") -> Maker:
    """Return what makes engines of `backend` here: `wanted` ("module", "trtexec"), or the better of what is there.

    Raises CoopexportError when there is nothing, or not what is wanted.
    """
    if backend == ONNXRUNTIME:
        return _onnxruntime(probe, wanted)
    if backend != TENSORRT:
        raise UnsupportedError(
            "this agent makes no engines of {}".format(backend),
            fix="copy the agent of the coopexport that ordered them",
        )
    module, version, trtexec = probe.tensorrt.module, probe.tensorrt.version, probe.trtexec
    if module is not None and wanted != TRTEXEC:
        return Maker(MODULE, version or module)
    if trtexec is not None and wanted != MODULE:
        from jetson.agent.trtexec_engines import Trtexec

        return Maker(TRTEXEC, Trtexec(trtexec, version).version, trtexec)
    missing = {MODULE: "there is no Python module tensorrt", TRTEXEC: "there is no trtexec"}.get(
        wanted, "there is neither the Python module tensorrt nor trtexec"
    )
    raise UnsupportedError(
        "{} on this device: install JetPack's packages: sudo apt-get install nvidia-tensorrt (JetPack 5 on), or flash "
        "JetPack 4 with its components".format(missing)
    )


def _onnxruntime(probe: Probe, wanted: str) -> Maker:
    if wanted:
        raise InputError(
            "--with {} is about TensorRT, and this order is for ONNX Runtime".format(wanted), fix="leave it out"
        )
    if probe.onnxruntime is None:
        raise UnsupportedError(probe.unknown[ONNXRUNTIME])
    return Maker(ONNXRUNTIME, probe.onnxruntime)


def build_item(
    maker: Maker, item: EngineSpec, graph: bytes, settings: BuildSettings, on_progress: OnProgress
) -> BuiltEngine:
    """Build one item's engine with `settings`; raises CoopexportError with the builder's own words.

    ONNX Runtime's is the graph itself, which has to load.
    """
    if maker.kind == ONNXRUNTIME:
        from jetson.onnxruntime_engines.session import FLAGS, load_on_cpu

        load_on_cpu(graph).close()
        return BuiltEngine(graph, maker.version, dict(settings.to_json(), **FLAGS), [])
    if maker.kind == TRTEXEC:
        from jetson.agent.trtexec_engines import Trtexec

        return Trtexec(str(maker.trtexec), maker.version).build(graph, item.inputs, settings)
    from jetson.tensorrt_engines.build import build_engine
    from jetson.tensorrt_engines.library import TENSORRT, open_library

    return build_engine(
        open_library(TENSORRT), graph, settings, _declared(item.inputs), _declared(item.outputs), on_progress
    )


def load_item(maker: Maker, item: EngineSpec, engine: bytes, dla_core: Optional[int]) -> Any:
    """Return an item's engine, loaded: a function from arrays to arrays, with `close()`; raises CoopexportError."""
    if maker.kind == ONNXRUNTIME:
        from jetson.onnxruntime_engines.session import load_on_cpu

        return load_on_cpu(engine)
    if maker.kind == TRTEXEC:
        from jetson.agent.trtexec_engines import Trtexec

        return Trtexec(str(maker.trtexec), maker.version).load(engine, item.inputs, item.outputs, dla_core)
    from jetson.tensorrt_engines.library import TENSORRT, open_library
    from jetson.tensorrt_engines.runtime import load_engine

    names = [[tensor.name for tensor in tensors] for tensors in (item.inputs, item.outputs)]
    return load_engine(open_library(TENSORRT), engine, dla_core=dla_core, input_names=names[0], output_names=names[1])


def _declared(tensors: Any) -> List[Dict[str, Any]]:
    return [tensor.to_json() for tensor in tensors]
