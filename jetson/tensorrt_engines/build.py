"""From an ONNX file to an engine, the same way for every version of TensorRT."""

from typing import Any, Dict, List, NamedTuple, Optional

from jetson.engines.build_settings import BuildSettings
from jetson.engines.header import HEADER_BYTES, read_header
from jetson.errors import DamagedFileError, UnsupportedError
from jetson.tensorrt_engines import configuration
from jetson.tensorrt_engines.library import TENSORRT_RTX, Library
from jetson.tensorrt_engines.network import parse_network
from jetson.tensorrt_engines.progress import OnProgress, watch
from jetson.tensorrt_engines.tensor_info import Declared

_MAX_WARNINGS = 20


class BuiltEngine(NamedTuple):
    """A built engine. `data`: its file; `version`: of TensorRT, the four numbers where they can be had.

    `flags`: what the builder was told, as identities record it. `warnings`: what it said about it.
    `timing_cache`: what the next build of this machine can begin with, where TensorRT has that; else None.
    """

    data: bytes
    version: str
    flags: Dict[str, Any]
    warnings: List[str]
    timing_cache: Optional[bytes] = None


def build_engine(
    library: Library,
    onnx_bytes: bytes,
    settings: BuildSettings,
    declared_inputs: Declared = None,
    declared_outputs: Declared = None,
    on_progress: Optional[OnProgress] = None,
    timing_cache: Optional[bytes] = None,
) -> BuiltEngine:
    """Build an engine from a self-contained ONNX file.

    `declared_inputs` and `declared_outputs`: what the graph declares, see `parse_network`. `on_progress(phase, done,
    steps)` is called while building (TensorRT 10 on; before, at the start of each of our own phases). Classic
    TensorRT builds for the GPU that is there, TensorRT-RTX for `settings.compute_capabilities`, without one.
    Raises CoopexportError with everything that the parser or the builder said.
    """
    configuration.check_supported(library, settings)
    tell = on_progress or _say_nothing
    tell("reading the graph", 0, 1)
    for_dla = settings.dla_core is not None
    parsed = parse_network(library, onnx_bytes, declared_inputs, declared_outputs, for_dla)
    config = parsed.builder.create_builder_config()
    flags = configuration.configure(library, parsed, config, settings)
    cache = _start_cache(library, config, timing_cache)
    progress = watch(library, config, tell)
    tell("building", 0, 1)
    serialized = parsed.builder.build_serialized_network(parsed.network, config)
    if progress.failure is not None:
        raise progress.failure
    if serialized is None:
        raise UnsupportedError("{} built no engine: {}".format(library.title, library.said("it does not say why")))
    data = bytes(serialized)
    tell("building", 1, 1)
    kept = bytes(config.get_timing_cache().serialize()) if cache is not None else None
    return BuiltEngine(data, _exact_version(library, data), flags, _distinct(library.warnings()), kept)


def _exact_version(library: Library, data: bytes) -> str:
    """Return the version that an engine's header names where it completes the library's own, else that one.

    The module of JetPack 6 tells three of four numbers.
    """
    try:
        found = read_header(data[:HEADER_BYTES]).version
    except DamagedFileError:
        return library.version
    own = library.version.split(".")
    return found if found is not None and found.split(".")[: len(own)] == own else library.version


def _start_cache(library: Library, config: Any, timing_cache: Optional[bytes]) -> Any:
    """Give the builder a timing cache, empty unless `timing_cache` is of this GPU and version; None for RTX.

    TensorRT-RTX has the calls, does nothing in them, and looks for a GPU when it is given bytes.
    """
    if library.name == TENSORRT_RTX:
        return None
    for content in (timing_cache or b"", b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


def _distinct(warnings: List[str]) -> List[str]:
    """Return warnings once each, the first few: some are said of every layer."""
    return list(dict.fromkeys(warnings))[:_MAX_WARNINGS]


def _say_nothing(_phase: str, _done: int, _steps: int) -> None:
    """Ignore progress."""
