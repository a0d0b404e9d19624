"""Whether this Python can import NumPy: tried in a forked process, as some builds of it end the process that does.

The OpenBLAS in NumPy 1.19.5's wheel takes a Jetson's processor for another one and dies by SIGILL; OPENBLAS_CORETYPE
names the kernels that it should take (https://github.com/numpy/numpy/issues/18131).
"""

import importlib.util
import json
import os
import resource
import signal
import sys
from typing import Any, Dict, NamedTuple, Optional

from jetson.errors import UnsupportedError, one_line
from jetson.processes import signal_name

_CORE, _ANY_ARM64 = "OPENBLAS_CORETYPE", "ARMV8"
# Before the words of the one error that matters NumPy puts a page of advice.
_ORIGINAL_ERROR = "Original error was: "
_LONGEST_REASON = 200
_SYSTEM_PREFIX = "/usr"
_SYSTEMS = "sudo apt-get install python3-numpy"


class _Import(NamedTuple):
    """How an import of NumPy went in a forked process: `version`; or the `signal` that ended it, or what it said.

    With none of the three something else than NumPy was imported.
    """

    version: Optional[str]
    signal: int
    error: str


class NumpyFound(NamedTuple):
    """NumPy's `version`, or None and `reason`: what is wrong and how to mend it, one line."""

    version: Optional[str]
    reason: str


def check_numpy() -> None:
    """Raise UnsupportedError with one line, what is wrong and how to mend it, when NumPy cannot be imported here."""
    found = find_numpy()
    if found.version is None:
        raise UnsupportedError(found.reason)


def find_numpy() -> NumpyFound:
    """Return NumPy's version without importing it here, or why it cannot be imported and how to mend that.

    Costs one import in a forked process, which is free where this process has it already.
    """
    if hasattr(sys.modules.get("numpy"), "ndarray"):
        return NumpyFound(str(sys.modules["numpy"].__version__), "")
    place = _place()
    if place is None:
        return NumpyFound(None, "{} has no NumPy; install it: {}".format(sys.executable, _install()))
    tried = _import_in_child({})
    if tried.version is not None:
        return NumpyFound(tried.version, "")
    if tried.signal:
        return NumpyFound(None, _killed(place, tried.signal))
    if tried.error:
        return NumpyFound(None, "NumPy ({}) cannot be imported ({}); {}".format(place, tried.error, _another()))
    return NumpyFound(None, "{} is imported as NumPy and is something else; rename or remove it".format(place))


def _killed(place: str, number: int) -> str:
    """Return what to say of a NumPy that ends the process that imports it; the advice is tried before it is given."""
    said = "importing NumPy ({}) ends Python by {}".format(place, signal_name(number))
    if number == signal.SIGKILL:
        return "{}, as Linux does when memory runs out; close other programs, then run this again".format(said)
    if number != signal.SIGILL:
        return "{}; {}".format(said, _another())
    setting = "{}={}".format(_CORE, _ANY_ARM64)
    if _import_in_child({_CORE: _ANY_ARM64}).version is None:
        return "{}, an illegal instruction, also with {}; {}".format(said, setting, _another())
    return (
        "{}, as its OpenBLAS takes this processor for another one; it works after: export {} (in ssh's commands as "
        "well after: echo {} | sudo tee -a /etc/environment)".format(said, setting, setting)
    )


def _place() -> Optional[str]:
    """Return where NumPy lies; None where there is none. Imports nothing."""
    spec = importlib.util.find_spec("numpy")
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or [])
    return folders[0] if folders else str(spec.origin)


def _import_in_child(environment: Dict[str, str]) -> _Import:
    """Import NumPy in a copy of this process, the same paths and flags, with `environment` added."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            _tell_of_import(writer, environment)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        said = answers.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return _Import(None, os.WTERMSIG(status), "")
    answer: Dict[str, Any] = json.loads(said.decode("utf-8")) if said else {"error": "it ends Python"}
    return _Import(answer.get("version"), 0, answer.get("error", ""))


def _tell_of_import(writer: int, environment: Dict[str, str]) -> None:
    """Import NumPy and write what came of it into the pipe `writer`; what the libraries print goes nowhere."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # it may well crash
    os.environ.update(environment)
    try:
        import numpy

        # A folder of that name imports as well.
        answer = {"version": str(numpy.__version__)} if hasattr(numpy, "ndarray") else {}
    except BaseException as error:  # noqa: BLE001  whatever it is ends the command that needs NumPy
        words = one_line(str(error).split(_ORIGINAL_ERROR)[-1]) or type(error).__name__
        answer = {"error": words[:_LONGEST_REASON]}
    os.write(writer, json.dumps(answer).encode("utf-8"))


def _install() -> str:
    if sys.prefix == _SYSTEM_PREFIX:
        return _SYSTEMS
    return "{} -m pip install numpy, or use the system's Python after: {}".format(sys.executable, _SYSTEMS)


def _another() -> str:
    """Return how to have another NumPy than one that does not work."""
    return "install another: {} -m pip uninstall numpy, then: {}".format(sys.executable, _install())
