"""Which TensorRT is installed: as Python module, as packages of the system, as trtexec."""

import re
import sys
from typing import Dict, NamedTuple, Optional, Tuple

from jetson.errors import DeviceError, UnsupportedError
from jetson.processes import find_program, run_program
from jetson.tensorrt_engines.trtexec import own_version

# Importing it on a Nano, from an SD card, takes tens of seconds.
_IMPORT_TIMEOUT_S = 180.0
_PACKAGE_TIMEOUT_S = 20.0
# The library's package carries its major version since TensorRT 5: libnvinfer8, libnvinfer10.
_LIBRARY = re.compile(r"^libnvinfer\d+ (\S+)$", re.MULTILINE)


class InstalledTensorRT(NamedTuple):
    """Versions of TensorRT by where they were found; None where there is none, with the reason in `reasons`.

    `module`: "10.3.0", what `tensorrt.__version__` says; `package`: "10.3.0.30", of the library's Debian package;
    `cuda`: "12.5", which that package was made for; `tool`: "10.3.0", what trtexec calls itself, where neither of the
    others says anything (systems without Debian's packages).
    """

    module: Optional[str]
    package: Optional[str]
    cuda: Optional[str]
    reasons: Dict[str, str]
    tool: Optional[str] = None

    @property
    def version(self) -> Optional[str]:
        """Return the most exact version: the package's where it only says more than the module's."""
        if self.module is None or self.package is None:
            return self.module or self.package or self.tool
        return self.package if self.package.startswith(self.module) else self.module


def find_tensorrt(trtexec: Optional[str] = None, python: str = sys.executable) -> InstalledTensorRT:
    """Ask the Python module, in a process of its own, the package system, and else the tool at the path `trtexec`."""
    module, why_no_module = _module_version(python)
    package, cuda, why_no_package = _package_version()
    reasons = {"module": why_no_module, "package": why_no_package}
    tool = None
    if trtexec is not None and module is None and package is None:
        try:
            tool = own_version(trtexec)
        except (UnsupportedError, DeviceError) as error:
            reasons["tool"] = str(error)
    return InstalledTensorRT(module, package, cuda, {key: value for key, value in reasons.items() if value}, tool)


def _module_version(python: str) -> Tuple[Optional[str], str]:
    # Not in this process: it brings hundreds of megabytes, and a library that does not fit can end the process.
    try:
        answer = run_program([python, "-c", "import tensorrt; print(tensorrt.__version__)"], _IMPORT_TIMEOUT_S)
    except (UnsupportedError, DeviceError) as error:
        return None, str(error)
    if answer.code != 0:
        return None, "import tensorrt: {}".format(answer.last_words)
    return answer.output.strip(), ""


def _package_version() -> Tuple[Optional[str], Optional[str], str]:
    program = find_program("dpkg-query")
    if program is None:
        return None, None, "there is no dpkg-query"
    form = "--showformat=${Package} ${Version}\\n"
    try:
        answer = run_program([program, "--show", form, "libnvinfer*"], _PACKAGE_TIMEOUT_S)
    except (UnsupportedError, DeviceError) as error:
        return None, None, str(error)
    found = _LIBRARY.search(answer.output)
    if found is None:
        return None, None, "no package libnvinfer is installed"
    # "8.2.1-1+cuda10.2", "10.3.0.30-1+cuda12.5"
    version, _, build = found.group(1).partition("-")
    cuda = re.search(r"\+cuda([\d.]+)", build)
    return version, cuda.group(1) if cuda else None, ""
