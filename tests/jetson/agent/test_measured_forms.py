"""What an order with several precisions and batches makes a device time: its rows, and what they run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fake_jetson.small_request import SAMPLES, small_request
from small_graphs import FEATURE_SHAPE

from engines.device_builds.requests import OrderedMeasurement, PendingEngine, write_request
from engines.targets.lookup import find_target
from jetson.agent.measuring.stages import Stage, open_stage, stages_of
from jetson.engines.build_settings import BuildSettings
from jetson.engines.golden_check import in_batches
from jetson.files.atomic_files import sha256_of_bytes
from jetson.requests.build_request import BuildRequest, EngineSpec, open_request, read_samples
from jetson.requests.measurement import CodedTensor, CutCoding, ImageInput, Measurement, encode_images
from jetson.runtime.preprocessing import Preprocessing, to_json

FORMS = (("fp32", 1), ("int8", 1), ("fp32", 4), ("int8", 4))
IMAGES = np.random.default_rng(0).integers(0, 256, (SAMPLES, 6, 6, 3), np.uint8)


def order(
    folder: Path, forms: Sequence[tuple[str, int]] = FORMS, roles: Sequence[str] = ("head", "tail", "whole")
) -> BuildRequest:
    """Return an order of the small network in several forms, as a device opens it."""
    target = find_target("orin-nano-cpu")
    pending: list[PendingEngine] = []
    cuts = []
    for precision, batch in forms:
        settings = BuildSettings(precision=precision, batches=(batch, batch, batch))
        made = [one for one in small_request(folder / "out", target, settings=settings) if one.item.role in roles]
        pending += made
        names = [one.item.name for one in made[:2]]
        tensor = CodedTensor("feature", FEATURE_SHAPE, "affine", 8, "none", "zlib-huffman")
        hashes = [f"{role} {precision} {batch}" for role in ("head", "tail")]
        cuts.append(CutCoding("small", "conv1", "zlib-huffman", *names, *hashes, "a b", (tensor,)))
    images = encode_images(IMAGES)
    sha256 = sha256_of_bytes(images)
    image = ImageInput("small", "of images", to_json(Preprocessing(scale=1 / 255)), sha256, len(images))
    measured = OrderedMeasurement(Measurement(12, 10, cuts=tuple(cuts), images=(image,)), {sha256: images})
    write_request(folder / "order.zip", target, pending, measured)
    return open_request(str(folder / "order.zip"))


def key(stage: Stage) -> tuple[Any, ...]:
    return stage.layer, stage.part, stage.codec, stage.precision, stage.batch


def test_every_form_has_its_rows_and_images_are_timed_once_for_each_batch(tmp_path: Path) -> None:
    stages = stages_of(order(tmp_path))
    found = {key(stage): stage for stage in stages}
    assert len(found) == len(stages) == 4 * 5 + 2 * 3
    for precision, batch in FORMS:
        for part, codec in (("head", None), ("encode", "zlib-huffman"), ("decode", "zlib-huffman"), ("tail", None)):
            assert ("conv1", part, codec, precision, batch) in found
        assert found["conv1", "encode", "zlib-huffman", precision, batch].source_sha256 == f"head {precision} {batch}"
        assert found["conv1", "decode", "zlib-huffman", precision, batch].source_sha256 == f"tail {precision} {batch}"
    of_images = {one for one in found if one[0] == "whole" and one[1] != "whole"}
    parts = (("preprocess", None), ("encode", "raw"), ("decode", "raw"))
    assert of_images == {("whole", *part, "fp32", batch) for part in parts for batch in (1, 4)}
    # A chain is of one form, and its rows are side by side.
    chains = [stage.chain for stage in stages]
    assert len({chain for chain, after in zip(chains, [*chains[1:], None], strict=True) if chain != after}) == len(
        set(chains)
    )
    forms = {stage.chain: (stage.precision, stage.batch) for stage in stages}
    assert all(forms[stage.chain] == (stage.precision, stage.batch) for stage in stages)
    assert len({stage.name for stage in stages}) == len(stages)
    assert found["conv1", "encode", "zlib-huffman", "int8", 4].name == "small/conv1.encode zlib-huffman int8 batch 4"
    assert found["conv1", "encode", "zlib-huffman", "fp32", 1].name == "small/conv1.encode zlib-huffman"


def test_images_are_timed_although_the_uncut_network_is_not_there(tmp_path: Path) -> None:
    stages = stages_of(order(tmp_path, [("int8", 4)], ("head", "tail")))
    assert [key(stage)[1:] for stage in stages[4:]] == [
        ("preprocess", None, "fp32", 4), ("encode", "raw", "fp32", 4), ("decode", "raw", "fp32", 4),
    ]  # fmt: skip


def test_a_batch_goes_through_in_one_run(tmp_path: Path) -> None:
    """Six samples in batches of four: the second is filled up with the last sample."""
    request = order(tmp_path, [("int8", 4)])
    stages = {(stage.layer, stage.part): stage for stage in stages_of(request)}
    items = {item.role: item for item in request.items}
    given: list[Any] = []

    def load(item: EngineSpec) -> Any:
        return lambda inputs: given.append((item.role, inputs[0]))

    def rounds(layer: str, part: str) -> list[Any]:
        """Return what the stage gives for each of its two batches."""
        run = open_stage(request, stages[layer, part], load)
        return [run() for _ in range(6)][::3]

    for role in ("head", "tail", "whole"):
        rounds("whole" if role == "whole" else "conv1", role)
        wanted = in_batches(read_samples(request, items[role])[0], 4)
        assert [name for name, _ in given] == [role] * 6
        assert all(np.array_equal(given[3 * number][1], wanted[number][0]) for number in range(2))
        given.clear()
    symbols = in_batches(read_samples(request, items["head"])[1], 4)
    assert all(isinstance(message, bytes) for message in rounds("conv1", "encode"))
    assert all(np.array_equal(one[0], sent[0]) for one, sent in zip(rounds("conv1", "decode"), symbols, strict=True))
    filled = np.concatenate([IMAGES, IMAGES[-1:], IMAGES[-1:]]).reshape(2, 4, *IMAGES.shape[1:])
    for images, prepared, raw in zip(filled, rounds("whole", "preprocess"), rounds("whole", "decode"), strict=True):
        assert np.allclose(prepared, images.transpose(0, 3, 1, 2) / 255)
        assert np.array_equal(raw, images)
    assert [len(payloads) for payloads in rounds("whole", "encode")] == [4, 4]
