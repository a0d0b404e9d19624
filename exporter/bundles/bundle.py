"""Split bundles on disk: the manifest, graphs with shared weights, golden data."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from exporter.bundles.records import read_record
from exporter.encoding.specification import EncodeSpecification, feature_tensor
from jetson.errors import DamagedFileError, StaleError
from jetson.files.atomic_files import sha256_of_bytes, write_files
from jetson.files.json_files import encode_json
from jetson.runtime import bundle_manifest
from jetson.runtime import preprocessing as preprocessing_steps
from jetson.runtime.bundle_manifest import SPLIT_SCHEMA, RecordedFile
from jetson.runtime.preprocessing import Preprocessing
from jetson.store.blobs import BlobStore, blob_name, sha256_of_name, verify_blob
from jetson.wire.feature import FeatureCodec, FeatureTensor
from jetson.wire.image_message import ImageCoding

WHOLE_SCHEMA = bundle_manifest.WHOLE_SCHEMA
# Where preprocessing resizes or crops: with inputs that are sent resized, where that makes them smaller.
RESIZING_WHOLE_SCHEMA = "coopexport.whole/1.2"
WEIGHTS_FOLDER = "weights"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class FileRecord(_Record):
    """A file beside the manifest and its hash."""

    file: str
    sha256: str


class PayloadBytes(_Record):
    """Bytes of one message over the evaluation images, header included; files call `min` least and `max` largest."""

    mean: float
    min: int = Field(validation_alias=AliasChoices("least", "min"), serialization_alias="least")
    max: int = Field(validation_alias=AliasChoices("largest", "max"), serialization_alias="largest")
    samples: int


class Metric(_Record):
    """A metric (higher is better) and its reference: see docs/formats.md."""

    name: str
    value: float
    reference: float
    samples: int
    only_reference_right: int | None = None
    only_this_right: int | None = None
    data: str | None = None
    data_sha256: str | None = None

    @property
    def loss_points(self) -> float:
        """How much lower than the reference, in points (hundredths)."""
        return 100.0 * (self.reference - self.value)


class CutTensorRecord(_Record):
    """One tensor that crosses: its name and shape (without batch) in the whole graph, and its encoding.

    `codec`: what turns its symbols into bytes; `tables`: the symbol model of an entropy codec.
    """

    name: str
    shape: tuple[int, ...]
    encoding: EncodeSpecification
    codec: str
    tables: FileRecord | None = None

    @property
    def feature(self) -> FeatureTensor:
        """What takes its symbols out of the head and into the tail; without tables, so not yet into a message."""
        return feature_tensor(self.encoding, self.name, self.shape, self.codec)

    @field_validator("encoding", mode="before")
    @classmethod
    def _without_percentile(cls, value: Any) -> Any:
        """Fill in what `minmax` has none of: None is not written."""
        if isinstance(value, dict) and isinstance(value.get("clip"), dict):
            return {**value, "clip": {"percentile": None, **value["clip"]}}
        return value


class SplitFile(_Record):
    """`<layer>.split.json`."""

    variant: str
    layer: str
    position: Literal["post-activation", "pre-activation"]
    made_from: dict[str, str] = {}
    head: FileRecord
    tail: FileRecord
    tensors: tuple[CutTensorRecord, ...]
    preprocessing: dict[str, Any]
    golden: FileRecord
    parity: tuple[dict[str, Any], ...]
    payload_bytes: PayloadBytes
    metric: Metric

    @property
    def codec(self) -> str:
        """What turns symbols into bytes; several, joined by "+", where tensors that cross have different ones."""
        return "+".join(dict.fromkeys(tensor.codec for tensor in self.tensors))

    @property
    def coding(self) -> str:
        """Say in a few words how features are encoded and coded."""
        kinds = (f"{item.encoding.bits}-bit" if item.encoding.kind == "affine" else item.encoding.kind
                 for item in self.tensors)  # fmt: skip
        return f"{'+'.join(dict.fromkeys(kinds))} {self.codec}"

    def declared_preprocessing(self) -> Preprocessing:
        """Return the preprocessing that inputs of the head go through."""
        return preprocessing_steps.from_json(self.preprocessing)


class InputCoding(_Record):
    """One way to send the image itself: bytes, and the metric with what arrives; `quality` of a picture codec."""

    payload_bytes: PayloadBytes
    metric: Metric
    quality: int | None = None


# IMAGE_CODINGS of jetson/wire/image_message.py.
_ImageCodingName = Literal["raw", "jpeg", "webp", "resized-raw", "resized-jpeg", "resized-webp"]


class WholeFile(_Record):
    """`whole.json`: the candidates that need no cut."""

    variant: str
    made_from: dict[str, str] = {}
    model: FileRecord
    preprocessing: dict[str, Any]
    metric: Metric
    inputs: dict[_ImageCodingName, InputCoding]
    golden: FileRecord

    def declared_preprocessing(self) -> Preprocessing:
        """Return the preprocessing that inputs of the network go through."""
        return preprocessing_steps.from_json(self.preprocessing)

    def codings(self) -> list[ImageCoding]:
        """Return how the image can be sent, raw first."""
        return [ImageCoding(name, item.quality) for name, item in self.inputs.items()]


def images_sha256(whole: WholeFile) -> str:
    """Return the hash of what preprocessing and the coding of images are timed on: images, declaration, quality."""
    jpeg, webp = whole.inputs.get("jpeg"), whole.inputs.get("webp")
    content = [whole.golden.sha256, whole.preprocessing, None if jpeg is None else jpeg.quality]
    if webp is not None:  # files of earlier versions have none, and keep their hash
        content.append(webp.quality)
    resized = {coding.name: coding.quality for coding in whole.codings() if coding.is_resized}
    if resized:
        content.append(resized)
    return sha256_of_bytes(json.dumps(content, sort_keys=True).encode())


def golden_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return golden data as the bytes of an npz file, without pickle; raises TypeError for arrays of objects."""
    buffer = io.BytesIO()
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{name} holds objects, which only pickle could write")
    contents: dict[str, Any] = dict(arrays)
    np.savez_compressed(buffer, **contents)  # older NumPy has no allow_pickle here: it would become an array
    return buffer.getvalue()


def read_golden(folder: Path, record: FileRecord) -> dict[str, NDArray[Any]]:
    """Read golden data; raises CoopexportError when the file is missing or not the recorded one."""
    verify_file(folder, record)
    with np.load(folder / record.file, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def write_bundle(folder: Path, manifest_name: str, schema: str, manifest: BaseModel, files: dict[str, bytes]) -> None:
    """Write `files` and then the manifest into `folder`, all or nothing; raises OSError."""
    content = encode_json(schema, manifest.model_dump(mode="json", exclude_none=True, by_alias=True))
    write_files(str(folder), {**files, manifest_name: content})


def read_split(folder: Path, layer: str) -> SplitFile:
    """Read the manifest of the bundle of `layer`; raises CoopexportError when it is missing or malformed."""
    path = folder / f"{layer}.split.json"
    if not path.exists():
        raise StaleError(
            f"there is no split bundle {path}",
            layer=layer,
            path=path,
            fix=f"make it with: coopexport split --layer {layer}",
        )
    return read_record(SplitFile, path, SPLIT_SCHEMA, "make it again with: coopexport split")


def read_whole(folder: Path) -> WholeFile:
    """Read `whole.json` of a variant; raises CoopexportError when it is missing or malformed."""
    path = folder / "whole.json"
    if not path.exists():
        raise StaleError(f"there is no {path}", path=path, fix="make it with: coopexport split")
    return read_record(WholeFile, path, WHOLE_SCHEMA, "make it again with: coopexport split")


def read_feature_codec(folder: Path, bundle: SplitFile, batch: int = 1) -> FeatureCodec:
    """Return the codec of a bundle in `folder`, for messages of `batch` samples, as a device makes it.

    Raises CoopexportError when tables are missing or damaged, or when no message can carry what crosses.
    """
    content = bundle.model_dump(mode="json", exclude_none=True, by_alias=True)
    manifest = bundle_manifest.manifest_from_json(content, str(folder / f"{bundle.layer}.split.json"))
    return bundle_manifest.read_feature_codec(str(folder), manifest, batch)


def split_layers(folder: Path) -> list[str]:
    """Return the layers that have a split bundle in a variant's folder, by name."""
    return sorted(path.name.removesuffix(".split.json") for path in folder.glob("*.split.json"))


def verify_file(folder: Path, record: FileRecord) -> Path:
    """Return the path of a recorded file; raises CoopexportError when it is missing or has another hash."""
    return Path(bundle_manifest.verify_file(str(folder), RecordedFile(record.file, record.sha256)))


def weight_blobs(folder: Path) -> BlobStore:
    """Return where the weights lie that the graphs in `folder` share."""
    return BlobStore(str(folder / WEIGHTS_FOLDER), ".bin")


def weight_location(folder: Path, sha256: str) -> str:
    """Return how a graph in `folder` calls a weight: its file, relative to the graph."""
    return f"{WEIGHTS_FOLDER}/{blob_name(weight_blobs(folder), sha256)}"


def sha256_of_location(folder: Path, location: str) -> str | None:
    """Return the SHA-256 of the weight that a graph in `folder` calls so; None where it is none of `weight_blobs`."""
    parent, _, name = location.rpartition("/")
    return sha256_of_name(weight_blobs(folder), name) if parent == WEIGHTS_FOLDER else None


def verify_weights(folder: Path, graph: Path) -> None:
    """Check every weight file that a graph reads against the hash in its name; raises CoopexportError."""
    model = onnx.load(str(graph), load_external_data=False)
    for tensor in model.graph.initializer:
        locations = [entry.value for entry in tensor.external_data if entry.key == "location"]
        for location in locations:
            sha256 = sha256_of_location(folder, location)
            if sha256 is None or not verify_blob(weight_blobs(folder), sha256):
                raise DamagedFileError(
                    f"{folder / location} is missing or damaged", fix="make it again with: coopexport split"
                )
