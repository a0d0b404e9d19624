"""The command agent: the agent's file."""

from __future__ import annotations

from pathlib import Path

import click

from coopexport.output import next_step, relative


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
    from engines.device_builds.agent_file import AgentRequest, write_agent

    result = write_agent(AgentRequest(output))
    click.echo(f"{relative(result.path)}: {result.size_bytes:,} bytes")
    next_step(f"copy it to the device, then there: python3 {result.path.name} probe")
