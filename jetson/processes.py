"""Running other programs: found by name, bounded in time, their words kept for messages."""

import ctypes
import os
import shutil
import signal
import subprocess
from typing import Mapping, NamedTuple, Optional, Sequence

from jetson.errors import DeviceError, UnsupportedError, one_line

_PR_SET_PDEATHSIG = 1


class ToolResult(NamedTuple):
    """How a program ended (`code` below 0: by that signal), and what it printed on its two outputs."""

    code: int
    output: str
    errors: str

    @property
    def last_words(self) -> str:
        """Return the last line that is not blank, of the errors if there are any; of a silent one what ended it."""
        lines = [line for line in (self.errors if self.errors.strip() else self.output).splitlines() if line.strip()]
        if lines:
            return one_line(lines[-1])
        return "it said nothing" if self.code >= 0 else "{} ended it".format(signal_name(-self.code))


def find_program(name: str, folders: Sequence[str] = ()) -> Optional[str]:
    """Return the path of a program on PATH, or else in `folders`; None when it is nowhere."""
    found = shutil.which(name)
    for folder in folders:
        if found is None:
            found = shutil.which(name, path=folder)
    return found


def run_program(
    arguments: Sequence[str], timeout_s: float, environment: Optional[Mapping[str, str]] = None
) -> ToolResult:
    """Run a program to its end, without input; `environment` is added to this one's.

    Raises CoopexportError naming the program when it cannot be started or takes longer than `timeout_s` seconds.
    """
    variables = dict(os.environ)
    variables.update(environment or {})
    try:
        ended = subprocess.run(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=timeout_s,
            env=variables,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError("{} did not end within {:g} s".format(arguments[0], timeout_s)) from None
    except OSError as error:
        raise UnsupportedError("{} cannot be started: {}".format(arguments[0], error.strerror)) from None
    return ToolResult(
        ended.returncode, ended.stdout.decode("utf-8", "replace"), ended.stderr.decode("utf-8", "replace")
    )


def signal_name(number: int) -> str:
    """Return "SIGILL" for 4; real-time signals, which have no name, by their number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal {}".format(number)


def end_with_parent() -> None:
    """Have Linux end this process when its parent ends: a builder left alone would hold the GPU's memory.

    For `preexec_fn`: called in the child, before it becomes another program.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
