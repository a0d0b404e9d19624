"""What is timed of a bundle: heads, codecs and tails, the whole network and the image's own coding."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.backends.interface import Runner
from engines.building.build_items import FLOAT32, WHOLE, BuildItem, item_of_whole, items_of_layer
from engines.building.open_engine import open_engine
from engines.targets.lookup import Target
from exporter.bundles.bundle import (
    images_sha256,
    read_feature_codec,
    read_golden,
    read_split,
    read_whole,
)
from exporter.bundles.golden import golden_head_outputs, golden_tail_inputs
from jetson.engines.golden_check import in_batches
from jetson.runtime.cycle import Cycle
from jetson.runtime.gpu_rounds import Read
from jetson.runtime.image_parts import PREPROCESS, image_parts, open_image_part
from jetson.tensorrt_engines.runtime import EngineRunner


@dataclass(frozen=True)
class TimedStage:
    """One thing to time: its key in the table and a function without arguments, which handles a whole batch.

    `load_ms`: how long its engine took to check and to load, None for what has none. `gpu_times`: what its last run was
    made of, of an engine on a GPU.
    """

    variant: str
    layer: str
    part: str
    codec: str | None
    source_sha256: str
    run: Callable[[], Any]
    load_ms: float | None = None
    precision: str = FLOAT32
    batch: int = 1
    gpu_times: Read | None = None

    @property
    def key(self) -> str:
        """Return a name that no other part of the run has."""
        return f"{self.variant}/{self.layer}/{self.part}/{self.codec or ''}/{self.precision}/{self.batch}"


def stages_of_layer(
    folder: Path, layer: str, target: Target, precision: str = FLOAT32, batch: int = 1
) -> list[TimedStage]:  # fmt: skip
    """Return head, encode, decode and tail of a split bundle in a precision, on that precision's golden data.

    `batch`: images at once. `encode` and `decode` are entropy coding and message; quantisation is part of head and
    tail. Raises CoopexportError when an engine is missing or stale.
    """
    bundle = read_split(folder, layer)
    head_item, tail_item = items_of_layer(folder, layer, precision)
    golden = read_golden(folder, head_item.golden)
    (head, head_load_ms), (tail, tail_load_ms) = (_opened(item, target, batch) for item in (head_item, tail_item))
    codec = read_feature_codec(folder, bundle, batch)
    sent = in_batches(golden_head_outputs(golden), batch)
    inputs, head_outputs = Cycle(in_batches([golden["inputs"]], batch)), Cycle(sent)
    tail_inputs = Cycle(in_batches(golden_tail_inputs(golden), batch))
    messages = Cycle([codec.encode(outputs) for outputs in sent])

    def stage(
        part: str,
        coded: str | None,
        item: BuildItem,
        run: Callable[[], Any],
        load_ms: float | None = None,
        gpu_times: Read | None = None,
    ) -> TimedStage:
        sha256 = item.graph.sha256
        return TimedStage(bundle.variant, layer, part, coded, sha256, run, load_ms, precision, batch, gpu_times)

    return [
        stage("head", None, head_item, lambda: head(inputs()), head_load_ms, traced(head)),
        stage("encode", bundle.codec, head_item, lambda: codec.encode(head_outputs())),
        stage("decode", bundle.codec, tail_item, lambda: codec.decode(messages())),
        stage("tail", None, tail_item, lambda: tail(tail_inputs()), tail_load_ms, traced(tail)),
    ]


def stages_of_whole(
    folder: Path, target: Target, precisions: Sequence[str] = (FLOAT32,), batch: int = 1
) -> list[TimedStage]:  # fmt: skip
    """Return preprocessing, the whole network in each precision, and the coding of the image itself, on golden data.

    `batch`: images at once. What handles images does not depend on precision, and is called float32. A picture codec
    that the variant was split without is left out.
    """
    whole = read_whole(folder)
    golden = read_golden(folder, whole.golden)
    declaration = whole.declared_preprocessing()
    images, codings = list(golden["images"]), whole.codings()
    sha256 = images_sha256(whole)

    def of_images(part: str, codec: str | None) -> TimedStage:
        run = open_image_part(declaration, images, part, codec, codings, batch)
        return TimedStage(whole.variant, WHOLE, part, codec, sha256, run, batch=batch)

    return [
        of_images(PREPROCESS, None),
        *(_network_stage(item_of_whole(folder, precision), target, batch) for precision in precisions),
        *(of_images(part, codec) for part, codec in image_parts(codings)),
    ]


def _network_stage(item: BuildItem, target: Target, batch: int) -> TimedStage:
    """Return the whole network in the precision of `item`, on that precision's golden inputs."""
    runner, load_ms = _opened(item, target, batch)
    inputs = Cycle(in_batches([read_golden(item.folder, item.golden)["inputs"]], batch))
    return TimedStage(
        item.variant,
        WHOLE,
        WHOLE,
        None,
        item.graph.sha256,
        lambda: runner(inputs()),
        load_ms,
        item.precision,
        batch,
        traced(runner),
    )


def _opened(item: BuildItem, target: Target, batch: int) -> tuple[Runner, float]:
    """Return the engine of an item, checked and loaded, and how many milliseconds that took."""
    started = time.perf_counter()
    runner = open_engine(item, target, (batch, batch, batch))
    return runner, 1000.0 * (time.perf_counter() - started)


def traced(runner: Runner) -> Read | None:
    """Let an engine on a GPU note what each run is made of, and return what reads it; None for any other engine."""
    if not isinstance(runner, EngineRunner):
        return None
    runner.trace()
    return runner.gpu_times
