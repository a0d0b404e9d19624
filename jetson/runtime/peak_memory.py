"""How much memory a process needs more while it loads an engine and runs it, each engine in a child of its own.

The parent has the runtime imported and forks a child for each engine, so that no engine finds what another one left.
Counted is memory that the process writes, at its most (proc(5), /proc/pid/status: VmHWM less RssFile). Pages of files
are not: Linux drops them where memory is short, and a child has to map the runtime's own anew. Of an engine on a GPU
what the GPU has less free is added.
"""

import ctypes
import json
import os
import re
import select
import signal
import time
import warnings
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional

from jetson.errors import CoopexportError, DeviceError, one_line
from jetson.processes import end_with_parent, signal_name

if TYPE_CHECKING:  # it imports NumPy, which only engines on a GPU need here
    from jetson.cuda.free_memory import GpuMemory

_STATUS, _CLEAR_PEAK = "/proc/self/status", ("/proc/self/clear_refs", "5")
# The first run sets up what later ones find.
_RUNS = 3
_TIMEOUT_S = 600.0
_LONGEST_REASON = 300
_BLOCK_BYTES = 1 << 16
Run = Callable[[], Any]
Begin = Callable[[], None]


class PeakMemory(NamedTuple):
    """`bytes`: the most that an engine needed while it was loaded and run; None where that is not known, and why."""

    bytes: Optional[int]
    reason: str = ""


class Resident(NamedTuple):
    """Memory of this process in bytes: `written` by it, pages of `files`, and the `most` of both at once."""

    written: int
    files: int
    most: int


def peak_memory(
    work: Callable[[Begin], Run], open_gpu: Optional[Callable[[], "GpuMemory"]] = None, timeout_s: float = _TIMEOUT_S
) -> PeakMemory:
    """Return what `work` needs, in a child of this process, which should have one thread.

    `work(begin)` calls `begin()` right before it loads the engine, and returns a function that runs it. `open_gpu`: for
    an engine on a GPU; it sets up all that engines share there. A child that fails, is ended by a signal or takes
    longer than `timeout_s` seconds is a reason.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python warns of NumPy's threads; its library starts new ones in a child (OpenBLAS has a handler for that).
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _answer_and_end(writing, work, open_gpu)
    os.close(writing)
    text = None
    try:
        text = _read_to_end(reading, time.monotonic() + timeout_s)
    finally:
        os.close(reading)
        if text is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if text is None:
        return PeakMemory(None, "not done after {:g} s".format(timeout_s))
    if os.WIFSIGNALED(status):
        return PeakMemory(None, "{} ended its process".format(signal_name(os.WTERMSIG(status))))
    answer: Dict[str, Any] = json.loads(text)
    return PeakMemory(answer.get("bytes"), answer.get("failure", ""))


def read_resident(path: str = _STATUS) -> Resident:
    """Return the memory of this process; raises DeviceError where the kernel does not tell (Linux 4.5 is the first)."""
    try:
        with open(path, "rb") as file:
            text = file.read().decode("ascii", "replace")
    except OSError as error:
        raise DeviceError("{} cannot be read: {}".format(path, error.strerror)) from None
    found = {name: 1024 * int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    missing = [name for name in ("RssAnon", "RssFile", "RssShmem", "VmHWM") if name not in found]
    if missing:
        raise DeviceError("{} does not have {}".format(path, ", ".join(missing)))
    return Resident(found["RssAnon"] + found["RssShmem"], found["RssFile"], found["VmHWM"])


def _measure(work: Callable[[Begin], Run], open_gpu: Optional[Callable[[], "GpuMemory"]]) -> int:
    gpu = None if open_gpu is None else open_gpu()
    before: List[Resident] = []
    free_before: List[int] = []

    def begin() -> None:
        if gpu is not None:
            free_before.append(gpu.free_bytes())
        _give_back_what_is_free()
        _clear_peak()
        before.append(read_resident())

    run = work(begin)
    on_gpu = [_taken_of_gpu(gpu, free_before, before)]
    for _ in range(_RUNS):
        run()
    after = read_resident()
    on_gpu.append(_taken_of_gpu(gpu, free_before, before))
    if gpu is not None and max(on_gpu) <= 0:
        raise DeviceError("the GPU had no less memory free with the engine: other programs use it, too")
    # All pages of files were there at the end, so that no fewer than the rest were written at the peak.
    return max(after.most - after.files, after.written) - before[0].written + max(on_gpu)


def _give_back_what_is_free() -> None:
    """Give what was freed back to the system: an engine that got it again would seem to need less (malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)


def _clear_peak() -> None:
    """Let VmHWM start from what is held now: what was read before the engine is not the engine's."""
    path, command = _CLEAR_PEAK
    try:
        with open(path, "w") as file:
            file.write(command)
    except OSError as error:
        raise DeviceError("{} cannot be written: {}".format(path, error.strerror)) from None


def _taken_of_gpu(gpu: Optional["GpuMemory"], free_before: List[int], before: List[Resident]) -> int:
    """Return the bytes that a GPU has less free; of shared memory without those that the process itself holds."""
    if gpu is None:
        return 0
    taken = free_before[0] - gpu.free_bytes()
    return taken - (read_resident().written - before[0].written) if gpu.shared else taken


def _answer_and_end(writing: int, work: Callable[[Begin], Run], open_gpu: Optional[Callable[[], "GpuMemory"]]) -> None:
    """Measure, write the answer and end this process, whatever happens: it is a copy of its parent."""
    code = 1
    try:
        end_with_parent()
        try:
            answer: Dict[str, Any] = {"bytes": _measure(work, open_gpu)}
        except CoopexportError as error:
            answer = {"failure": str(error)}
        except MemoryError:
            answer = {"failure": "memory ran out"}
        except Exception as error:  # noqa: BLE001  any failure of an engine is data
            answer = {"failure": one_line("{}: {}".format(type(error).__name__, error))[:_LONGEST_REASON]}
        with os.fdopen(writing, "wb") as file:
            file.write(json.dumps(answer).encode("ascii"))
        code = 0
    finally:
        os._exit(code)


def _read_to_end(reading: int, deadline: float) -> Optional[str]:
    """Return what a child writes until it ends; None when that takes too long."""
    blocks: List[bytes] = []
    while True:
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        block = os.read(reading, _BLOCK_BYTES)
        if not block:
            return b"".join(blocks).decode("ascii") or "{}"
        blocks.append(block)
