"""The report: what was selected and why, what it is compared with, and how far the numbers can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.latency.run import LatencyRun, read_run
from benchmarks.report.figures import bytes_and_time_per_layer, latency_per_network
from benchmarks.report.html import figure, folded, heading, page, paragraph, table
from benchmarks.report.steps import steps
from benchmarks.report.summary import foundations, link_name, summary
from benchmarks.selection.project_selection import ProjectSelection, other_slowdowns
from benchmarks.selection.selector import INPUT, LinkChoice, describe
from benchmarks.selection.terms import CHOSEN, Entry, compared, is_split
from jetson.errors import DamagedFileError, StaleError
from jetson.files.atomic_files import write_files

REPORT_FILE = "report.html"
BYTES_FIGURE = "figures/bytes_and_time_per_layer.svg"
LATENCY_FIGURE = "figures/latency_per_network.svg"
# Longer tables of candidates are folded away.
_MAX_ROWS_OPEN = 60


def write_report(project_output: Path, result: ProjectSelection, title: str) -> list[Path]:
    """Write report.html and both figures into `project_output`, all or nothing; return their paths.

    `title`: the network's name. Host and rounds of the latency runs are read from `runs/` there; the report says so
    when a run's file is missing. Raises CoopexportError without matplotlib, OSError when it cannot be written.
    """
    figures = {BYTES_FIGURE: bytes_and_time_per_layer(result), LATENCY_FIGURE: latency_per_network(result)}
    runs = _read_runs(project_output / "runs", result)
    parts = [
        *summary(result),
        *foundations(result, _hosts(runs)),
        heading("Latency per network and link"),
        figure(
            figures[LATENCY_FIGURE],
            "Bars: end-to-end latency of each baseline and of the choice, per link, by term",
            "End-to-end latency: device computation, transmission, edge computation. Baselines stand whether or not "
            "they keep the accuracy bound (*).",
        ),
        *_links(result),
        *steps(result),
        heading("Bytes and time per layer"),
        figure(
            figures[BYTES_FIGURE],
            "Bars: mean payload at each cut. Lines: time up to each cut",
            f"Above: mean bytes of one message, its header included. Below: median time of the head, up to the cut and "
            f"its quantisation, on target {result.target}: edge time, not yet multiplied by device_slowdown.",
        ),
        *_intervals(result),
        *_slowdowns(result),
        *_candidates(result),
        *_provenance(result, runs),
    ]
    content = page(f"{title}: where to cut, and what it gains", parts)
    write_files(str(project_output), {**figures, REPORT_FILE: content})
    return [project_output / name for name in (*figures, REPORT_FILE)]


def _links(result: ProjectSelection) -> list[str]:
    """Return for each link the table of what was chosen and what it is compared with."""
    columns = ["", "bytes", result.metric, "device ms", "transmission ms", "edge ms", "total ms"]
    parts = []
    for choice in result.selection.links:
        entries = compared(result.selection, choice)
        rows = [
            [
                _in_table(entry),
                f"{entry.candidate.payload_bytes:.0f}",
                f"{100 * entry.candidate.metric:.2f}",
                f"{entry.terms.device_ms:.3f}",
                f"{entry.terms.transmission_ms:.3f}",
                f"{entry.terms.edge_ms:.3f}",
                f"{entry.terms.total_ms:.3f}",
            ]
            for entry in entries
        ]
        classes = ["chosen" if entry.name == CHOSEN else "out" if entry.candidate.reason else "" for entry in entries]
        parts += [
            heading(link_name(choice), 3),
            table(columns, rows, columns[1:], classes),
        ]
    return parts


def _in_table(entry: Entry) -> str:
    """Return an entry's name, what the name leaves open, and why it is left out, if it is."""
    candidate = entry.candidate
    text = entry.name
    if entry.name == CHOSEN or candidate.family:
        text += f": {describe(candidate)}"
    elif is_split(candidate):
        text += f": after {candidate.layer} ({candidate.coding})"
    elif candidate.layer == INPUT and candidate.coding != "raw":
        text += f" ({candidate.coding})"
    return f"{text}; left out: {candidate.reason}" if candidate.reason else text


def _intervals(result: ProjectSelection) -> list[str]:
    """Return which candidate is best at which goodput, and which of the links lie there."""
    rows = []
    for interval in result.selection.intervals:
        upto = interval.upto_bps
        inside = [
            link_name(choice)
            for choice in result.selection.links
            if interval.from_bps <= choice.goodput_bps and (upto is None or choice.goodput_bps < upto)
        ]
        rows.append(
            [
                f"{interval.from_bps / 1e6:.3f}",
                "and more" if upto is None else f"{upto / 1e6:.3f}",
                describe(result.selection.candidates[interval.candidate]),
                ", ".join(inside),
            ]
        )
    return [
        heading("Best by goodput"),
        paragraph(
            "The choice changes at these goodputs; at a switch point both neighbours take the same time. A device "
            "picks its row in plan.json from the goodput that it measures."
        ),
        table(["from Mbit/s", "to Mbit/s", "candidate", "links"], rows, ["from Mbit/s", "to Mbit/s"]),
    ]


def _slowdowns(result: ProjectSelection) -> list[str]:
    """Return what would be chosen were the device slower or faster than assumed."""
    assumed = result.settings.device_slowdown
    again = other_slowdowns(result)
    rows = [
        [
            f"{slowdown:g}" + (" (assumed)" if slowdown == assumed else ""),
            *(
                f"{choice.latency_ms:.3f} ms: {describe(selection.candidates[choice.candidate])}"
                for choice in selection.links
            ),
        ]
        for slowdown, selection in again
    ]
    return [
        heading("Were the device slower or faster"),
        paragraph("The same selection for other device_slowdown than the assumed one; all else stays."),
        table(
            ["device_slowdown", *map(link_name, result.selection.links)],
            rows,
            classes=["chosen" if slowdown == assumed else "" for slowdown, _ in again],
        ),
    ]


def _candidates(result: ProjectSelection) -> list[str]:
    """Return all candidates, those that were left out with their reasons."""
    columns = [
        "",
        "variant",
        "cut",
        "coding",
        "bytes",
        result.metric,
        "loss points",
        "device ms",
        "edge ms",
        "remark",
    ]
    chosen_on = _links_by_candidate(result.selection.links)
    rows = [
        [
            str(index),
            candidate.variant,
            candidate.layer,
            candidate.coding,
            f"{candidate.payload_bytes:.0f}",
            f"{100 * candidate.metric:.2f}",
            f"{candidate.loss_points:.2f}",
            _known(candidate.device_ms),
            _known(candidate.edge_ms),
            candidate.reason or (f"chosen: {', '.join(chosen_on[index])}" if index in chosen_on else ""),
        ]
        for index, candidate in enumerate(result.selection.candidates)
    ]
    classes = [
        "out" if candidate.reason else "chosen" if index in chosen_on else ""
        for index, candidate in enumerate(result.selection.candidates)
    ]
    listed = table(columns, rows, ["", *columns[4:9]], classes, compact=True)
    return [
        heading("All candidates"),
        paragraph(
            "The cut at the input is full offload, the cut at the output the device alone. A time that is not known is "
            "a dash, never a number."
        ),
        listed if len(rows) <= _MAX_ROWS_OPEN else folded(f"Show all {len(rows)}", listed),
    ]


def _links_by_candidate(links: Sequence[LinkChoice]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for choice in links:
        found.setdefault(choice.candidate, []).append(choice.link)
    return found


def _known(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _read_runs(folder: Path, result: ProjectSelection) -> dict[str, LatencyRun | str]:
    """Return the runs that rows come from; in place of one that cannot be read, what is wrong with it."""
    found: dict[str, LatencyRun | str] = {}
    for name in sorted({row.run for row in result.rows}):
        path = folder / f"{name}.json"
        try:
            found[name] = read_run(path)
        except (StaleError, DamagedFileError):
            found[name] = f"runs/{name}.json is {'damaged' if path.is_file() else 'missing'}"
    return found


def _hosts(runs: dict[str, LatencyRun | str]) -> list[str]:
    hosts = [run.host for run in runs.values() if isinstance(run, LatencyRun)]
    return sorted({f"{host.get('processor', 'unknown processor')} ({host.get('name', 'unnamed')})" for host in hosts})


def _provenance(result: ProjectSelection, runs: dict[str, LatencyRun | str]) -> list[str]:
    """Return where every latency comes from: run, host, number of samples, spread."""
    properties = ["started", "host", "engine", "parts", "samples per part", "cv %"]
    columns = []
    for name, run in runs.items():
        of_run = [row for row in result.rows if row.run == name]
        counts = sorted({row.count for row in of_run if row.count is not None})
        spreads = sorted(100 * row.cv for row in of_run if row.cv is not None)
        samples = " to ".join(map(str, counts[:: max(1, len(counts) - 1)])) or "–"
        spread = f"median {spreads[len(spreads) // 2]:.1f}, largest {spreads[-1]:.1f}" if spreads else "–"
        columns.append([*_run_cells(run), str(len(of_run)), samples, spread])
    rows = [[key, *cells] for key, *cells in zip(properties, *columns, strict=True)]
    parts = [[row.variant, row.layer, f"{row.part} {row.codec}".strip(), f"{row.p50_ms:.4f}",
              "–" if row.count is None else str(row.count),
              "–" if row.cv is None else f"{100 * row.cv:.1f}", row.run] for row in result.rows]  # fmt: skip
    part_columns = ["variant", "cut", "part", "median ms", "samples", "cv %", "run"]
    return [
        heading("Provenance"),
        paragraph("cv: coefficient of variation, standard deviation over mean, of the samples of one part."),
        table(["run", *runs], rows),
        folded(f"All {len(parts)} measured parts", table(part_columns, parts, part_columns[3:6], compact=True)),
    ]


def _run_cells(run: LatencyRun | str) -> list[str]:
    """Return when, where and with what a run was taken."""
    if isinstance(run, str):
        return ["unknown", run, "unknown"]
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
    return [run.started_at, machine, engine]
