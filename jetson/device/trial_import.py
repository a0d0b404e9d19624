"""Importing a package in a forked process: some builds of NumPy and ONNX Runtime end the process that imports them."""

import importlib
import importlib.util
import json
import os
import resource
from typing import Any, Dict, Mapping, NamedTuple, Optional

from jetson.errors import one_line

# Before the words of the one error that matters NumPy puts a page of advice.
_ORIGINAL_ERROR = "Original error was: "
_LONGEST_REASON = 200


class TrialImport(NamedTuple):
    """How an import went in a forked process: `version`; or the `signal` that ended it, or what it said.

    With none of the three something else of that name was imported.
    """

    version: Optional[str]
    signal: int
    error: str


def place_of(name: str) -> Optional[str]:
    """Return where a package lies; None where there is none. Imports nothing."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or [])
    return folders[0] if folders else str(spec.origin)


def try_import(name: str, attribute: str, environment: Optional[Mapping[str, str]] = None) -> TrialImport:
    """Import a package in a copy of this process, the same paths and flags, with `environment` added.

    `attribute`: what the package has; another one of that name, such as a folder, has not.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            _tell_of_import(writer, name, attribute, environment or {})
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        said = answers.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return TrialImport(None, os.WTERMSIG(status), "")
    answer: Dict[str, Any] = json.loads(said.decode("utf-8")) if said else {"error": "it ends Python"}
    return TrialImport(answer.get("version"), 0, answer.get("error", ""))


def _tell_of_import(writer: int, name: str, attribute: str, environment: Mapping[str, str]) -> None:
    """Import the package and write what came of it into the pipe `writer`; what libraries print goes nowhere."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # it may well crash
    os.environ.update(environment)
    try:
        module = importlib.import_module(name)
        answer = {"version": str(module.__version__)} if hasattr(module, attribute) else {}
    except BaseException as error:  # noqa: BLE001  whatever it is ends the command that needs the package
        words = one_line(str(error).split(_ORIGINAL_ERROR)[-1]) or type(error).__name__
        answer = {"error": words[:_LONGEST_REASON]}
    os.write(writer, json.dumps(answer).encode("utf-8"))
