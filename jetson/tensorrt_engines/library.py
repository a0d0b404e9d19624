"""TensorRT's Python module, opened: its exact version, and the one logger that it gets in a process."""

import ctypes
import functools
import importlib
import re
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

from jetson.errors import DeviceError, UnsupportedError, one_line

TENSORRT, TENSORRT_RTX = "tensorrt", "tensorrt-rtx"

_MODULES = {TENSORRT: "tensorrt", TENSORRT_RTX: "tensorrt_rtx"}
_TITLES = {TENSORRT: "TensorRT", TENSORRT_RTX: "TensorRT-RTX"}
_ADVICE = {
    TENSORRT: "on a Jetson it comes with JetPack (python3-libnvinfer), elsewhere: pip install 'coopexport[tensorrt]'",
    TENSORRT_RTX: "pip install 'coopexport[rtx]' (Linux, x86_64)",
}
# What pybind11 says when the C library's factory returns nothing; TensorRT's does without a driver.
_NO_OBJECT = "factory function returned nullptr"

Messages = List[Tuple[str, str]]


class Library(NamedTuple):
    """TensorRT or TensorRT-RTX. `name`: as backends are called; `title`: as people call it.

    `version`: four numbers where they can be had. `messages`: (severity, text) of all warnings and errors that were
    logged since `forget`.
    """

    name: str
    title: str
    module: Any
    version: str
    logger: Any
    messages: Messages

    def errors(self) -> List[str]:
        """Return the errors that were logged since the last `forget`."""
        return [text for severity, text in self.messages if severity != "WARNING"]

    def warnings(self) -> List[str]:
        """Return the warnings that were logged since the last `forget`."""
        return [text for severity, text in self.messages if severity == "WARNING"]

    def forget(self) -> None:
        """Drop what was logged so far: the next error is about what follows."""
        del self.messages[:]

    def said(self, otherwise: str) -> str:
        """Return what the library logged as errors, or as warnings, at most 600 characters; `otherwise` if nothing."""
        return "; ".join(self.errors() or self.warnings())[:600] or otherwise


def open_library(name: str) -> Library:
    """Return the library called "tensorrt" or "tensorrt-rtx".

    Raises CoopexportError when it is not installed or its own libraries do not load. Needs no GPU.
    """
    try:
        module = importlib.import_module(_MODULES[name])
    except (ImportError, OSError) as error:  # OSError: its shared libraries do not load
        raise UnsupportedError(
            "{} is not usable ({})".format(_TITLES[name], one_line(error)), fix=_ADVICE[name]
        ) from None
    if not hasattr(module, "ILogger"):
        # A folder of that name imports as well, and so does what an uninstallation left behind.
        raise UnsupportedError(
            "{} is not usable (what is imported as {} is something else)".format(_TITLES[name], _MODULES[name]),
            fix=_ADVICE[name],
        )
    logger, messages = _logger(module)
    if name == TENSORRT:
        _register_plugins(module, logger)
    return Library(name, _TITLES[name], module, _version(name, module), logger, messages)


def make(library: Library, factory: Callable[[Any], Any]) -> Any:
    """Return `factory(logger)`, a Builder or a Runtime; raises CoopexportError when there is no usable driver."""
    try:
        return factory(library.logger)
    except TypeError as error:
        if _NO_OBJECT not in str(error):
            raise
        raise DeviceError(
            "{} {} finds no usable NVIDIA driver here ({})".format(
                library.title, library.version, library.said("it says no more")
            ),
            fix="install one, or run this where the GPU is",
        ) from None


@functools.lru_cache(maxsize=None)
def _register_plugins(module: Any, logger: Any) -> None:
    """Have NVIDIA's own plugins at hand: TensorRT 8's parser makes InstanceNormalization of one; engines hold it."""
    module.init_libnvinfer_plugins(logger, "")


@functools.lru_cache(maxsize=None)
def _logger(module: Any) -> Tuple[Any, Messages]:
    """Return the module's logger and what it collects: TensorRT ignores every logger but a process's first."""
    messages: Messages = []
    severities = {
        module.ILogger.INTERNAL_ERROR: "INTERNAL_ERROR",
        module.ILogger.ERROR: "ERROR",
        module.ILogger.WARNING: "WARNING",
    }

    class CollectingLogger(module.ILogger):  # type: ignore[misc]
        """Keeps warnings and errors. An exception out of `log` would end the process: it raises none."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in severities:
                messages.append((severities[severity], one_line(message)))

    return CollectingLogger(), messages


def _version(name: str, module: Any) -> str:
    """Return the version of four numbers where it can be had: engines are tied to all four.

    JetPack 6's module says "10.3.0", its library knows of build 30.
    """
    version = str(module.__version__)
    if name == TENSORRT and re.match(r"\d+\.\d+\.\d+$", version):
        build = _build_number(version)
        if build is not None:
            return "{}.{}".format(version, build)
    return version


def _build_number(version: str) -> Optional[int]:
    """Return the build number of the libnvinfer that the module has loaded (TensorRT 10 on), or None."""
    name = "libnvinfer.so.{}".format(version.split(".")[0])
    try:
        # RTLD_NOLOAD: only the copy that the module itself uses may answer.
        loaded = ctypes.CDLL(name, mode=getattr(ctypes, "RTLD_LOCAL", 0) | 4)
        ask = [getattr(loaded, "getInferLib{}Version".format(part)) for part in ("Major", "Minor", "Patch", "Build")]
    except (OSError, AttributeError):
        return None
    numbers = [int(function()) for function in ask]
    return numbers[3] if "{}.{}.{}".format(*numbers[:3]) == version else None
