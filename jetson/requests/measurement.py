"""What an order asks to measure beside its engines: the codec of each cut, what images go through, and how long."""

import io
import zipfile
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple

from jetson.errors import DamagedFileError
from jetson.requests.archive import Archive, read_member
from jetson.wire.feature import KINDS, FeatureCodec, FeatureTensor
from jetson.wire.image_message import IMAGE_CODINGS, RAW, ImageCoding
from jetson.wire.packing import PACKINGS
from jetson.wire.specification import CODEC_NAMES
from jetson.wire.symbol_model import model_from_bytes


class CodedTensor(NamedTuple):
    """One tensor that crosses a cut, in the form in which the order's engines give and take it (FeatureTensor).

    `tables_sha256`: of the file with its symbol model; None where its codec has none.
    """

    name: str
    shape: Tuple[int, ...]
    kind: str
    bits: int
    packing: str
    codec: str
    tables_sha256: Optional[str] = None
    tables_bytes: int = 0


class CutCoding(NamedTuple):
    """What codes the feature of one cut. `codec`: what rows of the latency table call it.

    `head`, `tail`: names of the order's items, whose golden data are coded; `head_sha256`, `tail_sha256`: of the
    bundle's graphs; `associated_data`: what messages of this cut are bound to, ASCII.
    """

    variant: str
    layer: str
    codec: str
    head: str
    tail: str
    head_sha256: str
    tail_sha256: str
    associated_data: str
    tensors: Tuple[CodedTensor, ...]


class CodedImages(NamedTuple):
    """A coding of images, and what came of the first of them where the order was made.

    `name`, `quality`: as jetson.wire.image_message.ImageCoding has them; `payload_bytes`: of each; `decoded_sha256`: of
    the npz file with `images`, as they were decoded, n x height x width x 3, RGB, uint8; `pillow`: the version of what
    coded pictures.
    """

    name: str
    quality: Optional[int]
    payload_bytes: Tuple[int, ...]
    decoded_sha256: str
    decoded_bytes: int
    pillow: Optional[str] = None

    @property
    def coding(self) -> ImageCoding:
        """Return how they are coded."""
        return ImageCoding(self.name, self.quality)


class ImageInput(NamedTuple):
    """What images go through before a variant's whole network. `preprocessing`: as jetson.runtime.preprocessing has it.

    `source_sha256`: what rows of the latency table are about; `images_sha256`: of the npz file with `images`, N x
    height x width x 3, RGB, uint8. `coded`: how they are sent beside raw.
    """

    variant: str
    source_sha256: str
    preprocessing: Dict[str, Any]
    images_sha256: str
    images_bytes: int
    coded: Tuple[CodedImages, ...] = ()

    @property
    def codings(self) -> Tuple[ImageCoding, ...]:
        """Return all ways to send them, raw first."""
        return (ImageCoding(RAW),) + tuple(one.coding for one in self.coded)


class Measurement(NamedTuple):
    """How to measure. `rounds`: that are kept; `warm_up`: the least number before them.

    `power_mode`: to measure in, by nvpmodel's name; None leaves it as it is. `reference`: name of the item that is the
    network in every run's rounds; where its builder does not take it, `reference_failure` says why. `energy`: whether
    the energy of each part is measured, None where the board shows its power; `energy_seconds`: how long each part runs
    by itself for that.
    """

    rounds: int
    warm_up: int
    power_mode: Optional[str] = None
    reference: Optional[str] = None
    cuts: Tuple[CutCoding, ...] = ()
    images: Tuple[ImageInput, ...] = ()
    reference_failure: Optional[str] = None
    energy: Optional[bool] = None
    energy_seconds: float = 1.0


def measurement_to_json(measurement: Measurement) -> Dict[str, Any]:
    """Return the measurement as an order holds it."""
    content = dict(measurement._asdict())
    content["cuts"] = [
        dict(cut._asdict(), tensors=[dict(tensor._asdict()) for tensor in cut.tensors]) for cut in measurement.cuts
    ]
    content["images"] = [
        dict(image._asdict(), coded=[dict(one._asdict()) for one in image.coded]) for image in measurement.images
    ]
    return content


def measurement_from_json(content: Dict[str, Any]) -> Measurement:
    """Return what `measurement_to_json` wrote; raises TypeError, ValueError or KeyError for anything else."""
    known = {key: value for key, value in content.items() if key in Measurement._fields}
    known["cuts"] = tuple(_cut(item) for item in content["cuts"])
    known["images"] = tuple(_image(item) for item in content["images"])
    measurement = Measurement(**known)
    for count in (measurement.rounds, measurement.warm_up):
        if type(count) is not int or count < 1:
            raise ValueError("{!r} is not a number of rounds".format(count))
    if measurement.energy not in (None, True, False):
        raise ValueError("{!r} does not say whether energy is measured".format(measurement.energy))
    if type(measurement.energy_seconds) not in (int, float) or not 0 < measurement.energy_seconds < float("inf"):
        raise ValueError("{!r} is not a number of seconds".format(measurement.energy_seconds))
    return measurement


def measured_items(measurement: Measurement) -> Set[str]:
    """Return the names of the order's items that a measurement speaks of."""
    names = {name for cut in measurement.cuts for name in (cut.head, cut.tail)}
    return names if measurement.reference is None else names | {measurement.reference}


def read_codec(archive: Archive, cut: CutCoding, batch: int = 1) -> FeatureCodec:
    """Return what codes the feature of a cut for `batch` samples; raises CoopexportError for damaged tables."""
    tensors: List[FeatureTensor] = []
    for tensor in cut.tensors:
        fields = {key: value for key, value in tensor._asdict().items() if key in FeatureTensor._fields}
        model = None
        if tensor.tables_sha256 is not None:
            model = model_from_bytes(read_member(archive, tensor.tables_sha256, tensor.tables_bytes))
        tensors.append(FeatureTensor(**dict(fields, model=model)))
    return FeatureCodec(tuple(tensors), cut.associated_data.encode("ascii"), batch)


def read_images(archive: Archive, image: ImageInput) -> Any:
    """Return the images of a variant, N x height x width x 3, uint8; raises CoopexportError when they are damaged."""
    return _read_npz(archive, image.variant, image.images_sha256, image.images_bytes)


def read_decoded(archive: Archive, image: ImageInput, coded: CodedImages) -> Any:
    """Return the first images of a variant as they were decoded where the order was made; raises as `read_images`."""
    return _read_npz(archive, image.variant, coded.decoded_sha256, coded.decoded_bytes)


def _read_npz(archive: Archive, variant: str, sha256: str, size_bytes: int) -> Any:
    import numpy as np

    data = read_member(archive, sha256, size_bytes)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            images = arrays["images"]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
            raise ValueError("they are {} of shape {}".format(images.dtype, images.shape))
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise DamagedFileError(
            "{}: the images of {} are unusable: {}".format(archive.path, variant, error),
            path=archive.path,
            fix="make the order again",
        ) from None
    return images


def encode_images(images: Any) -> bytes:
    """Return the npz file that `read_images` reads."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, images=images)
    return buffer.getvalue()


def _cut(content: Dict[str, Any]) -> CutCoding:
    tensors = []
    for item in content["tensors"]:
        tensor = CodedTensor(**_known(CodedTensor, dict(item, shape=tuple(int(size) for size in item["shape"]))))
        if tensor.kind not in KINDS or tensor.packing not in PACKINGS or tensor.codec not in CODEC_NAMES:
            raise ValueError("{} is not a tensor that crosses".format(tensor))
        tensors.append(tensor)
    cut = CutCoding(**dict(_known(CutCoding, content), tensors=tuple(tensors)))
    cut.associated_data.encode("ascii")
    return cut


def _image(content: Dict[str, Any]) -> ImageInput:
    coded = []
    for item in content.get("coded", ()):
        fields = dict(_known(CodedImages, item), payload_bytes=tuple(int(size) for size in item["payload_bytes"]))
        one = CodedImages(**fields)
        is_picture = type(one.quality) is int and 1 <= one.quality <= 100
        if (
            one.name not in IMAGE_CODINGS
            or is_picture != (one.coding.codec != RAW)
            or not all(one.payload_bytes or [0])
        ):
            raise ValueError("{} is not a coding of images".format(one))
        coded.append(one)
    return ImageInput(**dict(_known(ImageInput, content), coded=tuple(coded)))


def _known(kind: Any, content: Dict[str, Any]) -> Dict[str, Any]:
    """Return the fields that this version knows: a later minor version may have more."""
    return {key: value for key, value in content.items() if key in kind._fields}
