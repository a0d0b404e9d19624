"""The command probe: what a device is."""

from __future__ import annotations

import click

from coopexport.output import print_table


@click.command()
@click.argument("device")
def probe(device: str) -> None:
    """Say what DEVICE (user@host or user@host:port) is: board, TensorRT, power mode, memory; over ssh."""
    from engines.device_builds.remote import probe_device

    found = probe_device(device)
    rows = [(key, str(value)) for key, value in found["machine"].items() if key != "backends"]
    rows += [(name, version) for name, version in found["machine"].get("backends", {}).items()]
    rows += [(key, str(found[key])) for key in ("jetpack", "python", "trtexec") if key in found]
    rows += [(key, _fields(found[key])) for key in ("power_mode", "memory", "temperatures") if found.get(key)]
    rows += [(f"{key}: not known", reason) for key, reason in found["unknown"].items()]
    print_table(f"What {device} is", ["", ""], rows, left=2)


def _fields(content: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in content.items())
