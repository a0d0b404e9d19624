"""The agent's one file: the same bytes each time, nothing but the ground floor in it, and quick to answer."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from fake_jetson.device import any_python_3_6

from engines.device_builds.agent_file import AgentRequest, agent_bytes, write_agent
from jetson.version import VERSION

ROOM = Path(__file__).resolve().parents[3] / "jetson"


@pytest.fixture(scope="module")
def agent_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "coop-agent.pyz"
    write_agent(AgentRequest(path))
    return path


def test_the_same_sources_give_the_same_bytes(agent_file: Path) -> None:
    assert agent_file.read_bytes() == agent_bytes()
    assert agent_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert agent_file.stat().st_mode & 0o111


def test_the_file_that_is_written_is_named_with_its_size(tmp_path: Path) -> None:
    result = write_agent(AgentRequest(tmp_path / "new folder" / "my agent.pyz"))
    assert result.path == tmp_path / "new folder" / "my agent.pyz"
    assert result.size_bytes == result.path.stat().st_size > 100_000
    assert AgentRequest().output == Path("coop-agent.pyz")
    with pytest.raises(NotADirectoryError):
        write_agent(AgentRequest(result.path / "agent.pyz"))
    assert [path.name for path in result.path.parent.iterdir()] == ["my agent.pyz"]


def test_it_holds_the_whole_ground_floor_and_nothing_else(agent_file: Path) -> None:
    with zipfile.ZipFile(agent_file) as archive:
        names = set(archive.namelist())
    sources = {f"jetson/{path.relative_to(ROOM)}" for suffix in (".py", ".c") for path in ROOM.rglob(f"*{suffix}")}
    assert names == {"__main__.py", *sources}


@pytest.mark.parametrize("python", [sys.executable, any_python_3_6()], ids=["this Python", "python3.6"])
def test_its_version_comes_at_once(agent_file: Path, python: str | None) -> None:
    """Nothing is imported for it that takes time: not NumPy, and of the agent no more than its command line."""
    if python is None:
        pytest.skip("left out: there is no Python 3.6 here (COOPEXPORT_PYTHON36)")
    ended = subprocess.run([python, "-I", agent_file, "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith(f"coop-agent {VERSION} (")
    script = (
        "import runpy, sys\nbefore = set(sys.modules)\nsys.argv = [sys.argv[1], '--version']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    looked = subprocess.run([python, "-I", "-c", script, agent_file], capture_output=True, text=True, check=True)
    imported = set(looked.stdout.splitlines()[-1].split())
    ours = {name for name in imported if name.partition(".")[0] == "jetson"}
    assert ours == {"jetson", "jetson.agent", "jetson.agent.command_line", "jetson.errors"}
    assert not imported & {
        "numpy",
        "json",
        "ctypes",
        "subprocess",
        "threading",
        "tempfile",
        "asyncio",
        "multiprocessing",
    }


def test_wrong_use_is_answered_in_one_line(agent_file: Path, tmp_path: Path) -> None:
    def said(*arguments: str) -> tuple[int, list[str]]:
        ended = subprocess.run([sys.executable, agent_file, *arguments], capture_output=True, text=True, cwd=tmp_path)
        return ended.returncode, ended.stderr.splitlines()

    code, lines = said("build", "nowhere.zip")
    assert (code, lines) == (2, ["coop-agent: error: nowhere.zip is missing; check the path"])
    assert said("fly")[0] == 2
    assert said("bench", "a", "b", "--rounds", "0")[0] == 2
