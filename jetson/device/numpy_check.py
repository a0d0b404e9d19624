"""Whether this Python can import NumPy, and where it cannot, how to mend that.

The OpenBLAS in NumPy 1.19.5's wheel takes a Jetson's processor for another one and dies by SIGILL; OPENBLAS_CORETYPE
names the kernels that it should take (https://github.com/numpy/numpy/issues/18131).
"""

import signal
import sys
from typing import NamedTuple, Optional

from jetson.device.trial_import import place_of, try_import
from jetson.errors import UnsupportedError
from jetson.processes import signal_name

_NAME, _ATTRIBUTE = "numpy", "ndarray"
_CORE, _ANY_ARM64 = "OPENBLAS_CORETYPE", "ARMV8"
_SYSTEM_PREFIX = "/usr"
_SYSTEMS = "sudo apt-get install python3-numpy"


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
    if hasattr(sys.modules.get(_NAME), _ATTRIBUTE):
        return NumpyFound(str(sys.modules[_NAME].__version__), "")
    place = place_of(_NAME)
    if place is None:
        return NumpyFound(None, "{} has no NumPy; install it: {}".format(sys.executable, _install()))
    tried = try_import(_NAME, _ATTRIBUTE)
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
    if try_import(_NAME, _ATTRIBUTE, {_CORE: _ANY_ARM64}).version is None:
        return "{}, an illegal instruction, also with {}; {}".format(said, setting, _another())
    return (
        "{}, as its OpenBLAS takes this processor for another one; it works after: export {} (in ssh's commands as "
        "well after: echo {} | sudo tee -a /etc/environment)".format(said, setting, setting)
    )


def _install() -> str:
    if sys.prefix == _SYSTEM_PREFIX:
        return _SYSTEMS
    return "{} -m pip install numpy, or use the system's Python after: {}".format(sys.executable, _SYSTEMS)


def _another() -> str:
    """Return how to have another NumPy than one that does not work."""
    return "install another: {} -m pip uninstall numpy, then: {}".format(sys.executable, _install())
