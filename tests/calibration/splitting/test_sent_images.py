"""Images are sent resized where that makes them smaller, and what is left of preprocessing gives the same inputs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from residual_project import write_residual_project

from calibration.splitting.sent_images import SentImages, resized_images
from exporter.data.datasets import Dataset, network_inputs
from exporter.project.settings import Project
from jetson.runtime.preprocessing import Preprocessing

RESIZING = Preprocessing(resize=16, crop=(16, 16), scale=1 / 128, mean=(1.0,))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return write_residual_project(tmp_path)


def sent(project: Project, declaration: Preprocessing, height: int, width: int) -> SentImages:
    images = np.random.default_rng(0).integers(0, 256, (6, height, width, 3)).astype(np.uint8)
    data = Dataset("images", images, np.arange(6))
    return SentImages(dataclasses.replace(project, preprocessing=declaration), data.first(2), data)


def test_they_are_what_pillow_resizes_and_give_the_inputs_of_the_whole_image(project: Project) -> None:
    whole = sent(project, RESIZING, 48, 64)
    resized = resized_images(whole)
    assert resized is not None
    assert [len(resized.calibration.images), len(resized.evaluation.images)] == [2, 6]
    for before, after in zip(whole.evaluation.images, resized.evaluation.images, strict=True):
        expected = Image.fromarray(before).resize((21, 16), Image.Resampling.BILINEAR).crop((2, 0, 18, 16))
        assert np.abs(after.astype(int) - np.asarray(expected)).max() <= 1
    assert np.array_equal(resized.evaluation.labels, whole.evaluation.labels)
    inputs = resized.inputs(resized.evaluation, resized.evaluation.images)
    assert inputs.tobytes() == network_inputs(whole.project, whole.evaluation).tobytes()
    (arrived, sizes), (_, whole_sizes) = (one.evaluation_pictures.coded("jpeg", 70) for one in (resized, whole))
    assert arrived.shape == (6, 16, 16, 3)
    assert max(sizes) < min(whole_sizes)


@pytest.mark.parametrize(
    ("declaration", "size"),
    [
        (Preprocessing(scale=1 / 128), (16, 16)),  # the images have the network's size
        (RESIZING, (16, 16)),
        (RESIZING, (12, 12)),
        (Preprocessing(resize=(32, 32)), (16, 64)),
    ],
)
def test_where_that_makes_them_no_smaller_they_are_sent_as_they_are(
    project: Project, declaration: Preprocessing, size: tuple[int, int]
) -> None:
    assert resized_images(sent(project, declaration, *size)) is None
