"""Measure a project on a device: over ssh, or by hand with an order that goes there and the run that comes back."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.latency.bench_project import (
    BenchRequest,
    BenchResult,
    OnWithoutForm,
    bench_section,
    bench_settings,
    found_items,
    kept_run,
)
from benchmarks.latency.devices.bench_order import BenchOrder, bench_order
from benchmarks.latency.measured_items import MeasuredItems
from benchmarks.latency.run import LatencyRun, read_run
from engines.device_builds.remote import bench_on_device
from engines.device_builds.requests import check_device_target, write_request
from engines.targets.lookup import find_target
from engines.targets.project_targets import own_targets
from engines.targets.target import Target
from exporter.progress import OnProgress, ignore, no_progress
from exporter.project.settings import Project
from jetson.errors import InputError


@dataclass(frozen=True)
class WrittenBenchOrder:
    """An order of `count` graphs; `without_reference`: why the reference network is not among them, or empty."""

    path: Path
    count: int
    size_bytes: int
    left_out: int
    without_reference: str


def bench_over_ssh(
    project: Project,
    request: BenchRequest,
    device: str,
    on_progress: OnProgress = no_progress,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    on_result: Callable[[LatencyRun], None] | None = None,
    on_left_out: Callable[[int], None] | None = None,
    on_written: Callable[[Path], None] | None = None,
    on_without_form: OnWithoutForm | None = None,
) -> BenchResult:
    """Measure on `device` (user@host:port), which is the request's target; build what is missing there.

    Heads, tails and whole networks in each precision and batch, the codec, preprocessing and the image as it is sent,
    with the reference network in the same rounds. `on_event` gets what the agent tells (`jetson.agent.progress`), other
    callbacks as of `bench_project`. What failed is in the run with its reason. Raises CoopexportError when the device
    is not the target, or the connection is lost: finished engines are not built again.
    """
    target = _device_target(project, request)
    order, found = _order(project, request, target, on_progress, on_left_out, on_without_form)
    _, data = bench_on_device(device, target, order.pending, order.measured, on_event or ignore, order.kept)
    with tempfile.TemporaryDirectory(prefix="coopexport-") as folder:
        path = Path(folder) / "run.json"
        path.write_bytes(data)
        run = read_run(path)
    return kept_run(project, run, found, on_result, on_written)


def write_bench_order(
    project: Project,
    request: BenchRequest,
    path: Path,
    on_progress: OnProgress = no_progress,
    on_left_out: Callable[[int], None] | None = None,
    on_without_form: OnWithoutForm | None = None,
) -> WrittenBenchOrder:
    """Write what a device without ssh needs to build and to measure into a .zip file.

    Raises CoopexportError for another name of file, and what `bench_project` raises before it measures; OSError.
    """
    if path.suffix != ".zip":
        raise InputError(f"--order {path}: an order is a .zip file", path=path, fix=f"call it {path.name}.zip")
    target = _device_target(project, request)
    order, found = _order(project, request, target, on_progress, on_left_out, on_without_form)
    write_request(path, target, order.pending, order.measured)
    return WrittenBenchOrder(path, len(order.kept), path.stat().st_size, len(found.left_out), order.without_reference)


def import_bench_run(
    project: Project,
    path: Path,
    target_name: str | None = None,
    on_result: Callable[[LatencyRun], None] | None = None,
    on_written: Callable[[Path], None] | None = None,
) -> BenchResult:
    """Put the run that a device made of an order into the project's latency table; the same run twice adds nothing.

    Raises CoopexportError when it is no run, or of another target than `target_name`.
    """
    run = read_run(path)
    if target_name is not None:
        target = find_target(target_name, own_targets(project.settings.targets))
        if run.target != target.name:
            raise InputError(f"{path} is of target {run.target}, and --target says {target.name}", path=path)
    return kept_run(project, run, None, on_result, on_written)


def _device_target(project: Project, request: BenchRequest) -> Target:
    target = find_target(request.target, own_targets(project.settings.targets))
    check_device_target(target)
    return target


def _order(
    project: Project,
    request: BenchRequest,
    target: Target,
    on_progress: OnProgress,
    on_left_out: Callable[[int], None] | None,
    on_without_form: OnWithoutForm | None,
) -> tuple[BenchOrder, MeasuredItems]:
    """Return what goes to the device, and what it is made of."""
    how = bench_section(project, request)
    found = found_items(project, request, how, on_left_out, on_without_form)
    settings = bench_settings(project, target)
    order = bench_order(found.items, target, settings, how.rounds, how.warm_up, on_progress, how.batches)
    measurement = order.measured.measurement._replace(energy=how.energy, energy_seconds=how.energy_seconds)
    return replace(order, measured=replace(order.measured, measurement=measurement)), found
