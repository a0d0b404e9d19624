"""Building and measuring on a device over ssh: look at it, copy what it lacks, have the agent work, bring back what it
made.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.device_builds import ssh
from engines.device_builds.agent_file import agent_bytes
from engines.device_builds.requests import (
    InstalledEngine,
    OrderedMeasurement,
    PendingEngine,
    install_result,
    request_target,
    write_request,
)
from engines.device_builds.ssh import Connection
from engines.targets.target import Target
from jetson.agent.progress import describe_event
from jetson.device.matching import check_device
from jetson.engines.machine import machine_from_json
from jetson.errors import DeviceError
from jetson.files.atomic_files import blocks_of, sha256_of_bytes, sha256_of_file
from jetson.files.json_files import decode_json
from jetson.requests import archive
from jetson.requests.build_request import RESULT_NAME, Result, ResultItem, open_result
from jetson.store.blobs import blob_path, list_blobs, write_blob

PROBE_SCHEMA = "coopexport.probe/1.0"
_RUN_NAME = "run.json"
_FOLDER = '"${COOPEXPORT_AGENT_FOLDER:-${XDG_CACHE_HOME:-$HOME/.cache}/coopexport/agent}"'
# Begins what the first command prints: whatever else stands there is a login script's.
_MARK = "coopexport-agent"
# Graphs, agents and build requests that nothing has used for so long are removed from the device; no file of another
# name is, as the folder may be one of the user's own.
_KEEP_DAYS = 30
_OURS = r".*/([0-9a-f]{64}(\.part)?|coop-agent-[0-9a-f]{16}\.pyz(\.part)?|order-[0-9a-f]{16}\.json(\.part)?)"

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class _Agent:
    """The agent on a device: `folder` is where its files go, `path` the agent itself."""

    connection: Connection
    folder: str
    path: str

    @property
    def blobs(self) -> str:
        """Return the folder of the files that build requests and results speak of."""
        return f"{self.folder}/{archive.BLOBS_FOLDER}"

    def command(self, *arguments: str) -> str:
        """Return the shell's command that runs it."""
        return shlex.join(["python3", self.path, *arguments])


@dataclass(frozen=True)
class _Work:
    """The agent at work for one command. `results`: the folder there of what it makes."""

    agent: _Agent
    results: str


def probe_device(name: str) -> dict[str, Any]:
    """Return what the agent finds out about the device `name` (user@host:port); raises CoopexportError.

    The agent is copied there first, if it is not there yet.
    """
    with ssh.connect(name) as connection:
        return _probe(_send_agent(connection))


def build_on_device(
    name: str, target: Target, pending: Sequence[PendingEngine], on_event: OnEvent
) -> list[InstalledEngine]:
    """Build engines on the device `name` and install them here; return what became of each.

    `on_event` gets what the agent tells while it works (`jetson.agent.progress`). Raises CoopexportError before
    anything is copied when the device is not the target or cannot import NumPy, and saying to run again when the
    connection is lost: engines that the device has finished are not built again.
    """
    with _work_on(name, target) as work, tempfile.TemporaryDirectory(prefix="coopexport-") as folder:
        request_sha256 = _send_request(work.agent, target, pending, None, Path(folder), on_event)
        _build(work, request_sha256, on_event)
        fetched = _fetch_result(work.agent, work.results, pending, Path(folder))
        return install_result(Path(fetched.archive.path), target, pending)


def bench_on_device(
    name: str,
    target: Target,
    pending: Sequence[PendingEngine],
    measured: OrderedMeasurement,
    on_event: OnEvent,
    kept: Sequence[PendingEngine],
) -> tuple[list[InstalledEngine], bytes]:
    """Build engines on the device `name` and measure them; return what became of those `kept`, and the run as a file.

    `kept`: those of `pending` that are installed here. Raises CoopexportError as `build_on_device` does. Rows that
    failed are in the run, with their reasons.
    """
    with _work_on(name, target) as work, tempfile.TemporaryDirectory(prefix="coopexport-") as folder:
        request_sha256 = _send_request(work.agent, target, pending, measured, Path(folder), on_event)
        _build(work, request_sha256, on_event)
        fetched = _fetch_result(work.agent, work.results, kept, Path(folder))
        installed = install_result(Path(fetched.archive.path), target, kept)
        run = f"{work.results}/{_RUN_NAME}"
        order, result = _request_path(work.agent, request_sha256), f"{work.results}/{RESULT_NAME}"
        _have_done(work.agent, ["bench", order, result, "--output", run, "--json"], on_event)
        return installed, ssh.fetch(work.agent.connection, run)


@contextlib.contextmanager
def _work_on(name: str, target: Target) -> Iterator[_Work]:
    """Yield the agent on the device `name`, which is the target and has what it needs; clear up there afterwards.

    Raises CoopexportError before anything but the agent is copied when it is another device, or lacks something.
    """
    with ssh.connect(name) as connection:
        agent = _send_agent(connection)
        probe = _probe(agent)
        try:
            machine = machine_from_json(probe["machine"])
        except (KeyError, ValueError) as error:
            raise DeviceError(f"{name} does not say what machine it is ({error!r})") from None
        check_device(request_target(target), machine, probe.get("jetpack"), name)
        _check_packages(probe, name, target)
        # Of this run alone: one that lost its connection may still be writing its own.
        work = _Work(agent, f"{agent.folder}/results/{secrets.token_hex(8)}")
        yield work
        _clear(agent, work.results)


def _send_agent(connection: Connection) -> _Agent:
    """Copy the agent unless that very one is there; raises CoopexportError when the device has no python3."""
    agent = agent_bytes()
    digest = sha256_of_bytes(agent)
    name = f"coop-agent-{digest[:16]}.pyz"
    script = (
        "command -v python3 >/dev/null || { echo 'there is no python3' >&2; exit 4; }; "
        f"folder={_FOLDER}; printf '{_MARK}\\n%s\\n' \"$folder\"; "
        f'[ ! -f "$folder/{name}" ] || sha256sum < "$folder/{name}"'
    )
    mark, *lines = ssh.run(connection, script, doing=ssh.CONNECTING).decode(errors="replace").splitlines() or [""]
    if mark != _MARK or not lines:
        # Files and archives come back the same way, where a greeting would be part of them.
        raise DeviceError(
            f"{connection.name} prints {mark[:80]!r} before the command's own output: have its login script say "
            f"nothing in a session without a terminal (ssh {connection.name} true has to print nothing)"
        )
    folder, *there = lines
    if there != [f"{digest}  -"]:
        ssh.send(connection, f"{folder}/{name}", agent)
    return _Agent(connection, folder, f"{folder}/{name}")


def _probe(agent: _Agent) -> dict[str, Any]:
    answer = ssh.run(agent.connection, agent.command("probe", "--json"), doing="probing")
    return decode_json(answer, PROBE_SCHEMA, f"what {agent.connection.name} says of itself")


def _check_packages(probe: dict[str, Any], name: str, target: Target) -> None:
    """Refuse a device whose Python cannot import what checks engines, in the agent's own words."""
    unknown = probe.get("unknown")
    for package in ("numpy", "onnxruntime") if target.backend == "onnxruntime" else ("numpy",):
        if isinstance(unknown, dict) and package in unknown:
            raise DeviceError(f"{name}: {unknown[package]}")


def _send_request(
    agent: _Agent,
    target: Target,
    pending: Sequence[PendingEngine],
    measured: OrderedMeasurement | None,
    folder: Path,
    on_event: OnEvent,
) -> str:
    """Copy the build request and those of its files that the device lacks; return its SHA-256."""
    manifest = folder / "order.json"
    request_sha256 = write_request(manifest, target, pending, measured)
    blobs = archive.blobs_beside(str(manifest))
    files = list_blobs(blobs)
    missing = ssh.missing(agent.connection, agent.blobs, files)
    total = sum(Path(blob_path(blobs, sha256)).stat().st_size for sha256 in missing)
    text = f"copying {len(missing)} of {len(files)} files to {agent.connection.name}, {total:,} bytes"
    on_event({"event": "note", "text": text})
    if missing:
        ssh.send_all(agent.connection, agent.blobs, blobs, missing)
    ssh.send(agent.connection, _request_path(agent, request_sha256), manifest.read_bytes())
    return request_sha256


def _request_path(agent: _Agent, request_sha256: str) -> str:
    return f"{agent.folder}/order-{request_sha256[:16]}.json"


def _build(work: _Work, request_sha256: str, on_event: OnEvent) -> None:
    """Have the agent build into the folder of results there. Items that fail are in it, with the reason."""
    order, result = _request_path(work.agent, request_sha256), f"{work.results}/{RESULT_NAME}"
    _have_done(work.agent, ["build", order, "--output", result, "--json"], on_event)


def _have_done(agent: _Agent, arguments: Sequence[str], on_event: OnEvent) -> None:
    """Run a command of the agent to its end; raises CoopexportError in its own words when it does not get there."""
    finished = []

    def on_line(line: str) -> None:
        try:
            event = json.loads(line)
            describe_event(event)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            return  # nothing of the agent's
        if event.get("event") == "done":
            finished.append(event)
        else:
            on_event(event)

    code, said = ssh.stream(agent.connection, agent.command(*arguments), on_line)
    if not finished:
        raise DeviceError(f"{agent.connection.name}: {said.removeprefix('coop-agent: error: ')} (exit code {code})")


def _fetch_result(agent: _Agent, results: str, pending: Sequence[PendingEngine], folder: Path) -> Result:
    """Bring the result here, and those of its engines that do not lie where they belong already."""
    manifest = folder / RESULT_NAME
    manifest.write_bytes(ssh.fetch(agent.connection, f"{results}/{RESULT_NAME}"))
    result = open_result(str(manifest))
    blobs = archive.blobs_beside(str(manifest))
    here = {sha256_of_file(str(one.path)): one.path for one in pending if one.path.is_file()}
    wanted = dict.fromkeys(sha256 for item in result.items for sha256 in _files(item))
    for sha256 in wanted:
        if sha256 in here:
            with here[sha256].open("rb") as file:
                write_blob(blobs, blocks_of(file), sha256)
    absent = [sha256 for sha256 in wanted if sha256 not in here]
    if absent:
        ssh.fetch_all(agent.connection, f"{results}/{archive.BLOBS_FOLDER}", absent, blobs)
    return result


def _files(item: ResultItem) -> list[str]:
    """Return the SHA-256 of engine and identity; none of an item that failed."""
    return [sha256 for sha256 in (item.engine_sha256, item.identity_sha256) if sha256 is not None]


def _clear(agent: _Agent, results: str) -> None:
    """Remove the result from the device; engines, graphs and build requests stay for the next one, or for who else has
    them.
    """
    gone = f"rm -rf {shlex.quote(results)}"
    folders = shlex.join([agent.folder, agent.blobs])
    ours = f"-maxdepth 1 -regextype posix-extended -type f -regex {shlex.quote(_OURS)}"
    old = f"find {folders} {ours} -mtime +{_KEEP_DAYS} -delete"
    # Of runs that lost their connection.
    lost = f"find {shlex.quote(agent.folder)}/results -mindepth 1 -maxdepth 1 -type d -name {'[0-9a-f]' * 16!r}"
    lost += f" -mtime +{_KEEP_DAYS} -exec rm -rf {{}} + 2>/dev/null || true"
    ssh.run(agent.connection, f"{gone}; touch {shlex.quote(agent.path)}; {old}; {lost}", doing="clearing up")
