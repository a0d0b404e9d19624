"""Which variants a command works on: all, those that are named, or those whose names fit a pattern."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from exporter.project.settings import Project
from exporter.variants.layer_graphs import existing_variant, trained_records, variants
from jetson.errors import CoopexportError, InputError, reworded

_WILDCARDS = frozenset("*?[")


@dataclass(frozen=True)
class ChosenVariant:
    """A variant to work on.

    `cuts`: the layers at which cutting it makes sense (None: all). `named`: the user named it alone, and not by a
    pattern, so that it is cut wherever the user says. `only_there`: these cuts are its own, and no candidates of the
    project.
    """

    name: str
    cuts: tuple[str, ...] | None
    named: bool
    only_there: bool = False


def chosen_variants(project: Project, names: Sequence[str]) -> list[ChosenVariant]:
    """Return the variants that `names` means, each once; without names all, in the project's order.

    A name with `*`, `?` or `[` is a pattern. Raises CoopexportError when one does not exist or a pattern fits none.
    """
    records = trained_records(project)
    cuts = {record.variant: record.cuts for record in records}
    own = {record.variant for record in records if record.step == "bottleneck"}
    known = variants(project)
    found: dict[str, bool] = {}
    for name in names or ["*"]:
        if _WILDCARDS.isdisjoint(name):
            found[existing_variant(project, name)] = True
            continue
        fitting = fnmatch.filter(known, name)
        if not fitting:
            raise InputError(f'no variant\'s name fits "{name}"', fix=f"`coopexport variants` lists all {len(known)}")
        found.update((variant, found.get(variant, False)) for variant in fitting)
    return [ChosenVariant(variant, cuts.get(variant), named, variant in own) for variant, named in found.items()]


@contextmanager
def naming(variant: str) -> Iterator[None]:
    """Let every CoopexportError say which variant it is about; its class and fields stay."""
    try:
        yield
    except CoopexportError as error:
        if variant in str(error):
            raise
        raise reworded(error, f"variant {variant}: {error}") from None
