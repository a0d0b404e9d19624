"""Commands and files on another machine, over the system's OpenSSH client: one connection, the user's own settings."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from jetson.errors import DamagedFileError, DeviceError, InputError, one_line
from jetson.files.atomic_files import blocks_of, sha256_of_bytes
from jetson.store.blobs import BlobStore, blob_path, write_blob

# Another client, or more options for it, such as "ssh -F my_config".
COMMAND_VARIABLE = "COOPEXPORT_SSH"
_OPTIONS = (
    "BatchMode=yes",  # nobody can answer a question
    "ConnectTimeout=15",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
)
_SHARED = ("ControlMaster=auto", "ControlPersist=60")
# For what is measured: not behind what another command still has in its buffers, and as a program's own connection is
# treated. By default ssh marks its packets as bulk (CS1), which some WiFi sends after all others.
_APART = ("ControlMaster=no", "ControlPath=none", "Compression=no", "IPQoS=cs0")
# What the first command is for: when it fails, there is no connection at all.
CONNECTING = "connecting"
# What ssh itself ends with when it could not connect, or lost the connection.
SSH_FAILED = 255


@dataclass(frozen=True)
class Connection:
    """A machine that commands run on. `name`: as the user gave it; `command`: ssh with all its options."""

    name: str
    command: tuple[str, ...]


@contextlib.contextmanager
def connect(name: str) -> Iterator[Connection]:
    """Yield a connection to `name`: user@host, user@host:port, or a host of the user's ssh configuration.

    It is opened by the first command. Raises CoopexportError when `name` is no such thing.
    """
    parse_name(name)
    # A socket's path has at most 104 bytes, 17 of which ssh adds while it makes it: not in the project's folder, and
    # with a short name, as macOS's temporary folder takes 48.
    with tempfile.TemporaryDirectory(prefix="coopexport-") as folder:
        connection = _connection(name, (*_SHARED, f"ControlPath={folder}/s"))
        *command, destination = connection.command
        try:
            yield connection
        finally:
            subprocess.run([*command, "-O", "exit", destination], capture_output=True, check=False)


def apart(name: str) -> Connection:
    """Return a connection to `name` that every command opens anew and has for itself, without compression.

    Raises CoopexportError when `name` is no device.
    """
    return _connection(name, _APART)


def _connection(name: str, options: Sequence[str]) -> Connection:
    destination, port = parse_name(name)
    program = shlex.split(os.environ.get(COMMAND_VARIABLE, "ssh"))
    words = [item for option in (*_OPTIONS, *options) for item in ("-o", option)]
    return Connection(name, (*program, *words, *(["-p", str(port)] if port else []), destination))


def parse_name(name: str) -> tuple[str, int | None]:
    """Return destination and port of "user@host:port"; raises CoopexportError when it is something else."""
    match = re.fullmatch(r"(?P<host>(?:[^@\s:\[\]-][^@\s:\[\]]*@)?(?:[^@\s:\[\]-][^@\s:\[\]]*|\[[0-9a-fA-F:.%\w]+\]))"
                         r"(?::(?P<port>\d+))?", name)  # fmt: skip
    if match is None:
        raise InputError(f'"{name}" is not a device', fix="write it as user@host or user@host:port")
    destination = match["host"].replace("[", "").replace("]", "")
    return destination, int(match["port"]) if match["port"] else None


def run(connection: Connection, script: str, data: bytes = b"", doing: str = "") -> bytes:
    """Run a script of the POSIX shell there, with `data` as its input; return what it printed.

    Raises CoopexportError when it fails, with its last words; `doing` says what for.
    """
    ended = subprocess.run([*connection.command, remote_command(script)], input=data, capture_output=True, check=False)
    if ended.returncode != 0:
        raise failure(connection, ended.returncode, ended.stderr.decode(errors="replace"), doing)
    return ended.stdout


def stream(connection: Connection, script: str, on_line: Callable[[str], None]) -> tuple[int, str]:
    """Run a script there and hand over each line that it prints; return its exit code and its last error line.

    Raises CoopexportError when the connection is lost.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*connection.command, remote_command(script)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            for line in process.stdout or ():
                on_line(line.decode(errors="replace"))
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if code == SSH_FAILED or code < 0:
        raise failure(connection, SSH_FAILED, said, "building")
    return code, last_line(said)


def send(connection: Connection, path: str, data: bytes) -> None:
    """Write `data` to `path` there, whole or not at all, once it has arrived as it was; raises CoopexportError."""
    part = shlex.quote(f"{path}.part")
    check = f'[ "$(sha256sum < {part})" = "{sha256_of_bytes(data)}  -" ]'
    folder = shlex.quote(path.rpartition("/")[0])
    script = f"mkdir -p {folder} && cat > {part} && {check} && mv -f {part} {shlex.quote(path)}"
    run(connection, f"{script} || {{ rm -f {part}; echo 'it did not arrive whole' >&2; exit 3; }}", data, "sending")


def fetch(connection: Connection, path: str) -> bytes:
    """Return the content of a file there; raises CoopexportError."""
    return run(connection, f"cat {shlex.quote(path)}", doing="fetching")


def missing(connection: Connection, folder: str, names: Sequence[str]) -> list[str]:
    """Return which of the files called by their SHA-256 are not in `folder` there, or not in full.

    Those that arrived before a connection was lost are put in place. Others lose their date: they are in use.
    """
    script = f"cd {shlex.quote(folder)} 2>/dev/null; {_settle(names)}"
    said = set(run(connection, script, doing="looking").decode(errors="replace").split() if names else ())
    return [name for name in names if name in said]


def send_all(connection: Connection, folder: str, blobs: BlobStore, names: Sequence[str]) -> None:
    """Copy blobs, by their SHA-256, into `folder` there, in one go; raises CoopexportError.

    What has arrived when the connection is lost is not copied again.
    """
    quoted = shlex.quote(folder)
    script = f"mkdir -p {quoted} && cd {quoted} && tar -xf - && {{ {_settle(names)}; }}"
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*connection.command, remote_command(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        pipe, answers = process.stdin, process.stdout
        assert pipe is not None
        assert answers is not None
        with contextlib.suppress(BrokenPipeError), pipe, tarfile.open(fileobj=pipe, mode="w|") as archive:
            for name in names:
                archive.add(blob_path(blobs, name), f"{name}.part", filter=_plain)
        with answers:
            lost = answers.read().split()
        code = process.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if code != 0:
        raise failure(connection, code, said, "sending")
    if lost:
        raise DeviceError(
            f"{len(lost)} files did not arrive whole on {connection.name}", fix="run the same command again"
        )


def _settle(names: Sequence[str]) -> str:
    """Return the shell's command that gives whole files their name, and prints the names of those that are missing."""
    whole = '[ -f "$f$part" ] && [ "$(sha256sum < "$f$part")" = "$f  -" ]'
    settle = f'part=.part; {{ {whole} && mv -f "$f$part" "$f"; }}'
    tell = f'part=; if {whole}; then touch "$f"; else echo "$f"; fi'
    return f"for f in {shlex.join(names)}; do {settle}; {tell}; done"


def fetch_all(connection: Connection, folder: str, names: Sequence[str], blobs: BlobStore) -> None:
    """Bring files called by their SHA-256 from `folder` there into `blobs`, in one go, each verified.

    Raises CoopexportError; what has arrived as it was is there then.
    """
    script = f"tar -cf - -C {shlex.quote(folder)} -- {shlex.join(names)}"
    arrived, damaged = set(), set()
    with tempfile.TemporaryFile() as errors:
        command = [*connection.command, remote_command(script)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout is not None
            with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for member in archive:
                    content = archive.extractfile(member)
                    if content is None or member.name not in names:
                        continue
                    try:
                        write_blob(blobs, blocks_of(content), member.name)
                        arrived.add(member.name)
                    except DamagedFileError:
                        damaged.add(member.name)
            for _ in blocks_of(process.stdout):
                pass  # what fills up the archive's last record: who writes it must not fail
        code = process.returncode
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if damaged:
        raise DeviceError(
            f"{len(damaged)} of {len(names)} files from {connection.name} did not arrive as they were",
            fix="run the same command again",
        )
    if code != 0 or arrived != set(names):
        raise failure(connection, code or SSH_FAILED, said, "fetching")


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return a file's entry without this machine's users and dates."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode, member.mtime = 0o644, int(time.time())
    return member


def remote_command(script: str) -> str:
    """Return what ssh has the user's own shell run, which may be any: the POSIX shell with the script."""
    return f"exec sh -c {shlex.quote(script)}"


def failure(connection: Connection, code: int, said: str, doing: str) -> DeviceError:
    """Return the error for a command that ended with `code`, having `said` something; `doing`: what it was for."""
    words = last_line(said)
    if code != SSH_FAILED:
        return DeviceError(f"{doing or 'a command'} on {connection.name} failed: {words}")
    if doing == CONNECTING:
        return DeviceError(
            f"cannot reach {connection.name}: {words}",
            fix=f"make this work without a password, then run the command again: ssh {connection.name}",
        )
    return DeviceError(
        f"the connection to {connection.name} was lost while {doing or 'working'} ({words})",
        fix="run the same command again: what is finished there is not built again",
    )


def last_line(text: str) -> str:
    """Return the last line of what a command said that is not empty."""
    lines = [line for line in text.splitlines() if line.strip()]
    return one_line(lines[-1])[:300] if lines else "it said nothing"
