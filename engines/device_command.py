"""Commands for devices: write the agent's file, look at a device over ssh."""

from __future__ import annotations

from pathlib import Path

import click

from exporter.command_line import next_step, print_table, relative


@click.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("coop-agent.pyz"),
    show_default=True,
    help="Where the file goes.",
)
def agent(output: Path) -> None:
    """Write the agent: one file that any Jetson runs with its own Python 3 and NumPy."""
    from engines.device_builds.agent_file import write_agent

    write_agent(output)
    click.echo(f"{relative(output)}: {output.stat().st_size:,} bytes")
    next_step(f"copy it to the device, then there: python3 {output.name} probe")


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
