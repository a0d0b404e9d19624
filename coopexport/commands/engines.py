"""The command `engines`: what the store of engines holds, what an engine file is, and making room."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coopexport.output import print_table

if TYPE_CHECKING:
    from jetson.engines.identity import EngineIdentity
    from jetson.engines.machine import Machine
    from jetson.store.store import EngineStore

_DIGEST_CHARACTERS = 12


@click.group()
def engines() -> None:
    """Look into the store of engines that were built once, or at one engine file."""


@engines.command("list")
def list_engines() -> None:
    """List the stored engines, the most recently used first."""
    from jetson.store.store import entries

    store = _store()
    rows = []
    for entry in reversed(entries(store)):
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
            f"Engines in {store.root}",
            ["key", "built for", "target", "builder", "precision", "batch", "bytes", "last used"],
            rows,
            left=5,
        )
    _print_total(store)


@engines.command()
@click.argument("engine")
def explain(engine: str) -> None:
    """Say what ENGINE is and whether it may be loaded here; a file with its identity, or a key from `list`.

    Ends with exit code 2 when it may not.
    """
    from engines.host.this_machine import this_machine
    from jetson.engines.admission import explain_mismatch, read_engine, unverified
    from jetson.engines.identity import BACKEND_NAMES
    from jetson.errors import CoopexportError

    here = this_machine()
    identity = read_engine(engine)[0] if Path(engine).exists() or os.sep in engine else _stored(engine)
    mismatches = explain_mismatch(identity, here)
    name = BACKEND_NAMES.get(identity.backend, identity.backend)
    unknown = unverified(identity, here)
    runs_on = "any processor" if identity.backend == "onnxruntime" else "not known"
    facts = [
        ("built for", f"{identity.variant} {_part(identity)}, target {identity.target}"),
        (
            "built by",
            f"{name} {identity.backend_version} ({identity.builder}), coopexport {identity.coopexport_version}",
        ),
        ("built on", _machine(identity.machine)),
        ("runs on", ", ".join(f"SM {item}" for item in identity.compute_capabilities) or runs_on),
        ("built at", f"{identity.built_at}, in {identity.build_seconds:,.1f} s"),
        ("precision", f"{identity.precision}, batch {_batches(identity)}"),
        ("file", f"{identity.engine_bytes:,} bytes, SHA-256 {identity.engine_sha256}"),
        ("graph", f"SHA-256 {identity.source_sha256}"),
        ("checked", _checked(identity)),
        ("here", _machine(here)),
        *(("not compared", text) for text in unknown),
        *(("differs", text) for text in mismatches),
    ]
    for what, text in facts:
        click.echo(f"{what:<13} {text}")
    if mismatches:
        raise CoopexportError(
            f"engine {engine} may not be loaded here: {mismatches[0]}; build it again: coopexport build --target "
            f"{identity.target}"
        )
    click.echo("it may be loaded here" + (", as far as this machine is known" if unknown else ""))


@engines.command()
@click.option("--limit", help="What to keep, such as 500MB; default: COOPEXPORT_STORE_LIMIT, or 4 GiB. 0 empties it.")
def prune(limit: str | None) -> None:
    """Remove the least recently used engines beyond a size, and what interrupted builds left behind."""
    from jetson.store.location import byte_count
    from jetson.store.store import evict

    store = _store()
    gone_bytes = evict(store, store.limit_bytes if limit is None else byte_count(limit, "--limit"))
    click.echo(f"removed {gone_bytes:,} bytes")
    _print_total(store)


def _store() -> EngineStore:
    from jetson.store.location import store_limit_bytes, store_root
    from jetson.store.store import EngineStore

    return EngineStore(store_root(os.environ), store_limit_bytes(os.environ))


def _stored(digest: str) -> EngineIdentity:
    """Return the identity of the stored engine whose key begins with `digest`; raises CoopexportError."""
    from jetson.errors import CoopexportError
    from jetson.store.store import Hit, entries, find

    store = _store()
    keys = [entry.key for entry in entries(store) if digest and entry.key.digest.startswith(digest)]
    if len(keys) != 1:
        count = "no stored engine" if not keys else f"{len(keys)} stored engines"
        raise CoopexportError(
            f"there is no file {digest}, and {count} in {store.root} with a key that begins like that; see: coopexport "
            "engines list"
        )
    found = find(store, keys[0])
    if not isinstance(found, Hit):
        raise CoopexportError(f"{found.reason}; build it again: coopexport build")
    return found.identity


def _print_total(store: EngineStore) -> None:
    from jetson.store.entries import stored_bytes
    from jetson.store.store import entries

    count = len(entries(store))
    size = f"{stored_bytes(store):,} of {store.limit_bytes:,} bytes"
    click.echo(f"{count} engine{'' if count == 1 else 's'}, {size}, in {store.root}")


def _part(identity: EngineIdentity) -> str:
    return identity.layer if identity.role == identity.layer else f"{identity.layer} {identity.role}"


def _checked(identity: EngineIdentity) -> str:
    from jetson.engines.identity import where_run

    return f"its golden data agree on {where_run(identity)}" if identity.parity else f"no: {identity.parity_reason}"


def _batches(identity: EngineIdentity) -> str:
    least, best, most = identity.batches
    return str(least) if least == most else f"{least} to {most}, best {best}"


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
