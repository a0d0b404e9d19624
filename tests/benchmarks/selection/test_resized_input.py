"""From split over bench to the plan: an image that the device resizes first is a competitor, in every file alike."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import small_residual
import torch
from PIL import Image
from residual_project import PROJECT

from benchmarks.figures.layers_figure import draw_bytes_and_time
from benchmarks.latency.run import read_run
from benchmarks.latency.table import latest
from benchmarks.selection.select_project import select_project
from exporter.bundles.bundle import RESIZING_WHOLE_SCHEMA, images_sha256, read_golden, read_whole
from exporter.onnx_graphs.session import open_session, run
from exporter.project.settings import load_project
from jetson.runtime.preprocessing import apply, resized

SETTINGS: dict[str, dict[str, Any]] = {"jpeg": {"optimize": True}, "webp": {"method": 6}}
PREPROCESSING = "[preprocessing]\nresize = 16\ncrop = [16, 16]\n"
SELECT = "[select]\njpeg_quality = 90\nmaximum_loss_points = 20\n[bench]\nrounds = 8\nwarm_up = 2\n"


def frames(height: int, width: int) -> np.ndarray:
    """Return 24 smooth pictures with some noise, which JPEG is made for."""
    random = np.random.default_rng(5)
    rows, columns = np.mgrid[:height, :width] / height
    phases = random.uniform(0, 6, (24, 1, 1, 3))
    waves = np.sin(phases + 5 * rows[..., None] * (1 + phases / 6) + 4 * columns[..., None])
    return (127 + 100 * waves + random.normal(0, 6, (24, height, width, 3))).clip(0, 255).astype(np.uint8)


def by_pillow(image: np.ndarray) -> np.ndarray:
    """Return a frame of 48 x 64 resized to 16 x 21 and cropped to 16 x 16 by Pillow."""
    return np.asarray(Image.fromarray(image).resize((21, 16), Image.Resampling.BILINEAR).crop((2, 0, 18, 16)))


def coded_by_pillow(images: list[np.ndarray], codec: str, quality: int) -> list[io.BytesIO]:
    """Return the pictures that this module's Pillow writes by itself."""
    files = [io.BytesIO() for _ in images]
    for image, file in zip(images, files, strict=True):
        Image.fromarray(image).save(file, codec, quality=quality, **SETTINGS[codec])
    return files


def decoded(files: list[io.BytesIO]) -> list[np.ndarray]:
    return [np.asarray(Image.open(file).convert("RGB")) for file in files]


def write_project(folder: Path, images: np.ndarray) -> Path:
    """Write a project whose network takes 16 x 16 of frames of 48 x 64; labels are what it says of Pillow's ones."""
    torch.save(small_residual.network().state_dict(), folder / "network.pt")
    small = np.stack([by_pillow(image) for image in images])
    with torch.no_grad():
        outputs = small_residual.network()(torch.from_numpy(small.transpose(0, 3, 1, 2) / np.float32(128) - 1))
    np.savez(folder / "data.npz", images=images, labels=outputs.argmax(dim=1).numpy())
    settings = PROJECT.replace("[preprocessing]\n", PREPROCESSING) + SELECT
    (folder / "coopexport.toml").write_text(settings)
    return folder


@pytest.fixture(scope="module")
def finished(coopexport: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with frames of 48 x 64 for a network of 16 x 16: split, measured, selected."""
    folder = write_project(tmp_path_factory.mktemp("resized"), frames(48, 64))
    for arguments in (["split", "--layer", "block1"], ["bench"], ["select"]):
        result = coopexport(folder, *arguments)
        assert result.code == 0, result.errors
    return folder


def test_a_resized_image_is_coded_and_judged_like_the_whole_one(finished: Path) -> None:
    folder = finished / "out/original"
    whole = read_whole(folder)
    assert list(whole.inputs) == ["raw", "jpeg", "webp", "resized-raw", "resized-jpeg", "resized-webp"]
    assert whole.made_from["format"] == RESIZING_WHOLE_SCHEMA
    session = open_session(onnx.load(str(folder / "model.onnx")), "all", weights_folder=folder)
    with np.load(finished / "data.npz") as data:
        images, labels = data["images"], data["labels"]

    def right(arrived: list[np.ndarray]) -> float:
        inputs = np.stack(arrived).transpose(0, 3, 1, 2) * np.float32(1 / 128) - np.float32(1)
        return float((run(session, [inputs.astype(np.float32)])[0].argmax(axis=1) == labels).mean())

    small = [by_pillow(image) for image in images]  # what is sent, to a level: an answer on the edge may turn
    assert whole.inputs["resized-raw"].payload_bytes.mean == 16 * 16 * 3 + 5
    assert whole.inputs["resized-raw"].metric.value == whole.metric.value == pytest.approx(right(small), abs=1.1 / 24)
    exact = [resized(whole.declared_preprocessing(), image) for image in images]
    for codec in ("jpeg", "webp"):
        coding = whole.inputs[f"resized-{codec}"]  # type: ignore[index]
        assert coding.quality is not None
        files = coded_by_pillow(exact, codec, coding.quality)
        assert coding.metric.value == pytest.approx(right(decoded(files)))
        assert coding.metric.loss_points <= 20
        assert coding.payload_bytes.mean == pytest.approx(np.mean([len(file.getvalue()) for file in files]))
        assert coding.payload_bytes.mean < whole.inputs[codec].payload_bytes.mean  # type: ignore[index]
    assert whole.inputs["resized-jpeg"].quality == 90
    # The lowest quality within 20 points is the resized image's own; the same images calibrate and judge.
    lowest = whole.inputs["resized-webp"].quality
    assert lowest not in (None, 1, whole.inputs["webp"].quality)
    assert right(decoded(coded_by_pillow(exact, "webp", (lowest or 0) - 1))) < whole.metric.value - 0.2


def test_each_way_has_its_own_times(finished: Path) -> None:
    whole = read_whole(finished / "out/original")
    (path,) = (finished / "out/runs").glob("*.json")
    items = {(item.part, item.codec): item for item in read_run(path).items if item.layer == "whole"}
    for coding in whole.inputs:
        for part in ("encode", "decode"):
            assert items[part, coding].source_sha256 == images_sha256(whole)
    assert ("preprocess", "resized") in items
    assert all(len(item.samples_ms or ()) == 8 for item in items.values())
    assert {"pillow", "libjpeg", "libwebp"} <= set(read_run(path).host["pictures"])


def test_the_plan_counts_coding_bytes_and_times_of_each_side(finished: Path) -> None:
    whole = read_whole(finished / "out/original")
    plan = json.loads((finished / "out/plan.json").read_text())
    ms = {(row.part, row.codec): row.p50_ms for row in latest(finished / "out/latency.sqlite") if row.layer == "whole"}
    slowdown = plan["assumptions"]["device_slowdown"]
    found = {one["coding"]: one for one in plan["candidates"] if one["layer"] == "input"}
    qualities = [whole.inputs[name].quality for name in ("webp", "resized-webp")]  # type: ignore[index]
    webps = f"webp q{qualities[0]}", f"resized-webp q{qualities[1]}"
    assert list(found) == ["raw", "jpeg q90", webps[0], "resized-raw", "resized-jpeg q90", webps[1]]
    for name, candidate in found.items():
        coding = name.split(" ")[0]
        left = "resized" if coding.startswith("resized-") else ""
        assert "reason" not in candidate
        assert candidate["device_ms"] == pytest.approx(slowdown * ms["encode", coding])
        edge_ms = ms["decode", coding] + ms["preprocess", left] + ms["whole", ""]
        assert candidate["edge_ms"] == pytest.approx(edge_ms)
        assert candidate["device_memory_bytes"] == 0
        assert candidate["payload_bytes"] == whole.inputs[coding].payload_bytes.mean  # type: ignore[index]
    for link in plan["links"]:
        named = {name.split(",")[0]: plan["candidates"][one["candidate"]] for name, one in link["baselines"].items()}
        assert named["edge only coded"]["coding"] in ("jpeg q90", webps[0])
        assert named["edge only resized"]["coding"].startswith("resized-")


def test_on_a_slow_link_the_resized_picture_beats_the_whole_one(
    coopexport: Callable[..., Any], finished: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "project"))
    result = coopexport(folder, "select", "--goodput-bps", "100000")
    assert result.code == 0, result.errors
    assert "edge only resized, original" in result.output
    (link,) = json.loads((folder / "out/plan.json").read_text())["links"]
    ms = {name: one["latency_ms"] for name, one in link["baselines"].items()}
    assert ms["edge only resized, original"] < ms["edge only coded, original"] < ms["edge only raw, original"]
    shown = draw_bytes_and_time(select_project(load_project(folder / "coopexport.toml")).selected).axes[0].lines
    names = [str(line.get_label()).partition(" (")[0] for line in shown]
    assert names[:2] == ["raw image", "JPEG image, quality 90"]
    assert names[3:5] == ["resized raw image", "resized JPEG image, quality 90"]


def test_golden_inputs_are_those_of_the_whole_image(finished: Path) -> None:
    whole = read_whole(finished / "out/original")
    golden = read_golden(finished / "out/original", whole.golden)
    assert golden["images"].shape[1:] == (48, 64, 3)
    assert np.array_equal(apply(whole.declared_preprocessing(), golden["images"]), golden["inputs"])
