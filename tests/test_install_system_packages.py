"""`make test` installs what tests marked `system` need, and waits for the package manager where it is busy."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest
from tests_support import STUCK_S

SCRIPT = Path(__file__).with_name("install_system_packages.sh")
LISTS = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 123 (apt-get)"
ARCHIVES = "E: Unable to lock directory /var/cache/apt/archives/"
OLD_DPKG = "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?"
DPKG = "dpkg: error: dpkg frontend lock was locked by another process with pid 123"
BUSY = (LISTS, ARCHIVES, OLD_DPKG, DPKG)
WAITING = "waiting for the package manager, which another program uses"


class Machine:
    """Tools in a folder that come before the system's. `answers`: what apt-get says, in turn; "" where all is well."""

    def __init__(self, folder: Path, answers: tuple[str, ...], user: int = 0) -> None:
        self.folder, self.answers = folder, folder / "answers"
        self.log = folder / "log"
        self.log.touch()
        self.answers.write_text("".join(f"{answer}\n" for answer in answers))
        self.packages = folder / "packages.txt"
        self.packages.write_text("here\nabsent\ntoo-absent\n")
        self.tool("id", f"echo {user}")
        self.tool("sleep", "exit 0")
        self.tool("dpkg-query", 'case "$*" in *" here") printf "install ok installed";; *) exit 1;; esac')
        self.tool(
            "apt-get",
            f'echo "$*" >> {self.log}; read -r said < {self.answers}; sed -i 1d {self.answers}\n'
            '[ -n "$said" ] || exit 0\necho "$said" >&2\nexit 100',
        )

    def tool(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def command(self, **environment: str) -> tuple[list[str], dict[str, str]]:
        return ["sh", str(SCRIPT), str(self.packages)], {
            "PATH": f"{self.folder}:/usr/bin:/bin:/usr/sbin:/sbin",
            **environment,
        }

    def install(self, **environment: str) -> tuple[list[str], list[str]]:
        """Return what the script printed, and how apt-get was called."""
        command, variables = self.command(**environment)
        ended = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=STUCK_S, check=True)
        return ended.stdout.splitlines(), self.log.read_text().splitlines()


def test_what_is_missing_is_installed(tmp_path: Path) -> None:
    said, calls = Machine(tmp_path, ("", "")).install()
    assert said == []
    options = "-qq -o DPkg::Lock::Timeout=10"
    assert calls == [f"{options} update", f"{options} install -y absent too-absent"]


def test_nothing_is_done_where_nothing_is_missing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, ())
    machine.packages.write_text("here\n")
    assert machine.install() == ([], [])


def test_a_busy_package_manager_is_waited_for_and_no_test_is_left_out(tmp_path: Path) -> None:
    said, calls = Machine(tmp_path, (*BUSY, "", *BUSY, "")).install()
    assert said == [WAITING]
    assert [call.split()[3] for call in calls] == ["update"] * 5 + ["install"] * 5


@pytest.mark.parametrize("answers", [("",), ()], ids=["install", "update"])
def test_one_that_is_never_free_is_given_up(tmp_path: Path, answers: tuple[str, ...]) -> None:
    said, calls = Machine(tmp_path, (*answers, LISTS)).install(COOPEXPORT_APT_WAIT_S="0")
    assert said == [
        "leaving out tests that need absent too-absent: another program has used the package manager for 0 s"
    ]
    assert len(calls) == len(answers) + 1


def test_other_failures_are_told_at_once(tmp_path: Path) -> None:
    said, calls = Machine(tmp_path, ("", "E: Unable to locate package absent")).install()
    assert said == ["leaving out tests that need absent too-absent: apt-get could not install it"]
    assert len(calls) == 2


def test_without_the_right_to_install_the_command_is_named(tmp_path: Path) -> None:
    said, calls = Machine(tmp_path, (), user=1000).install()
    assert said == [
        "leaving out tests that need absent too-absent; to have them: sudo apt-get install absent too-absent"
    ]
    assert calls == []


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="left out: apt-get is Debian's and Ubuntu's")
def test_the_real_apt_is_waited_for(tmp_path: Path) -> None:
    """With lists of its own, which are empty: nothing is fetched, nothing is installed, the lock is real."""
    tools = tmp_path / "tools"
    tools.mkdir()
    machine = Machine(tools, ())
    (machine.folder / "apt-get").unlink()
    machine.tool("sleep", "exec /bin/sleep 0.1")
    lists, archives = tmp_path / "lists", tmp_path / "archives"
    for folder in (lists / "partial", archives / "partial"):
        folder.mkdir(parents=True)
    settings = tmp_path / "apt.conf"
    settings.write_text(
        f'Dir::State::Lists "{lists}";\nDir::Cache::Archives "{archives}";\nDir::Cache "{tmp_path}";\n'
        'Dir::Etc::SourceList "/dev/null";\nDir::Etc::SourceParts "/dev/null";\nAPT::Sandbox::User "root";\n'
    )
    command, variables = machine.command(APT_CONFIG=str(settings))
    with (lists / "lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == WAITING
        assert process.poll() is None
    said, errors = process.communicate(timeout=STUCK_S)
    # Its lists are empty, so that it cannot find what is missing: the update went through.
    assert "Unable to locate package absent" in errors
    assert said == "leaving out tests that need absent too-absent: apt-get could not install it\n"
