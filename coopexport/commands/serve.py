"""The command serve: the tails of a plan, for devices."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.commands.options import target_option
from coopexport.output import progress_bar, project_option
from jetson.stream.hello import DEFAULT_PORT

if TYPE_CHECKING:
    from engines.serving.connection import Event
    from engines.serving.serve import Listening

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@project_option
@click.option("--plan", "plan_file", type=click.Path(dir_okay=False, path_type=Path), help="Default: the project's.")
@target_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 for everywhere.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any free one.")
@click.option("--certificate", type=_FILE, help="PEM file of this server's certificate: speak TLS.")
@click.option("--key", type=_FILE, help="PEM file of its key.")
@click.option("--client-authority", type=_FILE, help="PEM file of who signs devices' certificates: ask for one.")
@click.option("--slots", type=click.IntRange(min=1), default=1, show_default=True, help="Tails that compute at once.")
@click.option("--batch", help="What its engines were built for, such as 1-4-8; default: one sample at a time.")
@click.option("--most-waiting", type=click.IntRange(min=1), default=256, show_default=True, help="Requests that wait.")
@click.option("--verbose", is_flag=True, help="Say each device that comes and goes, and each request refused.")
def serve(
    project_file: Path | None,
    plan_file: Path | None,
    target_name: str,
    host: str,
    port: int,
    certificate: Path | None,
    key: Path | None,
    client_authority: Path | None,
    slots: int,
    batch: str | None,
    most_waiting: int,
    verbose: bool,
) -> None:
    """Serve what the edge runs of a plan to devices, until it is interrupted.

    The engines are those of `coopexport build` for the target; devices run `coop-agent.pyz run`. A plan that is written
    anew meanwhile is served from then on, without losing a request.
    """
    from coopexport.commands.build import parse_batches
    from engines.serving.serve import ServeRequest, serve_plan
    from engines.targets.lookup import find_target
    from engines.targets.project_targets import own_targets
    from exporter.project.settings import load_project

    if plan_file is None:
        project = load_project(project_file)
        plan_file, own = project.output / "plan.json", own_targets(project.settings.targets)
    else:
        own = {}
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def tell(event: Event) -> None:
        if verbose:
            click.echo(" ".join(filter(None, (event.what, event.device, event.route, event.reason))))

    def failed(why: str) -> None:
        click.echo(f"the new plan is not served: {why}", err=True)

    request = ServeRequest(
        plan_file, find_target(target_name, own), host, port, certificate, key, client_authority, slots,
        (1, 1, 1) if batch is None else parse_batches(batch), most_waiting,
    )  # fmt: skip
    with progress_bar() as bar:
        result = serve_plan(request, stop, bar.above(print_listening), tell, failed, bar)
    click.echo("stopped" if result.drained else "stopped; requests that were under way are not answered")


def print_listening(listening: Listening) -> None:
    """Print where a server listens, and for what."""
    how = "TLS" if listening.is_encrypted else "not encrypted"
    click.echo(f"serving release {listening.release} on {listening.host}:{listening.port}, {how}:")
    for pair in listening.pairs:
        click.echo(f"  {pair}")
    for pair, why in listening.refused.items():
        click.echo(f"  not {pair}: {why}")
