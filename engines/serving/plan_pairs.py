"""From a plan to what is served of it: the tails and whole networks that it may ever choose, loaded and tried."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engines.backends.interface import Runner
from engines.building.build_items import BuildItem, item_of_whole, items_of_layer
from engines.building.open_engine import open_engine
from engines.serving.release import Release
from engines.serving.served_pair import Arrays, ServedPair, one_at_a_time, run_batch
from engines.targets.target import Target
from exporter.bundles.bundle import read_feature_codec, read_golden, read_split, read_whole
from exporter.bundles.golden import golden_head_outputs
from exporter.progress import OnProgress, counter
from exporter.variants.choice import naming
from jetson.engines.identity import read_identity
from jetson.errors import CoopexportError, InputError, StaleError, UnsupportedError
from jetson.runtime import preprocessing
from jetson.runtime.image_parts import as_sent
from jetson.runtime.partition_policy import INPUT, OUTPUT, PartitionPolicy, read_partition_policy, release_name
from jetson.stream.frames import MOST_BODY_BYTES, without_checksum
from jetson.stream.hello import Output, Pair
from jetson.wire.feature import without_uint8
from jetson.wire.image_message import ImageCoding, decode_image

# The least, the usual and the largest batch that engines were built for.
Batches = tuple[int, int, int]
_MOST_PIXELS = 1 << 26


@dataclass(frozen=True)
class OpenRelease:
    """A release and the engines behind it; `close` gives them back. `refused`: pairs that are not served, and why."""

    release: Release
    close: Callable[[], None]


def open_release(
    plan_path: Path, target: Target, on_progress: OnProgress, batches: Batches = (1, 1, 1)
) -> OpenRelease:  # fmt: skip
    """Load what the edge runs of all candidates that the plan chooses at some goodput, load or round trip.

    Every engine runs once before it is served. A pair that cannot be loaded is refused by name; raises CoopexportError
    when the plan cannot be read, or none of its pairs can be served.
    """
    name = release_name(str(plan_path))  # before it is read: a plan that is replaced meanwhile is another release
    policy = read_partition_policy(str(plan_path))
    candidates = chosen_candidates(policy)
    pairs: dict[Pair, ServedPair] = {}
    refused: dict[Pair, str] = {}
    runners: list[Runner] = []
    why = ""
    on_loaded = counter(on_progress, "loading", len(candidates))
    for done, candidate in enumerate(candidates, start=1):
        pair = None
        try:
            pair, opened = _describe(plan_path.parent, candidate)
            with naming(pair.variant):
                pairs[pair], runner = opened(target, batches)
            runners.append(runner)
        except (CoopexportError, OSError, KeyError) as error:
            why = f"{error} is missing in the plan" if isinstance(error, KeyError) else str(error)
            variant, layer, precision = (str(candidate.get(key, "?")) for key in ("variant", "layer", "precision"))
            refused[pair or Pair(variant, layer, precision, "?", "?")] = why
        on_loaded(done)
    if candidates and not pairs:
        raise StaleError(f"nothing of {plan_path} can be served: {why}", path=plan_path)

    def close() -> None:
        for runner in runners:
            runner.close()

    return OpenRelease(Release(name, pairs, refused), close)


def chosen_candidates(policy: PartitionPolicy) -> list[dict[str, Any]]:
    """Return the candidates that the edge has a part in, of all envelopes, the first of equal pairs."""
    numbers = dict.fromkeys(number for envelope in policy.envelopes for number in envelope.candidates)
    found = [policy.candidates[number] for number in numbers]
    return [candidate for candidate in found if candidate["layer"] != OUTPUT]


def _describe(
    folder: Path, candidate: dict[str, Any]
) -> tuple[Pair, Callable[[Target, Batches], tuple[ServedPair, Runner]]]:
    """Return the pair of a candidate, and what opens the edge's part of it."""
    variant, layer, precision = candidate["variant"], candidate["layer"], candidate.get("precision", "fp32")
    if layer == INPUT:
        where = (folder / candidate["files"]["whole"]).parent
        whole = read_whole(where)
        name = candidate["coding"].split()[0]
        coding = next((one for one in whole.codings() if one.name == name), ImageCoding(name))
        pair = Pair(variant, layer, precision, name, whole.model.sha256)
        return pair, lambda target, batches: _open_whole(where, pair, coding, target, batches)
    where = (folder / candidate["files"]["tail"]).parent
    codec = read_feature_codec(where, read_split(where, layer))
    pair = Pair(variant, layer, precision, "feature", codec.associated_data.decode("ascii"))
    return pair, lambda target, batches: _open_tail(where, pair, target, batches)


def _open_tail(folder: Path, pair: Pair, target: Target, batches: Batches) -> tuple[ServedPair, Runner]:
    _, tail = items_of_layer(folder, pair.layer, pair.precision)
    codec = read_feature_codec(folder, read_split(folder, pair.layer))
    sent = golden_head_outputs(read_golden(folder, tail.golden))
    message = codec.encode([array[:1] for array in sent])
    if not target.uint8:
        codec = codec._replace(tensors=tuple(without_uint8(tensor) for tensor in codec.tensors))
    return _tried(pair, tail, target, batches, codec.decode, codec.decode(message))


def _open_whole(
    folder: Path, pair: Pair, coding: ImageCoding, target: Target, batches: Batches
) -> tuple[ServedPair, Runner]:
    item = item_of_whole(folder, pair.precision)
    golden = read_golden(folder, read_whole(folder).golden)
    declaration = item.preprocessing
    sent = as_sent(declaration, coding, golden["images"][0])
    left = preprocessing.after_resizing(declaration) if coding.is_resized else declaration

    def decode(payload: bytes) -> Arrays:
        if coding.quality is not None:
            payload = without_checksum(payload)
            _check_pixels(payload)
        image = decode_image(coding, payload, sent.shape)
        if coding.is_resized and image.shape != sent.shape:
            raise InputError(f"a picture of shape {image.shape} arrived; resized it has {sent.shape}")
        return [preprocessing.network_inputs(left, image[np.newaxis])]

    return _tried(pair, item, target, batches, decode, [golden["inputs"][:1]])


def _check_pixels(payload: bytes) -> None:
    """Refuse a picture that would fill the memory, before it is decoded; raises CoopexportError."""
    with Image.open(io.BytesIO(payload), formats=("JPEG", "WEBP")) as picture:
        width, height = picture.size
    if width * height > _MOST_PIXELS:
        raise InputError(f"a picture of {width} x {height}; it may have {_MOST_PIXELS:,} pixels")


def _tried(
    pair: Pair,
    item: BuildItem,
    target: Target,
    batches: Batches,
    decode: Callable[[bytes], Arrays],
    sample: Arrays,
) -> tuple[ServedPair, Runner]:
    """Open an item's engine and run it, alone and in the largest batch that it was built for."""
    runner = open_engine(item, target, batches)
    try:
        outputs = _outputs_of(item, target, batches)
        size = sum(prod(output.shape) * np.dtype(output.dtype).itemsize for output in outputs)
        if size > MOST_BODY_BYTES:
            raise UnsupportedError(f"its outputs of {size:,} bytes do not fit into a frame of {MOST_BODY_BYTES:,}")
        served = ServedPair(pair, outputs, batches[2], decode, one_at_a_time(runner))
        for count in {1, served.most_batch}:
            run_batch(served, [sample] * count)
    except BaseException:
        runner.close()
        raise
    return served, runner


def _outputs_of(item: BuildItem, target: Target, batches: Batches) -> tuple[Output, ...]:
    """Return an engine's outputs for one sample, as its identity has them."""
    path = item.engine_path(target, batches)
    described = read_identity(str(path)).outputs
    return tuple(
        Output(
            output["name"],
            output["dtype"],
            tuple(1 if index == 0 else int(size) for index, size in enumerate(output["shape"])),
        )
        for output in described
    )
