"""The metric of exported graphs: top-1 accuracy, or the user's own function; compared image by image where possible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exporter.bundles.bundle import Metric
from exporter.project.settings import Project
from exporter.project.user_code import load_function
from jetson.errors import CoopexportError, InputError

TOP1 = "top1"
MetricFunction = Callable[[NDArray[Any], NDArray[Any]], Any]


@dataclass(frozen=True)
class Score:
    """A metric's value over a data set, higher is better; `per_image` where it has a value for each image."""

    name: str
    value: float
    samples: int
    per_image: NDArray[np.float64] | None


def load_metric(project: Project) -> tuple[str, MetricFunction]:
    """Return name and function of the project's metric.

    `data.metric` is `top1` or "package.module:function". The function takes outputs (N x ..., float32) and labels and
    returns one number per image, or one number for all; higher is better.
    """
    name = project.settings.data.metric
    if name == TOP1:
        return name, top1
    return name, load_function(name, project.folder, "data.metric")


def top1(outputs: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return 1 for each image whose highest score (N x classes) is its label's (N), else 0.

    An image with a NaN among its scores has no highest one: 0.
    """
    if outputs.ndim != 2 or labels.ndim != 1:
        raise InputError(
            f'metric "top1" needs outputs of N x classes and N labels, not {outputs.shape} and {labels.shape}',
            fix='set data.metric = "package.module:function"',
        )
    if labels.dtype.kind not in "iu":
        raise InputError(f'labels are {labels.dtype}; metric "top1" needs class numbers')
    if labels.size and not 0 <= labels.min() <= labels.max() < outputs.shape[1]:
        raise InputError(
            f"labels run from {labels.min()} to {labels.max()}, the network has {outputs.shape[1]} classes, counted "
            "from 0: correct the labels"
        )
    right: NDArray[np.bool_] = (outputs.argmax(axis=1) == labels) & ~np.isnan(outputs).any(axis=1)
    return right.astype(np.float64)


def score(metric: tuple[str, MetricFunction], outputs: NDArray[Any], labels: NDArray[Any]) -> Score:
    """Return the score of `outputs`; raises CoopexportError when the metric yields no finite number."""
    name, function = metric
    try:
        values = np.asarray(function(outputs, labels), dtype=np.float64)
    except CoopexportError:
        raise
    except Exception as error:
        raise InputError(f'metric "{name}" failed: {type(error).__name__}: {error}') from error
    if values.size == 0 or not np.isfinite(values).all():
        raise InputError(f'metric "{name}" did not return finite numbers')
    if values.ndim == 0:
        return Score(name, float(values), len(labels), None)
    if values.shape != (len(labels),):
        raise InputError(
            f'metric "{name}" returned shape {values.shape}; expected one number, or one for each of the '
            f"{len(labels)} images"
        )
    return Score(name, float(values.mean()), len(labels), values)


def compare(reference: Score, this: Score) -> Metric:
    """Return the record of `this` beside `reference`, both on the same images."""
    only_reference = only_this = None
    if reference.per_image is not None and this.per_image is not None:
        only_reference = int((reference.per_image > this.per_image).sum())
        only_this = int((this.per_image > reference.per_image).sum())
    return Metric(
        name=this.name,
        value=this.value,
        reference=reference.value,
        samples=this.samples,
        only_reference_right=only_reference,
        only_this_right=only_this,
    )
