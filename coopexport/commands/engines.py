"""The command `engines`: what the store of engines holds, what an engine file is, and making room."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

import click

from coopexport.output import print_table

if TYPE_CHECKING:
    from engines.host.stored_engines import ExplainResult, StoredEngines
    from jetson.engines.identity import EngineIdentity
    from jetson.engines.machine import Machine

_DIGEST_CHARACTERS = 12


@click.group()
def engines() -> None:
    """Look into the store of engines that were built once, or at one engine file."""


@engines.command("list")
def list_command() -> None:
    """List the stored engines, the most recently used first."""
    from engines.host.stored_engines import list_engines, own_store

    stored = list_engines(own_store())
    rows = []
    for entry in stored.entries:
        identity = entry.identity
        used_at = datetime.fromtimestamp(entry.used_at_s).astimezone().isoformat(" ", "minutes")
        rows.append(
            (
                entry.key.digest[:_DIGEST_CHARACTERS],
                f"{identity.variant} {_part(identity)}",
                identity.target,
                f"{identity.backend} {identity.backend_version}",
                identity.precision,
                _batches(identity),
                f"{identity.engine_bytes:,}",
                used_at[:16],
            )
        )
    if rows:
        print_table(
            f"Engines in {stored.store.root}",
            ["key", "built for", "target", "builder", "precision", "batch", "bytes", "last used"],
            rows,
            left=5,
        )
    _print_total(stored)


@engines.command()
@click.argument("engine")
def explain(engine: str) -> None:
    """Say what ENGINE is and whether it may be loaded here; a file with its identity, or a key from `list`.

    Ends with exit code 2 when it may not.
    """
    from engines.host.stored_engines import ExplainRequest, explain_engine
    from jetson.errors import UnsupportedError

    result = explain_engine(ExplainRequest(engine))
    for what, text in _facts(result):
        click.echo(f"{what:<13} {text}")
    if result.mismatches:
        raise UnsupportedError(
            f"engine {engine} may not be loaded here: {result.mismatches[0]}",
            path=engine,
            fix=f"build it again: coopexport build --target {result.identity.target}",
        )
    click.echo("it may be loaded here" + (", as far as this machine is known" if result.unchecked else ""))


@engines.command()
@click.option("--limit", help="What to keep, such as 500MB; default: COOPEXPORT_STORE_LIMIT, or 4 GiB. 0 empties it.")
def prune(limit: str | None) -> None:
    """Remove the least recently used engines beyond a size, and what interrupted builds left behind."""
    from engines.host.stored_engines import PruneStoreRequest, own_store, prune_engines
    from jetson.store.location import byte_count

    store = own_store()
    limit_bytes = None if limit is None else byte_count(limit, "--limit")
    result = prune_engines(store, PruneStoreRequest(limit_bytes))
    click.echo(f"removed {result.removed_bytes:,} bytes")
    _print_total(result.left)


def _print_total(stored: StoredEngines) -> None:
    count = len(stored.entries)
    size = f"{stored.stored_bytes:,} of {stored.store.limit_bytes:,} bytes"
    click.echo(f"{count} engine{'' if count == 1 else 's'}, {size}, in {stored.store.root}")


def _facts(result: ExplainResult) -> Iterable[tuple[str, str]]:
    """Yield all that is said of an engine, one thing after the other."""
    from jetson.engines.identity import BACKEND_NAMES

    identity = result.identity
    name = BACKEND_NAMES.get(identity.backend, identity.backend)
    runs_on = "any processor" if identity.backend == "onnxruntime" else "not known"
    yield "built for", f"{identity.variant} {_part(identity)}, target {identity.target}"
    version = f"coopexport {identity.coopexport_version}"
    yield "built by", f"{name} {identity.backend_version} ({identity.builder}), {version}"
    yield "built on", _machine(identity.machine)
    yield "runs on", ", ".join(f"SM {item}" for item in identity.compute_capabilities) or runs_on
    yield "built at", f"{identity.built_at}, in {identity.build_seconds:,.1f} s"
    yield "precision", f"{identity.precision}, batch {_batches(identity)}"
    yield "file", f"{identity.engine_bytes:,} bytes, SHA-256 {identity.engine_sha256}"
    yield "graph", f"SHA-256 {identity.source_sha256}"
    yield "checked", _checked(identity)
    yield "here", _machine(result.machine)
    for text in result.unchecked:
        yield "not compared", text
    for text in result.mismatches:
        yield "differs", text


def _part(identity: EngineIdentity) -> str:
    return identity.layer if identity.role == identity.layer else f"{identity.layer} {identity.role}"


def _checked(identity: EngineIdentity) -> str:
    from jetson.engines.identity import where_run

    return f"its golden data agree on {where_run(identity)}" if identity.parity else f"no: {identity.parity_reason}"


def _batches(identity: EngineIdentity) -> str:
    min_batch, opt_batch, max_batch = identity.batches
    return str(min_batch) if min_batch == max_batch else f"{min_batch} to {max_batch}, best {opt_batch}"


def _machine(machine: Machine) -> str:
    """Return a machine in one line, what is not known left out."""
    facts = [
        machine.platform,
        machine.board or machine.gpu,
        None if machine.compute_capability is None else f"SM {machine.compute_capability}",
        None if machine.l4t is None else f"L4T {machine.l4t}",
        *(f"{name} {version}" for name, version in machine.backends.items()),
    ]
    return ", ".join(fact for fact in facts if fact)
