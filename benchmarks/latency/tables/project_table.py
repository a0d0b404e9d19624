"""What is done with the latency table of a project, or with one by itself: add, show, compare, export."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.latency.table import TABLE_FILE
from benchmarks.latency.tables.adding import Added, add_runs
from benchmarks.latency.tables.csv_files import csv_blocks
from benchmarks.latency.tables.database import open_to_read
from benchmarks.latency.tables.differences import Difference, differences
from benchmarks.latency.tables.newest import JudgedRow, all_rows, newest_rows
from benchmarks.latency.tables.records import RecordedRun, TableRow, TableRun
from benchmarks.latency.tables.rows import read_runs
from benchmarks.latency.tables.sources import read_records
from engines.building.build_items import FLOAT32, WHOLE
from exporter.bundles.bundle import FileRecord, images_sha256, read_split, read_whole, split_layers
from exporter.bundles.precision_file import PRECISIONS, precision_file_name, read_precision
from exporter.project.settings import Project
from exporter.variants.layer_graphs import variants
from jetson.errors import InputError, StaleError
from jetson.files.atomic_files import write_blocks
from jetson.runtime.image_parts import image_parts


@dataclass(frozen=True)
class AddRequest:
    """Files of runs to add: latency runs, other tables, CSV files, archives with runs."""

    files: tuple[Path, ...]


@dataclass(frozen=True)
class AddResult:
    """The table, and how much of the files was new in it."""

    table: Path
    added: Added


@dataclass(frozen=True)
class ShowRequest:
    """Which rows: of targets, variants and layers, by names or patterns, none for all.

    `history`: all rows, not the newest of each part alone.
    """

    targets: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    history: bool = False


@dataclass(frozen=True)
class ShowResult:
    """The table and its rows, by target; `history`: as asked."""

    table: Path
    rows: tuple[JudgedRow, ...]
    history: bool


@dataclass(frozen=True)
class DiffResult:
    """How the parts of two sides differ, what got slowest first."""

    before: str
    after: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class ExportResult:
    """The CSV file, and how many rows are in it."""

    path: Path
    rows: int


def table_of(project: Project) -> Path:
    """Return where a project keeps its latency table."""
    return project.output / TABLE_FILE


def add_to_table(table: Path, request: AddRequest) -> AddResult:
    """Add the runs of all files, all or none; a run that is there already adds nothing.

    Raises CoopexportError when a file is missing, damaged or of another kind, the table has another run of the same id,
    or it cannot be written.
    """
    files = [read_records(path) for path in request.files]
    return AddResult(table, add_runs(table, (record for records in files for record in records)))


def show_table(table: Path, request: ShowRequest = ShowRequest(), project: Project | None = None) -> ShowResult:
    """Return the newest row of each part, or all rows; with a project those of other graphs than it has are expired.

    Raises CoopexportError when there is no table, it is damaged, or has nothing of what is asked for.
    """
    graphs = None if project is None else project_graphs(project)

    def is_wanted(run: TableRun, row: TableRow) -> bool:
        return (
            _matches(run.target, request.targets)
            and _matches(row.variant, request.variants)
            and _matches(row.layer, request.layers)
        )

    if request.history:
        rows = all_rows(table, is_wanted, graphs)
    else:
        rows = [found for found in newest_rows(table, graphs=graphs) if is_wanted(found.run, found.row)]
    if not rows:
        _refuse_nothing(table, request)
    return ShowResult(table, tuple(rows), request.history)


def diff_tables(before: str, after: str, table: Path | None) -> DiffResult:
    """Compare two tables, runs or sittings (see `differences`); raises CoopexportError when one is not there."""
    return DiffResult(before, after, tuple(differences(before, after, table)))


def export_table(table: Path, path: Path) -> ExportResult:
    """Write all rows of a table to the CSV file `path`, whole or not at all.

    Raises CoopexportError when there is no table or it is damaged, OSError when the file cannot be written.
    """
    count = 0

    def counted(records: Iterator[RecordedRun]) -> Iterator[RecordedRun]:
        nonlocal count
        for record in records:
            count += len(record.rows)
            yield record

    if path.suffix.lower() != ".csv":
        raise InputError(f"{path} does not end in .csv", path=path, fix="name a file that does")
    if path.is_dir():
        raise InputError(f"{path} is a folder", path=path, fix="name a file")
    with open_to_read(table) as connection:
        blocks = csv_blocks(counted(read_runs(connection, table)))
        write_blocks(str(path.absolute().parent), blocks, lambda: path.name)
    return ExportResult(path, count)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _refuse_nothing(table: Path, request: ShowRequest) -> None:
    """Raise InputError naming what of a request is in no row of the table, StaleError when the table is empty."""
    found = newest_rows(table)
    if not found:
        raise StaleError(f"latency table {table} has no rows", path=table, fix="fill it with: coopexport bench")
    for what, patterns, names in (
        ("target", request.targets, {row.run.target for row in found}),
        ("variant", request.variants, {row.row.variant for row in found}),
        ("layer", request.layers, {row.row.layer for row in found}),
    ):
        if not any(_matches(name, patterns) for name in names):
            near = difflib.get_close_matches(patterns[0], names, 3, 0.0)
            said = f"no row of {table} has the {what} {' or '.join(patterns)}"
            raise InputError(said, path=table, fix=f"it has {', '.join(near)}" + (", ..." if len(names) > 3 else ""))
    raise InputError(f"no row of {table} is all of that at once", path=table, fix="ask for less")


def project_graphs(project: Project) -> dict[tuple[str, str, str, str, str], str]:
    """Return the SHA-256 that rows of today name, by variant, layer, part, codec ("" for none) and precision.

    Of heads and tails their graphs; of parts that handle images a hash over golden data, preprocessing and qualities.
    Variants that are not split yet are left out. Raises CoopexportError when a bundle is damaged.
    """
    found: dict[tuple[str, str, str, str, str], str] = {}
    for variant in variants(project):
        folder = project.variant_folder(variant)
        if (folder / "whole.json").is_file():
            found.update(_of_variant(folder))
    return found


def _of_variant(folder: Path) -> dict[tuple[str, str, str, str, str], str]:
    whole = read_whole(folder)
    images, key = images_sha256(whole), (whole.variant, WHOLE)
    found = {(*key, "preprocess", "", FLOAT32): images}
    for part, codec in image_parts(whole.codings()):
        found[(*key, part, codec or "", FLOAT32)] = images
    for precision, graphs in _forms(folder, WHOLE, {WHOLE: whole.model}):
        found[(*key, WHOLE, "", precision)] = graphs[WHOLE].sha256
    for layer in split_layers(folder):
        split = read_split(folder, layer)
        key = (split.variant, layer)
        for precision, graphs in _forms(folder, layer, {"head": split.head, "tail": split.tail}):
            for role, coding_part in (("head", "encode"), ("tail", "decode")):
                found[(*key, role, "", precision)] = graphs[role].sha256
                found[(*key, coding_part, split.codec, precision)] = graphs[role].sha256
    return found


def _forms(
    folder: Path, layer: str, float32: Mapping[str, FileRecord]
) -> Iterator[tuple[str, Mapping[str, FileRecord]]]:  # fmt: skip
    """Yield each precision that a bundle has a form in, float32 first, and its graphs by role."""
    yield FLOAT32, float32
    for precision in PRECISIONS:
        if (folder / precision_file_name(layer, precision)).is_file():
            roles = read_precision(folder, layer, precision).roles
            yield precision, {role: made.file for role, made in roles.items()}
