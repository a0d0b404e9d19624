"""What is timed of a bundle: heads, codecs and tails, the whole network and the image's own coding."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.codecs.input_coding import PICTURE_PAYLOADS, PictureCodec, decode_picture
from engines.backends.interface import Runner
from engines.building.build_items import WHOLE, BuildItem, item_of_whole, items_of_layer
from engines.building.open_engine import open_engine
from engines.building.pair import network_input
from engines.targets.lookup import Target
from exporter.bundles.bundle import (
    WholeFile,
    images_sha256,
    read_feature_codec,
    read_golden,
    read_split,
    read_whole,
)
from exporter.bundles.golden import golden_head_outputs, golden_tail_inputs
from jetson.runtime.cycle import Cycle
from jetson.wire.image_message import decode_raw, raw_payload


@dataclass(frozen=True)
class TimedStage:
    """One thing to time: its key in the table and a function without arguments.

    `load_ms`: how long its engine took to check and to load, None for what has none.
    """

    variant: str
    layer: str
    part: str
    codec: str | None
    source_sha256: str
    run: Callable[[], Any]
    load_ms: float | None = None

    @property
    def key(self) -> str:
        """Return a name that no other part of the run has."""
        return f"{self.variant}/{self.layer}/{self.part}/{self.codec or ''}"


def stages_of_layer(folder: Path, layer: str, target: Target) -> list[TimedStage]:
    """Return head, encode, decode and tail of a split bundle, on its golden data.

    `encode` and `decode` are entropy coding and message; quantisation is part of head and tail.
    Raises CoopexportError when an engine is missing or stale.
    """
    bundle = read_split(folder, layer)
    golden = read_golden(folder, bundle.golden)
    (head, head_load_ms), (tail, tail_load_ms) = (_opened(item, target) for item in items_of_layer(folder, layer))
    codec = read_feature_codec(folder, bundle)
    singles = _samples(golden_head_outputs(golden))
    inputs, head_outputs = Cycle(_singles(golden["inputs"])), Cycle(singles)
    tail_inputs = Cycle(_samples(golden_tail_inputs(golden)))
    messages = Cycle([codec.encode(item) for item in singles])
    head_sha256, tail_sha256 = bundle.head.sha256, bundle.tail.sha256
    return [
        TimedStage(bundle.variant, layer, "head", None, head_sha256, lambda: head([inputs()]), head_load_ms),
        TimedStage(bundle.variant, layer, "encode", bundle.codec, head_sha256, lambda: codec.encode(head_outputs())),
        TimedStage(bundle.variant, layer, "decode", bundle.codec, tail_sha256, lambda: codec.decode(messages())),
        TimedStage(bundle.variant, layer, "tail", None, tail_sha256, lambda: tail(tail_inputs()), tail_load_ms),
    ]


def stages_of_whole(folder: Path, target: Target) -> list[TimedStage]:
    """Return the whole network, the preprocessing, and the coding of the image itself, on the golden data."""
    whole = read_whole(folder)
    golden = read_golden(folder, whole.golden)
    declaration = whole.declared_preprocessing()
    runner, load_ms = _opened(item_of_whole(folder), target)
    images = list(golden["images"])
    shape = images[0].shape
    inputs, to_prepare = Cycle(_singles(golden["inputs"])), Cycle(images)
    to_raw = Cycle(images)
    raws = Cycle([raw_payload(image) for image in images])
    key = (whole.variant, WHOLE)
    sha256 = images_sha256(whole)
    return [
        TimedStage(*key, "preprocess", None, sha256, lambda: network_input(declaration, to_prepare())),
        TimedStage(*key, WHOLE, None, whole.model.sha256, lambda: runner([inputs()]), load_ms),
        TimedStage(*key, "encode", "raw", sha256, lambda: raw_payload(to_raw())),
        TimedStage(*key, "decode", "raw", sha256, lambda: decode_raw(raws(), shape)),
        *(
            stage
            for codec in PICTURE_PAYLOADS
            if (quality := _quality(whole, codec)) is not None
            for stage in _picture_stages(key, codec, quality, sha256, images)
        ),
    ]


def _opened(item: BuildItem, target: Target) -> tuple[Runner, float]:
    """Return the engine of an item, checked and loaded, and how many milliseconds that took."""
    started = time.perf_counter()
    runner = open_engine(item, target)
    return runner, 1000.0 * (time.perf_counter() - started)


def _quality(whole: WholeFile, codec: PictureCodec) -> int | None:
    """Return the quality of a picture codec; None where the variant was split before there was such a codec."""
    found = whole.inputs.get(codec)
    return None if found is None else found.quality


def _picture_stages(
    key: tuple[str, str],
    codec: PictureCodec,
    quality: int,
    sha256: str,
    images: Sequence[NDArray[np.uint8]],
) -> list[TimedStage]:
    """Return coding and decoding of the image by a picture codec."""
    payload = PICTURE_PAYLOADS[codec]
    to_code, coded = Cycle(images), Cycle([payload(image, quality) for image in images])
    return [
        TimedStage(*key, "encode", codec, sha256, lambda: payload(to_code(), quality)),
        TimedStage(*key, "decode", codec, sha256, lambda: decode_picture(coded())),
    ]


def _samples(tensors: Sequence[NDArray[Any]]) -> list[list[NDArray[Any]]]:
    """Return what several tensors hold of each sample."""
    return [list(sample) for sample in zip(*map(_singles, tensors), strict=True)]


def _singles(batch: NDArray[Any]) -> list[NDArray[Any]]:
    return [batch[index : index + 1] for index in range(len(batch))]
