"""The command probe: what a device is."""

from __future__ import annotations

import click

from coopexport.output import print_table


@click.command()
@click.argument("device")
def probe(device: str) -> None:
    """Say what DEVICE (user@host or user@host:port) is: board, TensorRT, power mode, memory; over ssh."""
    from engines.device_builds.probe import ProbeRequest, probe_over_ssh

    result = probe_over_ssh(ProbeRequest(device))
    machine, record = result.machine, result.record
    rows = [(key, str(value)) for key, value in machine.to_json().items() if key != "backends"]
    rows += list(machine.backends.items())
    rows += [(key, str(record[key])) for key in ("jetpack", "python", "trtexec") if key in record]
    rows += [(key, _fields(record[key])) for key in ("power_mode", "memory", "temperatures") if record.get(key)]
    rows += [(f"{key}: not known", reason) for key, reason in result.unknown.items()]
    print_table(f"What {device} is", ["", ""], rows, left=2)


def _fields(content: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in content.items())
