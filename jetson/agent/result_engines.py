"""The engines of a result, looked at before anything loads them."""

from typing import List, NamedTuple, Optional

from jetson.engines.identity import EngineIdentity, decode_identity
from jetson.engines.machine import Machine
from jetson.engines.verification import Expected, describe_incompatibility, describe_mismatch, file_problems
from jetson.errors import CoopexportError, InputError, StaleError
from jetson.requests.build_request import BuildRequest, Result, ResultItem, open_result, read_engine


class CheckedEngine(NamedTuple):
    """One engine of a result, or `failure`: why there is none that may be loaded here."""

    name: str
    data: bytes = b""
    identity: Optional[EngineIdentity] = None
    failure: Optional[str] = None


def open_result_of(request: BuildRequest, path: str) -> Result:
    """Open the result of an order; raises CoopexportError when it is damaged, or of another order."""
    result = open_result(path)
    if result.request_sha256 != request.archive.sha256:
        raise InputError("{} is the result of another order than {}".format(path, request.archive.path), path=path)
    return result


def check_engine(request: BuildRequest, result: Result, item: ResultItem, machine: Machine) -> CheckedEngine:
    """Return an engine of a result when it is the one that was ordered and belongs on `machine`, else why not."""
    if item.failure is not None:
        return CheckedEngine(item.name, failure="it was not built: {}".format(item.failure))
    try:
        engine, described = read_engine(result, item)
        identity = decode_identity(described, item.name)
        problems: List[str] = list(file_problems(identity, engine)) + describe_incompatibility(identity, machine)
        for problem in problems + describe_mismatch(identity, _expected(request, item.name)):
            raise StaleError(problem, fix="build it again on this device")
    except CoopexportError as error:
        return CheckedEngine(item.name, failure=str(error))
    return CheckedEngine(item.name, engine, identity)


def _expected(request: BuildRequest, name: str) -> Expected:
    """Return what the engine of the item called `name` has to be; raises CoopexportError when none was requested."""
    for item in request.items:
        if item.name == name:
            return item.expected(request.target.backend, request.target.name)
    raise InputError("it is not in the order")
