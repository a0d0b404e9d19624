"""One step of one item, in a process of its own: what ends it, such as a lack of memory, ends nothing else.

The parent (`run_step`) starts the agent again with the hidden command `step` and a job as JSON; the child (`do_step`)
answers with one JSON object per line.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Dict, List, Optional

import jetson
from jetson.errors import CoopexportError, DeviceError, error_of_kind, one_line
from jetson.processes import end_with_parent

# How often somebody who waits is told that it goes on.
_SILENCE_S = 5.0


def agent_command() -> List[str]:
    """Return how this agent is started: from its one file, or as a module of the folder that it was imported from."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(jetson.__file__)))
    return [sys.executable, home] if os.path.isfile(home) else [sys.executable, "-m", "jetson.agent"]


def run_step(job: Dict[str, Any], on_event: Callable[[Dict[str, Any]], None]) -> Dict[str, Any]:
    """Do `job` in a process of its own and return its answer; events on the way go to `on_event`.

    Raises the step's own error, by its class and reason, or DeviceError saying how the process ended when it left none.
    """
    environment = dict(os.environ)
    home = os.path.dirname(os.path.dirname(os.path.abspath(jetson.__file__)))
    if not os.path.isfile(home):
        environment["PYTHONPATH"] = os.pathsep.join([home] + environment.get("PYTHONPATH", "").split(os.pathsep))
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            agent_command() + ["step", json.dumps(job)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            preexec_fn=end_with_parent,
        )
        try:
            answer = _listen(process, on_event)
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace")
    if answer is not None and "failure" not in answer:
        return answer
    if answer is not None:
        raise error_of_kind(answer.get("kind"), answer["failure"])
    raise DeviceError(_how_it_ended(code, said))


def do_step(text: str) -> int:
    """Do the job that `text` holds and answer on stdout; return the exit code."""
    from jetson.agent.steps import STEPS

    # TensorRT writes to stdout itself; the answers go through a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(event: Dict[str, Any]) -> None:
        answers.write(json.dumps(event, allow_nan=False) + "\n")
        answers.flush()

    job = json.loads(text)
    try:
        tell({"answer": STEPS[job["step"]](job, tell)})
    except CoopexportError as error:
        tell({"answer": {"failure": str(error), "kind": type(error).__name__}})
        return 2
    except MemoryError:
        tell({"answer": {"failure": "memory ran out: close other programs, then run this again"}})
        return 2
    except OSError as error:
        where = " ({})".format(error.filename) if error.filename else ""
        tell({"answer": {"failure": "{}{}".format(error.strerror or one_line(error), where)}})
        return 2
    return 0


def _listen(process: Any, on_event: Callable[[Dict[str, Any]], None]) -> Optional[Dict[str, Any]]:
    """Pass on what the child tells until it closes its output, and something now and then when it is silent."""
    lines: Any = queue.Queue()

    def read() -> None:
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    answer = None
    started = time.monotonic()
    while True:
        try:
            line = lines.get(timeout=_SILENCE_S)
        except queue.Empty:
            on_event({"seconds": time.monotonic() - started})
            continue
        if line is None:
            return answer
        event = json.loads(line.decode("utf-8"))
        if "answer" in event:
            answer = event["answer"]
        else:
            on_event(dict(event, seconds=time.monotonic() - started))


def _how_it_ended(code: int, said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    words = ": " + one_line(lines[-1])[:300] if lines else ""
    if code == -signal.SIGKILL:
        return (
            "its process was killed, as Linux does when memory runs out{}: close other programs, give it swap, or "
            "order a smaller network or batch".format(words)
        )
    if code < 0:
        return "signal {} ended its process{}".format(-code, words)
    return "its process ended with code {}{}".format(code, words)
