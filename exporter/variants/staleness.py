"""Whether what was split is still what the project file describes."""

from __future__ import annotations

from exporter.bundles.bundle import WholeFile
from exporter.project.settings import Project
from exporter.variants.layer_graphs import source_is_here, source_sha256
from jetson.errors import StaleError


def check_fresh(project: Project, variant: str, whole: WholeFile) -> None:
    """Raise StaleError when a variant was split from something else than the project names now.

    Compared are weights, factory, its code and arguments (where the checkpoint is here: a machine that only builds
    or serves has none), preprocessing, evaluation data by name, and the metric.
    """
    changed = ""
    if source_is_here(project, variant) and source_sha256(project, variant) != whole.source_sha256:
        changed = "the network (checkpoint, masks, factory, its code, arguments or input_shape)"
    elif whole.declared_preprocessing() != project.preprocessing:
        changed = "preprocessing"
    elif project.settings.data.metric != whole.metric.name:
        changed = "data.metric"
    elif project.settings.data.evaluation not in (None, whole.metric.data):
        changed = "data.evaluation"
    if changed:
        raise StaleError(
            f"variant {variant} was split before {changed} changed",
            fix="run: coopexport split --all (and shrink first, if the network was pruned anew)",
        )
