"""What builds and runs engines on this device: TensorRT's Python module where it is, else trtexec."""

from typing import Any, Dict, List, NamedTuple, Optional

from jetson.engines.build_settings import BuildSettings
from jetson.errors import UnsupportedError
from jetson.requests.build_request import EngineSpec
from jetson.tensorrt_engines.build import BuiltEngine
from jetson.tensorrt_engines.progress import OnProgress

MODULE, TRTEXEC = "module", "trtexec"


class Maker(NamedTuple):
    """One of the two, and what it needs. `version`: TensorRT's, as exact as it is known; `trtexec`: its path."""

    kind: str
    version: str
    trtexec: Optional[str] = None

    @property
    def builder(self) -> str:
        """Return how identities name it."""
        return "tensorrt module" if self.kind == MODULE else "trtexec"


def choose_maker(module: Optional[str], version: Optional[str], trtexec: Optional[str], wanted: str = "") -> Maker:
    """Return what to build with: `wanted` ("module", "trtexec"), or the better of what is there.

    `module`: version of the Python module, None where there is none; `version`: the most exact one; `trtexec`: path.
    Raises CoopexportError when there is nothing, or not what is wanted.
    """
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


def build_item(
    maker: Maker, item: EngineSpec, graph: bytes, settings: BuildSettings, on_progress: OnProgress
) -> BuiltEngine:
    """Build one item's engine with `settings`; raises CoopexportError with the builder's own words."""
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
    if maker.kind == TRTEXEC:
        from jetson.agent.trtexec_engines import Trtexec

        return Trtexec(str(maker.trtexec), maker.version).load(engine, item.inputs, item.outputs, dla_core)
    from jetson.tensorrt_engines.library import TENSORRT, open_library
    from jetson.tensorrt_engines.runtime import load_engine

    names = [[tensor.name for tensor in tensors] for tensors in (item.inputs, item.outputs)]
    return load_engine(open_library(TENSORRT), engine, dla_core=dla_core, input_names=names[0], output_names=names[1])


def _declared(tensors: Any) -> List[Dict[str, Any]]:
    return [tensor.to_json() for tensor in tensors]
