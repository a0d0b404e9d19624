"""What a device needs to read of a split bundle: `<layer>.split.json` and its tables, as docs/formats.md defines them.

exporter.bundles.bundle writes these files, and reads all that is in them; what head and tail need to talk is read here
alone.
"""

import os
import re
from typing import Any, Dict, NamedTuple, Optional, Tuple

from jetson.errors import DamagedFileError, InputError, StaleError, reworded
from jetson.files.atomic_files import sha256_of_file
from jetson.files.json_fields import (
    JsonObject,
    choice_at,
    count_at,
    counts_at,
    has,
    object_at,
    objects_at,
    text_at,
    wrong,
)
from jetson.files.json_files import read_json
from jetson.runtime import preprocessing
from jetson.runtime.preprocessing import Preprocessing
from jetson.wire.feature import KINDS, FeatureCodec, FeatureTensor
from jetson.wire.packing import PACKABLE_BITS, PACKINGS
from jetson.wire.specification import CODEC_NAMES, message_format_of
from jetson.wire.symbol_model import MAXIMUM_BITS, SymbolModel, model_from_bytes

SPLIT_SCHEMA = "coopexport.split/2.1"
WHOLE_SCHEMA = "coopexport.whole/1.1"
_SHA256 = re.compile("[0-9a-f]{64}")
_ADVICE = "make it again with: coopexport split"


class RecordedFile(NamedTuple):
    """A file beside the manifest, and its SHA-256 in lower-case hexadecimal."""

    file: str
    sha256: str


class TensorRecord(NamedTuple):
    """One tensor that crosses, its symbol model not yet read; `tables`: the file that holds it, if it has one."""

    feature: FeatureTensor
    tables: Optional[RecordedFile]


class BundleManifest(NamedTuple):
    """What a device needs to know of a bundle; `preprocessing`: what inputs of the head go through."""

    variant: str
    layer: str
    head: RecordedFile
    tail: RecordedFile
    golden: RecordedFile
    tensors: Tuple[TensorRecord, ...]
    preprocessing: Preprocessing

    @property
    def associated_data(self) -> bytes:
        """What both sides of the link have to agree on: a message of another pair is refused."""
        return "{} {}".format(self.head.sha256, self.tail.sha256).encode("ascii")


def read_bundle_manifest(path: str) -> BundleManifest:
    """Read `<layer>.split.json`.

    Raises CoopexportError naming the file, and the key where there is one, when it is missing, of another schema or
    major version, or malformed.
    """
    return manifest_from_json(read_json(path, SPLIT_SCHEMA), path)


def manifest_from_json(content: Dict[str, Any], path: str) -> BundleManifest:
    """Return what `content`, the parsed JSON of a manifest, says; `path` names it in errors.

    Fields that are not known are left alone: a later minor version may have more. Raises CoopexportError naming the
    key.
    """
    place = JsonObject(content, path, "", _ADVICE)
    return BundleManifest(
        variant=text_at(place, "variant"),
        layer=text_at(place, "layer"),
        head=_file_at(place, "head"),
        tail=_file_at(place, "tail"),
        golden=_file_at(place, "golden"),
        tensors=tuple(_tensor(item) for item in objects_at(place, "tensors")),
        preprocessing=preprocessing.from_json(object_at(place, "preprocessing").content),
    )


def read_feature_codec(folder: str, manifest: BundleManifest, batch: int = 1) -> FeatureCodec:
    """Return the codec of a bundle in `folder`, its tables read, for messages of `batch` samples.

    Raises CoopexportError when tables are missing, damaged or for other symbols, or when no message can carry what
    crosses.
    """
    if batch < 1:
        raise InputError("a batch of {} was asked for; a message holds 1 sample or more".format(batch))
    tensors = tuple(item.feature._replace(model=_symbol_model(folder, item.tables)) for item in manifest.tensors)
    codec = FeatureCodec(tensors, manifest.associated_data, batch)
    try:
        message_format_of(codec.specifications, codec.associated_data)
    except InputError as error:
        raise DamagedFileError(
            "the bundle of {}: {}".format(manifest.layer, error), layer=manifest.layer, path=folder, fix=_ADVICE
        ) from None
    return codec


def verify_file(folder: str, record: RecordedFile) -> str:
    """Return the path of a recorded file; raises CoopexportError when it is missing or has another hash."""
    path = os.path.join(folder, record.file)
    if not os.path.isfile(path):
        raise StaleError("{} is missing".format(path), path=path, fix="make the bundle again with: coopexport split")
    if sha256_of_file(path) != record.sha256:
        raise DamagedFileError("{} is not the file that its manifest names".format(path), path=path, fix=_ADVICE)
    return path


def _symbol_model(folder: str, tables: Optional[RecordedFile]) -> Optional[SymbolModel]:
    if tables is None:
        return None
    path = verify_file(folder, tables)
    with open(path, "rb") as file:
        data = file.read()
    try:
        return model_from_bytes(data)
    except DamagedFileError as error:
        raise reworded(error, "{}: {}".format(path, error), path=path) from None


def _tensor(place: JsonObject) -> TensorRecord:
    encoding = object_at(place, "encoding")
    feature = FeatureTensor(
        text_at(place, "name"),
        counts_at(place, "shape"),
        choice_at(encoding, "kind", KINDS),
        codec=choice_at(place, "codec", CODEC_NAMES),
    )
    if feature.kind == "affine":
        bits, packing = count_at(encoding, "bits"), choice_at(encoding, "packing", PACKINGS)
        if bits > MAXIMUM_BITS:
            raise wrong(encoding, "bits", "is {}, and a symbol has at most {}".format(bits, MAXIMUM_BITS))
        if packing in ("bytes", "words") and bits not in PACKABLE_BITS:
            raise wrong(encoding, "packing", "is {!r}, and {}-bit symbols do not fill a byte".format(packing, bits))
        feature = feature._replace(bits=bits, packing=packing)
    return TensorRecord(feature, _file_at(place, "tables") if has(place, "tables") else None)


def _file_at(place: JsonObject, key: str) -> RecordedFile:
    inside = object_at(place, key)
    sha256 = text_at(inside, "sha256")
    if not _SHA256.fullmatch(sha256):
        raise wrong(inside, "sha256", "is not a SHA-256 in lower-case hexadecimal")
    return RecordedFile(text_at(inside, "file"), sha256)
