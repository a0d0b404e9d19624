"""The agent as one file: the `jetson` room, zipped, that any Python 3.6 with NumPy runs as it is."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jetson
from jetson.files.atomic_files import write_file
from jetson.version import VERSION

AGENT_FILE = "coop-agent.pyz"
_SHEBANG = b"#!/usr/bin/env python3\n"
# Equal sources give equal bytes: the earliest date that a zip file knows, and plain permissions.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
_PERMISSIONS = 0o644 << 16
_SUFFIXES = (".py", ".c")
_MAIN = """\
import sys

from jetson.agent.command_line import main

sys.exit(main(sys.argv[1:], "{version} ({digest})"))
"""


@dataclass(frozen=True)
class AgentRequest:
    """Where the agent's file goes."""

    output: Path = Path(AGENT_FILE)


@dataclass(frozen=True)
class AgentResult:
    """The agent's file, and its size."""

    path: Path
    size_bytes: int


def agent_bytes() -> bytes:
    """Return the agent's file: the same bytes for the same sources and version."""
    sources = dict(_sources())
    digest = hashlib.sha256()
    for name, data in sources.items():
        digest.update(f"{name} {len(data)}\n".encode() + data)
    main = _MAIN.format(version=VERSION, digest=digest.hexdigest()[:12])
    buffer = io.BytesIO()
    buffer.write(_SHEBANG)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, data in {"__main__.py": main.encode(), **sources}.items():
            member = zipfile.ZipInfo(name, _ZIP_DATE)
            member.external_attr = _PERMISSIONS
            archive.writestr(member, data)
    return buffer.getvalue()


def write_agent(request: AgentRequest) -> AgentResult:
    """Write the agent, whole or not at all, executable; raises OSError."""
    path, data = request.output, agent_bytes()
    write_file(str(path), data)
    path.chmod(path.stat().st_mode | 0o111)
    return AgentResult(path, len(data))


def _sources() -> Iterator[tuple[str, bytes]]:
    """Yield name in the zip file and content of every source of the room, in one order everywhere."""
    room = Path(jetson.__file__).parent
    for path in sorted(room.rglob("*"), key=lambda item: item.relative_to(room).as_posix()):
        if path.suffix in _SUFFIXES and path.is_file():
            yield f"jetson/{path.relative_to(room).as_posix()}", path.read_bytes()
