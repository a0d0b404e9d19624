"""The agent where NumPy is missing, broken, or ends the process that imports it: one true line, exit code 2."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_jetson.device import any_python_3_6

from engines.device_builds.agent_file import AgentRequest, write_agent
from jetson.device.numpy_check import check_numpy, find_numpy
from jetson.processes import run_program

REPOSITORY = Path(__file__).resolve().parents[3]
PYTHONS = [pytest.param(sys.executable, id="this Python")]
if any_python_3_6() is not None:
    PYTHONS.append(pytest.param(any_python_3_6(), id="python3.6"))
COMMANDS = [("build", "order.zip"), ("check", "order.zip", "result.zip"), ("bench", "order.zip", "result.zip")]
DIES = "import os, signal\nos.kill(os.getpid(), signal.{})\n"
CURED = (
    "import os, signal\nif os.environ.get('OPENBLAS_CORETYPE') != 'ARMV8':\n    os.kill(os.getpid(), signal.SIGILL)\n"
)
REAL_NAMES = "ndarray, __version__ = list, '1.19.5'\n"


@pytest.fixture(scope="module")
def agent_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agent") / "coop-agent.pyz"
    write_agent(AgentRequest(path))
    return path


def run_agent(
    python: str, agent_file: Path, *arguments: str, **environment: str | Path
) -> subprocess.CompletedProcess[str]:
    """Run the agent in a Python without site-packages: there is no NumPy but the one that PYTHONPATH leads to."""
    variables = {"PATH": "/usr/bin:/bin", **{name: str(value) for name, value in environment.items()}}
    return subprocess.run(
        [python, "-S", str(agent_file), *arguments], capture_output=True, text=True, env=variables, check=False
    )


def fake_numpy(folder: Path, source: str) -> Path:
    """Return a folder that holds a package called numpy with `source`."""
    (folder / "numpy").mkdir()
    (folder / "numpy" / "__init__.py").write_text(source)
    return folder


def refusal(ended: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of a refusal without the program's name."""
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("coop-agent: error: ")
    return line.removeprefix("coop-agent: error: ")


@pytest.mark.parametrize("python", PYTHONS)
def test_without_numpy_every_command_that_needs_it_says_how_to_have_it(python: str, agent_file: Path) -> None:
    said = {refusal(run_agent(python, agent_file, *command)) for command in COMMANDS}
    assert said == {
        f"{python} has no NumPy; install it: {python} -m pip install numpy, or use the system's Python after: sudo "
        "apt-get install python3-numpy"
    }


@pytest.mark.parametrize("python", PYTHONS)
def test_what_needs_no_numpy_works_without(python: str, agent_file: Path) -> None:
    version = run_agent(python, agent_file, "--version")
    assert (version.returncode, version.stderr) == (0, "")
    assert version.stdout.startswith("coop-agent ")
    assert "probe" in run_agent(python, agent_file, "--help").stdout
    probed = run_agent(python, agent_file, "probe", "--json")
    assert (probed.returncode, probed.stderr) == (0, "")
    found = json.loads(probed.stdout)
    assert "numpy" not in found
    assert found["unknown"]["numpy"] == refusal(run_agent(python, agent_file, *COMMANDS[0]))
    shown = run_agent(python, agent_file, "probe").stdout.splitlines()
    assert f"numpy         unknown: {found['unknown']['numpy']}" in shown


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("source", "said"),
    [
        (DIES.format("SIGILL"), "importing NumPy ({place}) ends Python by SIGILL, an illegal instruction, also with "
         "OPENBLAS_CORETYPE=ARMV8; install another: {python} -m pip uninstall numpy, then: "),
        (CURED + REAL_NAMES, "importing NumPy ({place}) ends Python by SIGILL, as its OpenBLAS takes this processor "
         "for another one; it works after: export OPENBLAS_CORETYPE=ARMV8 (in ssh's commands as well after: echo "
         "OPENBLAS_CORETYPE=ARMV8 | sudo tee -a /etc/environment)"),
        (DIES.format("SIGSEGV"), "importing NumPy ({place}) ends Python by SIGSEGV; install another: "),
        (DIES.format("SIGKILL"), "importing NumPy ({place}) ends Python by SIGKILL, as Linux does when memory runs "
         "out; close other programs"),
        ("raise ImportError('''\n\nIMPORTANT: READ THIS\n\nOriginal error was: libopenblas.so.0: cannot open it\n''')",
         "NumPy ({place}) cannot be imported (libopenblas.so.0: cannot open it); install another: "),
        ("print('noise', flush=True)\nraise RuntimeError('')", "NumPy ({place}) cannot be imported (RuntimeError); "),
        ("def f(:", "NumPy ({place}) cannot be imported (invalid syntax"),
        ("import os\nos._exit(0)", "NumPy ({place}) cannot be imported (it ends Python); "),
        ("x = 1", "{place} is imported as NumPy and is something else; rename or remove it"),
    ],
    ids=["SIGILL", "SIGILL with a cure", "SIGSEGV", "SIGKILL", "a library missing", "noise", "syntax", "exit", "other"],
)  # fmt: skip
def test_a_numpy_that_does_not_work_is_named(
    python: str, agent_file: Path, tmp_path: Path, source: str, said: str
) -> None:
    folder = fake_numpy(tmp_path, source)
    found = refusal(run_agent(python, agent_file, "build", "order.zip", PYTHONPATH=folder))
    assert found.startswith(said.format(place=folder / "numpy", python=python))
    probed = run_agent(python, agent_file, "probe", "--json", PYTHONPATH=folder)
    assert json.loads(probed.stdout)["unknown"]["numpy"] == found


@pytest.mark.parametrize("python", PYTHONS)
def test_the_cure_that_is_named_is_one(python: str, agent_file: Path, tmp_path: Path) -> None:
    folder = fake_numpy(tmp_path, CURED + REAL_NAMES)
    probed = run_agent(python, agent_file, "probe", "--json", PYTHONPATH=folder, OPENBLAS_CORETYPE="ARMV8")
    found = json.loads(probed.stdout)
    assert found["numpy"] == "1.19.5"
    assert "numpy" not in found["unknown"]


def test_a_folder_without_code_is_no_numpy(agent_file: Path, tmp_path: Path) -> None:
    (tmp_path / "numpy").mkdir()
    found = refusal(run_agent(sys.executable, agent_file, "build", "order.zip", PYTHONPATH=tmp_path))
    assert found == f"{tmp_path}/numpy is imported as NumPy and is something else; rename or remove it"


def test_the_real_numpy_is_found_without_importing_it() -> None:
    script = (
        "import sys\nfrom jetson.device.numpy_check import find_numpy, check_numpy\ncheck_numpy()\n"
        "found = find_numpy()\nassert 'numpy' not in sys.modules\nprint(found.version, repr(found.reason))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert ended.stdout.split() == [np.__version__, "''"]
    check_numpy()
    assert find_numpy() == (np.__version__, "")


def test_a_program_that_a_signal_ends_says_which() -> None:
    shell = shutil.which("sh") or "sh"
    assert run_program([shell, "-c", "kill -ILL $$"], 60).last_words == "SIGILL ended it"
    assert run_program([shell, "-c", "echo before; kill -ILL $$"], 60).last_words == "before"
    assert run_program([shell, "-c", "exit 3"], 60).last_words == "it said nothing"
