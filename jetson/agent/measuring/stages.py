"""What a device times for an order: engines, the codec of each cut, and what images go through, as rows of a run."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from jetson.agent.measuring.coding_check import check_coding
from jetson.engines.golden_check import in_batches
from jetson.errors import ParityError
from jetson.requests.build_request import BuildRequest, EngineSpec, read_samples
from jetson.requests.measurement import CutCoding, ImageInput, Measurement, read_codec, read_images
from jetson.runtime import preprocessing
from jetson.runtime.cycle import Cycle
from jetson.runtime.image_parts import image_parts, open_image_part

WHOLE, REFERENCE = "whole", "reference"
FLOAT32 = "fp32"
# On one device, for one batch: what runs after each other.
_DEVICE_SIDE = ("head", "encode")
Run = Callable[[], Any]
LoadEngine = Callable[[EngineSpec], Any]


class Stage(NamedTuple):
    """One row of a run. `item`: the engine that it times, None for codecs and images; `chain`: what it runs with."""

    variant: str
    layer: str
    part: str
    codec: Optional[str]
    precision: str
    batch: int
    source_sha256: str
    item: Optional[EngineSpec]
    chain: Tuple[str, ...]

    @property
    def name(self) -> str:
        """Return how it is called where people read it: "pruned/conv4_1.head"."""
        if self.item is not None:
            return self.item.name
        form = [self.precision] if self.precision != FLOAT32 else []
        form += ["batch {}".format(self.batch)] if self.batch != 1 else []
        return " ".join(filter(None, ["{}/{}.{}".format(self.variant, self.layer, self.part), self.codec or ""] + form))

    def to_json(self) -> Dict[str, Any]:
        """Return the row's key as a latency run holds it."""
        fields = ("variant", "layer", "part", "codec", "precision", "batch", "source_sha256")
        return {field: getattr(self, field) for field in fields if getattr(self, field) is not None}


def stages_of(request: BuildRequest) -> List[Stage]:
    """Return all rows, the reference network first; what runs after each other for one batch is side by side.

    What handles images does not depend on the network's precision: it is timed once for each batch.
    """
    measurement = request.measurement
    cuts = {name: cut for cut in measurement.cuts for name in (cut.head, cut.tail)} if measurement is not None else {}
    images = {image.variant: image for image in measurement.images} if measurement is not None else {}
    reference = None if measurement is None else measurement.reference
    found: List[Stage] = []
    with_images: Set[Tuple[str, int]] = set()
    for item in request.items:
        cut = cuts.get(item.name)
        if item.name == reference:
            found.insert(0, _engine(item, (REFERENCE,)))
        elif item.role == "head":
            found.append(_engine(item, _chain(item, "device")))
            found += [] if cut is None else [_coding(cut, "encode", item)]
        elif item.role == "tail":
            found += [] if cut is None else [_coding(cut, "decode", item)]
            found.append(_engine(item, _chain(item, "edge")))
        else:
            key = item.variant, item.settings.batches[1]
            image = None if key in with_images else images.get(item.variant)
            with_images.add(key)
            engine = _engine(item, _whole_chain(item.variant, None, item.settings.precision, key[1]))
            found += [engine] if image is None else _with_images(image, key[1], [engine])
    for item in request.items:  # of variants whose uncut network is not among them
        key = item.variant, item.settings.batches[1]
        if key not in with_images and item.variant in images:
            with_images.add(key)
            found += _with_images(images[item.variant], key[1], [])
    return found


def open_stage(request: BuildRequest, stage: Stage, load: LoadEngine) -> Run:
    """Return what runs when a stage is timed, on its golden data; `load` opens an item's engine.

    Raises CoopexportError when the engine does not load, a codec does not give back what it was given, or a picture
    codec is missing or does not code as it did where the order was made.
    """
    measurement = request.measurement
    if stage.item is not None:
        return _open_engine(request, stage.item, load)
    assert measurement is not None  # which the stage is of
    if stage.layer != WHOLE:
        return _open_codec(request, measurement, stage)
    return _open_images(request, next(one for one in measurement.images if one.variant == stage.variant), stage)


def _engine(item: EngineSpec, chain: Tuple[str, ...]) -> Stage:
    settings = item.settings
    return Stage(
        item.variant,
        item.layer,
        item.role,
        None,
        settings.precision,
        settings.batches[1],
        item.source_sha256,
        item,
        chain,
    )


def _chain(item: EngineSpec, side: str) -> Tuple[str, ...]:
    return (item.variant, item.layer, side, item.settings.precision, str(item.settings.batches[1]))


def _coding(cut: CutCoding, part: str, item: EngineSpec) -> Stage:
    sha256 = cut.head_sha256 if part == "encode" else cut.tail_sha256
    side = "device" if part in _DEVICE_SIDE else "edge"
    settings = item.settings
    return Stage(
        cut.variant,
        cut.layer,
        part,
        cut.codec,
        settings.precision,
        settings.batches[1],
        sha256,
        None,
        _chain(item, side),
    )


def _whole_chain(variant: str, codec: Optional[str], precision: str, batch: int) -> Tuple[str, ...]:
    return (variant, WHOLE, codec or "", precision, str(batch))


def _with_images(image: ImageInput, batch: int, networks: List[Stage]) -> List[Stage]:
    """Return the rows of images around those of uncut networks."""
    coding = [_of_images(image, part, codec, batch) for part, codec in image_parts(image.codings)]
    return [_of_images(image, "preprocess", None, batch)] + networks + coding


def _of_images(image: ImageInput, part: str, codec: Optional[str], batch: int) -> Stage:
    chain = _whole_chain(image.variant, codec, FLOAT32, batch)
    return Stage(image.variant, WHOLE, part, codec, FLOAT32, batch, image.source_sha256, None, chain)


def _open_engine(request: BuildRequest, item: EngineSpec, load: LoadEngine) -> Run:
    inputs, _ = read_samples(request, item)
    in_turn = Cycle(in_batches(inputs, item.settings.batches[1]))
    runner = load(item)
    return lambda: runner(in_turn())


def _open_codec(request: BuildRequest, measurement: Measurement, stage: Stage) -> Run:
    items = {item.name: item for item in request.items}
    cut = next(one for one in measurement.cuts if _is_coded_by(stage, one, items[one.head]))
    codec = read_codec(request.archive, cut, stage.batch)
    sent = in_batches(read_samples(request, items[cut.head])[1], stage.batch)
    if stage.part == "encode":
        head_outputs = Cycle(sent)
        return lambda: codec.encode(head_outputs())
    coded = [codec.encode(outputs) for outputs in sent]
    taken = in_batches(read_samples(request, items[cut.tail])[0], stage.batch)
    for index, wanted in enumerate(taken):
        found = codec.decode(coded[index])
        if [(one.dtype, one.tobytes()) for one in found] != [(one.dtype, one.tobytes()) for one in wanted]:
            raise ParityError("the codec of {} gives the tail something else than the golden data".format(stage.layer))
    messages = Cycle(coded)
    return lambda: codec.decode(messages())


def _is_coded_by(stage: Stage, cut: CutCoding, head: EngineSpec) -> bool:
    form = head.settings.precision, head.settings.batches[1]
    return (stage.variant, stage.layer, stage.precision, stage.batch) == (cut.variant, cut.layer) + form


def _open_images(request: BuildRequest, image: ImageInput, stage: Stage) -> Run:
    images = list(read_images(request.archive, image))
    declaration = preprocessing.from_json(image.preprocessing)
    for coded in image.coded:
        if coded.name == stage.codec:
            check_coding(request.archive, image, coded, images)
    return open_image_part(declaration, images, stage.part, stage.codec, image.codings, stage.batch)
