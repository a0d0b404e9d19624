"""The metric: top-1 or the user's own, refused when it is not a number, and compared image by image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from calibration.metrics.metric import Score, compare, load_metric, score, top1
from exporter.project.settings import load_project
from jetson.errors import CoopexportError

LABELS = np.array([2, 0, 1, 1])
OUTPUTS = np.array([[0, 1, 2], [3, 2, 1], [0, 0.5, 1], [0, 9, 1]], np.float32)


def test_top1_is_one_for_each_image_whose_highest_score_is_its_label() -> None:
    assert top1(OUTPUTS, LABELS).tolist() == [1, 1, 0, 1]
    found = score(("top1", top1), OUTPUTS, LABELS)
    assert (found.name, found.value, found.samples) == ("top1", 0.75, 4)
    assert found.per_image is not None


@given(st.integers(1, 50), st.integers(2, 12), st.integers(0, 2**32 - 1))
def test_top1_counts_like_a_loop(count: int, classes: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    outputs = generator.standard_normal((count, classes)).astype(np.float32)
    labels = generator.integers(0, classes, count)
    right = sum(max(range(classes), key=lambda c: outputs[i, c]) == labels[i] for i in range(count))
    assert score(("top1", top1), outputs, labels).value == pytest.approx(right / count)


def test_an_image_without_scores_is_not_right() -> None:
    """argmax takes NaN for the highest score: a network that has burst would be right for one class."""
    outputs = OUTPUTS.copy()
    outputs[1, 0] = np.nan
    outputs[3] = np.nan
    assert top1(outputs, LABELS).tolist() == [1, 0, 0, 0]
    assert top1(np.full((4, 3), np.nan, np.float32), np.zeros(4, int)).sum() == 0


@pytest.mark.parametrize("shapes", [((4, 3, 2), (4,)), ((4,), (4,)), ((4, 3), (4, 3))])
def test_top1_says_which_shapes_it_takes(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(CoopexportError, match='"top1" needs outputs of N x classes'):
        score(("top1", top1), np.zeros(shapes[0]), np.zeros(shapes[1]))


@pytest.mark.parametrize(
    ("function", "value", "per_image"),
    [
        (lambda o, labels: [0.5, 1, 0, 0.25], 0.4375, True),
        (lambda o, labels: o.argmax(1) == labels, 0.75, True),
        (lambda o, labels: 0.8, 0.8, False),
        (lambda o, labels: np.float32(0.5), 0.5, False),
        (lambda o, labels: np.array(-3), -3.0, False),
    ],
)
def test_metrics_give_one_number_or_one_for_each_image(
    function: Callable[..., Any], value: float, per_image: bool
) -> None:
    found = score(("my:metric", function), OUTPUTS, LABELS)
    assert (found.name, found.value, found.samples) == ("my:metric", pytest.approx(value), 4)
    assert (found.per_image is not None) == per_image


def fails(outputs: Any, labels: Any) -> Any:
    raise KeyError("threshold")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (
            lambda o, labels: [1, 2, 3],
            r"returned shape \(3,\); expected one number, or one for each of the 4 images",
        ),
        (lambda o, labels: o, r"returned shape \(4, 3\)"),
        (lambda o, labels: [[1], [1], [1], [1]], r"returned shape \(4, 1\)"),
        (lambda o, labels: [1, 2, 3, np.nan], "did not return finite numbers"),
        (lambda o, labels: np.inf, "did not return finite numbers"),
        (lambda o, labels: [], "did not return finite numbers"),
        (lambda o, labels: None, "did not return finite numbers"),
        (lambda o, labels: "high", "failed: ValueError"),
        (lambda o, labels: {"f1": 0.5}, "failed: TypeError"),
        (fails, "failed: KeyError: 'threshold'"),
    ],
)
def test_what_is_no_metric_is_refused_by_name(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(CoopexportError, match=rf'metric "my:metric" {said}'):
        score(("my:metric", function), OUTPUTS, LABELS)


def test_the_metric_comes_from_the_project(project: Path) -> None:
    loaded = load_project(project / "coopexport.toml")
    assert load_metric(loaded) == ("top1", top1)
    (project / "our_metrics.py").write_text("def half(outputs, labels):\n    return 0.5\n")
    data = loaded.settings.data.model_copy(update={"metric": "our_metrics:half"})
    changed = dataclasses.replace(loaded, settings=loaded.settings.model_copy(update={"data": data}))
    name, function = load_metric(changed)
    assert (name, function(None, None)) == ("our_metrics:half", 0.5)


per_image = st_numpy.arrays(np.float64, 30, elements=st.sampled_from([0.0, 0.5, 1.0]))


@given(per_image, per_image)
def test_two_networks_are_compared_image_by_image(reference: np.ndarray, this: np.ndarray) -> None:
    found = compare(
        Score("m", float(reference.mean()), 30, reference),
        Score("m", float(this.mean()), 30, this),
    )
    assert (found.reference, found.value, found.samples) == (reference.mean(), this.mean(), 30)
    assert found.only_reference_right == sum(r > t for r, t in zip(reference, this, strict=True))
    assert found.only_this_right == sum(t > r for r, t in zip(reference, this, strict=True))
    assert found.loss_points == pytest.approx(100 * (reference.mean() - this.mean()))
    if set(reference) | set(this) <= {0.0, 1.0}:
        assert found.loss_points == pytest.approx(
            100 * (found.only_reference_right - found.only_this_right) / 30, abs=1e-9
        )


def test_one_number_for_all_cannot_be_compared_by_image() -> None:
    found = compare(Score("m", 0.8, 30, None), Score("m", 0.7, 30, np.zeros(30)))
    assert found.only_reference_right is found.only_this_right is None
    assert found.loss_points == pytest.approx(10)
