"""Where every latency comes from: runs, machines, conditions, samples, and what the parts are marked with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.latency.run import LatencyRun, read_run
from benchmarks.latency.summaries import summarise_item
from benchmarks.report.html import folded, heading, paragraph, table
from benchmarks.report.marks import Mark
from benchmarks.selection.project_selection import ProjectSelection
from jetson.errors import DamagedFileError, StaleError

Runs = dict[str, LatencyRun | str]


def read_runs(folder: Path, result: ProjectSelection) -> Runs:
    """Return the runs that rows come from; in place of one that cannot be read, what is wrong with it."""
    found: Runs = {}
    for name in sorted({row.run for row in result.rows}):
        path = folder / f"{name}.json"
        try:
            found[name] = read_run(path)
        except (StaleError, DamagedFileError):
            found[name] = f"runs/{name}.json is {'damaged' if path.is_file() else 'missing'}"
    return found


def hosts(runs: Runs) -> list[str]:
    """Return the machines that the runs name."""
    known = [run.host for run in runs.values() if isinstance(run, LatencyRun)]
    return sorted({f"{host.get('processor', 'unknown processor')} ({host.get('name', 'unnamed')})" for host in known})


def provenance(result: ProjectSelection, runs: Runs, found: Sequence[Mark]) -> list[str]:
    """Return as HTML where every latency comes from: run, host, number of samples, spread, marks."""
    properties = [
        "started", "host", "engine", "steady", "CPUs allowed", "conditions", "reference network", "parts",
        "samples per part", "cv %",
    ]  # fmt: skip
    columns = []
    for name, run in runs.items():
        of_run = [row for row in result.rows if row.run == name]
        counts = [row.count for row in of_run if row.count is not None] or [0]
        spreads = sorted(100 * row.cv for row in of_run if row.cv is not None)
        samples = str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        spread = f"median {spreads[len(spreads) // 2]:.1f}, largest {spreads[-1]:.1f}" if spreads else "not known"
        columns.append([*_run_cells(run), str(len(of_run)), samples, spread])
    rows = [[key, *cells] for key, *cells in zip(properties, *columns, strict=True)]
    return [
        heading("Provenance"),
        paragraph("cv: coefficient of variation, standard deviation over mean, of the samples of one part."),
        folded(f"Runs: {len(runs)}", table(["run", *runs], rows)),
        *_marked(found, runs),
        _parts(result, found),
    ]


def _marked(found: Sequence[Mark], runs: Runs) -> list[str]:
    if not found:
        unread = [name for name, run in runs.items() if isinstance(run, str)]
        known = f"No part of the other runs is marked; {', '.join(unread)} could not be read."
        return [paragraph(known if unread else "No measured part is marked.")]
    rows = [[*_names(mark), mark.text, mark.row.run] for mark in found]
    listed = table(["variant", "cut", "part", "mark", "run"], rows)
    return [folded(f"Marks: {len(found)}", listed)]


def _names(mark: Mark) -> list[str]:
    row = mark.row
    return [row.variant, row.layer, f"{row.part} {row.codec}".strip()]


def _parts(result: ProjectSelection, found: Sequence[Mark]) -> str:
    kinds: dict[int, list[str]] = {}
    for mark in found:
        kinds.setdefault(id(mark.row), []).append(mark.kind)
    rows = [[row.target, row.variant, row.layer, f"{row.part} {row.codec}".strip(), f"{row.p50_ms:.4f}",
             "" if row.count is None else str(row.count), "" if row.cv is None else f"{100 * row.cv:.1f}",
             ", ".join(kinds.get(id(row), ())), row.run] for row in result.rows]  # fmt: skip
    columns = ["target", "variant", "cut", "part", "median ms", "samples", "cv %", "marks", "run"]
    return folded(f"All {len(rows)} measured parts", table(columns, rows, columns[4:7], compact=True))


def _run_cells(run: LatencyRun | str) -> list[str]:
    """Return when, where, with what and how a run was taken."""
    if isinstance(run, str):
        return ["unknown", run, *["unknown"] * 5]
    host = run.host
    machine = ", ".join(
        str(part)
        for part in (
            host.get("name"),
            host.get("processor"),
            f"{host['cores']} cores" if "cores" in host else None,
            host.get("system"),
            f"load {host['load_average']}" if "load_average" in host else None,
        )
        if part
    )
    engine = f"{run.backend} {run.backend_version}, {run.threads} thread, {run.rounds} rounds after {run.warm_up}"
    steady = "not looked at" if run.steady is None else "yes" if run.steady else "no"
    affinity = ", ".join(map(str, run.affinity)) or "not recorded"
    return [run.started_at, machine, engine, steady, affinity, _conditions(run.conditions), _reference(run)]


def _conditions(conditions: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in conditions.items()) or "not recorded"


def _reference(run: LatencyRun) -> str:
    if run.reference is None:
        return "none"
    summary = summarise_item(run, run.reference)
    if summary is None:
        return f"failed: {run.reference.failure}"
    return f"median {summary.p50_ms:.4f} ms"
