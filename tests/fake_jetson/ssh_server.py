"""A real OpenSSH server on the loopback whose sessions are on a fake Jetson."""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests_support import wait_until

from fake_jetson.device import FakeDevice
from fake_jetson.running import children_of

SERVER = "/usr/sbin/sshd"


@dataclass(frozen=True)
class SshServer:
    """A running server. `name`: what `--device` takes; `client`: the ssh command that knows its key and ours."""

    process: subprocess.Popen[bytes]
    name: str
    client: str
    log: Path

    def stop_all(self) -> None:
        """Kill the server and its open sessions: the connections of its clients are lost."""
        for process_id in children_of(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, 9)
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def ssh_server(device: FakeDevice, folder: Path) -> Iterator[SshServer]:
    """Yield a server in `folder`, which is new, whose sessions have `device`'s home, tools and files."""
    folder.mkdir()
    for key in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    (folder / "authorized_keys").write_bytes((folder / "user_key.pub").read_bytes())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host_key = (folder / "host_key.pub").read_text().split()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key[0]} {host_key[1]}\n")
    # The session's command runs with nothing but the device's environment, in its home, as on a machine of its own.
    session = " ".join(["exec", "env", "-i", *(shlex.quote(f"{k}={v}") for k, v in device.environment.items())])
    forced = folder / "session.sh"
    forced.write_text(
        f'#!/bin/sh\ncd "$HOME" && cd {shlex.quote(str(device.home))}\n{session} sh -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    forced.chmod(0o755)
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host_key",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PidFile": "none",
        "UsePAM": "no",
        "StrictModes": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "ForceCommand": forced,
    }
    (folder / "sshd_config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    (folder / "ssh_config").write_text(
        f"IdentityFile {folder}/user_key\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known_hosts\n"
        "GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    log = folder / "sshd.log"
    process = subprocess.Popen([SERVER, "-D", "-e", "-f", folder / "sshd_config"], stderr=log.open("wb"))
    server = SshServer(process, f"{getpass.getuser()}@127.0.0.1:{port}", f"ssh -F {folder}/ssh_config", log)
    try:
        _wait_until_open(port, server)
        yield server
    finally:
        server.stop_all()


def _wait_until_open(port: int, server: SshServer) -> None:
    def answers() -> bool:
        assert server.process.poll() is None, server.log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    wait_until(answers, "an ssh server that answers")
