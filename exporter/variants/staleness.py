"""What the bundles of a variant are made from, and whether they still are what the project describes."""

from __future__ import annotations

from exporter.bundles.bundle import SplitFile, WholeFile
from exporter.project.freshness import Inputs, check_fresh, digest
from exporter.project.inputs import project_inputs
from exporter.project.settings import Project, SelectSection
from exporter.variants.layer_graphs import LayerGraph, graph_inputs
from exporter.variants.plans import ORIGINAL, check_plan, plan_is_here


def measured_inputs(project: Project) -> dict[str, str | None]:
    """Return what all variants are calibrated and measured with."""
    return project_inputs(project, "preprocessing", "calibration data", "evaluation data", "metric")


def bundle_inputs(project: Project, graph: LayerGraph, measured: Inputs) -> dict[str, str | None]:
    """Return what a bundle is made from, settings and format aside; `measured`: as of `measured_inputs`.

    Settings may be a command's own: only the command that makes a bundle knows whether it wants others.
    """
    return {**graph_inputs(project, graph.variant), "graph": graph.model_sha256, **measured}


def whole_inputs(project: Project, graph: LayerGraph, measured: Inputs) -> dict[str, str | None]:
    """Return what `whole.json` is made from, its format aside."""
    settings = {"select settings": digest(_picture_settings(project.settings.select))}
    return {**bundle_inputs(project, graph, measured), **settings}


def _picture_settings(select: SelectSection) -> list[int | float | str | None]:
    """Return what the coding of images depends on; the bound only where it decides a quality."""
    qualities = [select.jpeg_quality, select.webp_quality]
    return [*qualities, select.maximum_loss_points if "lowest" in qualities else None]


def record_inputs(project: Project, variant: str, model_sha256: str | None, measured: Inputs) -> Inputs:
    """Return what the record of a variant is made from, its format aside; `model_sha256`: of its exported graph.

    Its metric is compared with that of the original network.
    """
    original = graph_inputs(project, ORIGINAL)
    reference = None if None in original.values() else digest(original)
    metric = {name: value for name, value in measured.items() if name != "calibration data"}
    return {**graph_inputs(project, variant), "graph": model_sha256, "original network": reference, **metric}


def check_whole(project: Project, graph: LayerGraph, whole: WholeFile, measured: Inputs) -> None:
    """Raise StaleError when a variant, or its `whole.json`, is older than what it was made from."""
    if graph.variant != ORIGINAL and plan_is_here(project, graph.variant):
        check_plan(project, graph.variant)
    now = whole_inputs(project, graph, measured)
    check_fresh(f"variant {graph.variant} was split", whole.made_from, now, "coopexport split --all")


def check_split(project: Project, graph: LayerGraph, bundle: SplitFile, measured: Inputs) -> None:
    """Raise StaleError when the bundle of a cut is older than what it was made from."""
    command = f"coopexport split --variant {graph.variant} --layer {bundle.layer}"
    what = f"{bundle.layer} of variant {graph.variant} was split"
    check_fresh(what, bundle.made_from, bundle_inputs(project, graph, measured), command, bundle.layer)
