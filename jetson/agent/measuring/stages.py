"""What a device times for an order: engines, the codec of each cut, and what images go through, as rows of a run."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from jetson.engines.golden_check import filled_up
from jetson.errors import ParityError
from jetson.requests.build_request import BuildRequest, EngineSpec, read_samples
from jetson.requests.measurement import CutCoding, ImageInput, Measurement, read_codec, read_images
from jetson.runtime import preprocessing
from jetson.runtime.cycle import Cycle
from jetson.wire.image_message import decode_raw, raw_payload

WHOLE, REFERENCE = "whole", "reference"
# On one device, for one image: what runs after each other.
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
        return "{}/{}.{} {}".format(self.variant, self.layer, self.part, self.codec or "").strip()

    def to_json(self) -> Dict[str, Any]:
        """Return the row's key as a latency run holds it."""
        fields = ("variant", "layer", "part", "codec", "precision", "batch", "source_sha256")
        return {field: getattr(self, field) for field in fields if getattr(self, field) is not None}


def stages_of(request: BuildRequest) -> List[Stage]:
    """Return all rows, the reference network first; what runs after each other for one image is side by side."""
    measurement = request.measurement
    cuts = {(cut.variant, cut.layer): cut for cut in measurement.cuts} if measurement is not None else {}
    images = {image.variant: image for image in measurement.images} if measurement is not None else {}
    reference = None if measurement is None else measurement.reference
    found: List[Stage] = []
    for item in request.items:
        cut = cuts.get((item.variant, item.layer))
        if item.name == reference:
            found.insert(0, _engine(item, (REFERENCE,)))
        elif item.role == "head":
            found.append(_engine(item, _chain(item, "device")))
            found += [] if cut is None else [_coding(cut, "encode", item)]
        elif item.role == "tail":
            found += [] if cut is None else [_coding(cut, "decode", item)]
            found.append(_engine(item, _chain(item, "edge")))
        else:
            image = images.get(item.variant)
            found += [] if image is None else [_of_images(image, "preprocess", None)]
            found.append(_engine(item, (item.variant, WHOLE, "")))
            found += [] if image is None else [_of_images(image, part, "raw") for part in ("encode", "decode")]
    return found


def open_stage(request: BuildRequest, stage: Stage, load: LoadEngine) -> Run:
    """Return what runs when a stage is timed, on its golden data; `load` opens an item's engine.

    Raises CoopexportError when the engine does not load, or a codec does not give back what it was given.
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
    return (item.variant, item.layer, side, item.settings.precision)


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


def _of_images(image: ImageInput, part: str, codec: Optional[str]) -> Stage:
    return Stage(
        image.variant, WHOLE, part, codec, "fp32", 1, image.source_sha256, None, (image.variant, WHOLE, codec or "")
    )


def _open_engine(request: BuildRequest, item: EngineSpec, load: LoadEngine) -> Run:
    inputs, _ = read_samples(request, item)
    in_turn = Cycle(_batches(inputs, item.settings.batches[1]))
    runner = load(item)
    return lambda: runner(in_turn())


def _open_codec(request: BuildRequest, measurement: Measurement, stage: Stage) -> Run:
    cut = next(one for one in measurement.cuts if (one.variant, one.layer) == (stage.variant, stage.layer))
    items = {item.name: item for item in request.items}
    codec = read_codec(request.archive, cut, stage.batch)
    sent = _batches(read_samples(request, items[cut.head])[1], stage.batch)
    if stage.part == "encode":
        head_outputs = Cycle(sent)
        return lambda: codec.encode(head_outputs())
    coded = [codec.encode(outputs) for outputs in sent]
    taken = _batches(read_samples(request, items[cut.tail])[0], stage.batch)
    for index, wanted in enumerate(taken):
        found = codec.decode(coded[index])
        if [(one.dtype, one.tobytes()) for one in found] != [(one.dtype, one.tobytes()) for one in wanted]:
            raise ParityError("the codec of {} gives the tail something else than the golden data".format(stage.layer))
    messages = Cycle(coded)
    return lambda: codec.decode(messages())


def _open_images(request: BuildRequest, image: ImageInput, stage: Stage) -> Run:
    images = read_images(request.archive, image)
    if stage.part == "preprocess":
        declaration = preprocessing.from_json(image.preprocessing)
        to_prepare = Cycle([one[None] for one in images])
        return lambda: preprocessing.apply(declaration, to_prepare()).astype("float32", copy=False)
    if stage.part == "encode":
        to_code = Cycle(list(images))
        return lambda: raw_payload(to_code())
    payloads, shape = Cycle([raw_payload(one) for one in images]), images[0].shape
    return lambda: decode_raw(payloads(), shape)


def _batches(arrays: List[Any], batch: int) -> List[List[Any]]:
    """Return N x ... arrays as lists of `batch` samples each, the last sample repeated where they do not fill one."""
    return [
        [filled_up(one[start : start + batch], batch) for one in arrays] for start in range(0, len(arrays[0]), batch)
    ]
