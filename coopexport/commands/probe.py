"""The command probe: what a device is, and how fast the link to it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.output import next_step, print_table, progress_bar, wrote

if TYPE_CHECKING:
    from benchmarks.links.measurement import Direction, LinkMeasurement

# What encryption takes begins to matter somewhere above this, on a small board.
_FAST_BPS = 200e6


@click.command()
@click.argument("device")
@click.option("--link", "of_link", is_flag=True, help="Measure the link to DEVICE; it needs ssh and python3, no more.")
@click.option(
    "--seconds", default=10.0, show_default=True, help="With --link: at most, for each of three measurements."
)
@click.option("--message-bytes", default=64, show_default=True, help="With --link: of the small messages.")
@click.option("--output", type=click.Path(path_type=Path), help="With --link: its file; default: HOST.link.json.")
def probe(device: str, of_link: bool, seconds: float, message_bytes: int, output: Path | None) -> None:
    """Say what DEVICE (user@host or user@host:port) is: board, TensorRT, power mode, memory; over ssh.

    With --link say instead how fast the link to it is: bulk in both directions, and small messages there and back.
    """
    if of_link:
        _probe_link(device, seconds, message_bytes, output)
    else:
        _probe_device(device)


def _probe_device(device: str) -> None:
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


def _probe_link(device: str, seconds: float, message_bytes: int, output: Path | None) -> None:
    from benchmarks.links.measure import LinkProbeRequest, probe_link
    from benchmarks.links.measurement import write_measurement

    with progress_bar() as bar:
        measured = probe_link(LinkProbeRequest(device, seconds, message_bytes), bar)
    _print_measurement(measured)
    host = re.sub(r"[^A-Za-z0-9._-]+", "-", device.rpartition("@")[2]).strip("-")
    path = Path(f"{host}.link.json") if output is None else output
    write_measurement(path, measured)
    wrote(path)
    next_step(f'in {_project_file()}: [links.NAME] measured = "{path}"')


def _project_file() -> str:
    from exporter.project.settings import PROJECT_FILE

    return PROJECT_FILE


def _print_measurement(measured: LinkMeasurement) -> None:
    """Print both directions, the messages, and what is in the numbers that a program's own connection does not have."""
    rows = [
        _row(f"from {measured.device}", measured.from_device),
        _row(f"to {measured.device}", measured.to_device),
    ]
    print_table(
        "Goodput: bytes that arrived, without ssh and TCP/IP",
        ["", "Mbit/s", "95 % interval", "windows", "steady"],
        rows,
    )
    messages, summary = measured.messages, measured.messages.summary
    p90 = "" if summary.p90_ms is None else f", 90 % within {summary.p90_ms:.3g} ms"
    click.echo(
        f"{summary.count} messages of {messages.message_bytes} bytes, there and back: "
        f"median {summary.p50_ms:.3g} ms{p90}"
    )
    click.echo(
        f"with ssh and TCP/IP such a message has {messages.packet_bytes} bytes each way (counted): "
        f"{measured.message_transmission_ms:.3g} ms at these goodputs, nothing of which is taken off above; "
        f"a plan takes {measured.round_trip_ms:.3g} ms"
    )
    if max(measured.from_device.goodput_bps, measured.to_device.goodput_bps) > _FAST_BPS:
        click.echo("so fast a link may be faster than this: ssh encrypts, which takes a small board's processor time")


def _row(name: str, direction: Direction) -> tuple[str, ...]:
    goodput = direction.goodput
    interval = (
        ""
        if goodput.low_bps is None or goodput.high_bps is None
        else f"{goodput.low_bps / 1e6:.4g} to {goodput.high_bps / 1e6:.4g}"
    )
    windows = f"{goodput.kept} of {len(direction.windows)}"
    return (
        name,
        f"{goodput.median_bps / 1e6:.4g}",
        interval,
        windows,
        f"no: {goodput.reason}" if goodput.reason else "yes",
    )
