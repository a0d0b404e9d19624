"""From a plan to what a device runs of it: heads with their codecs, pictures as they are, and whole networks."""

import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from jetson.device.probe import Probe
from jetson.engines.identity import EngineIdentity
from jetson.engines.verification import Expected, verify_engine
from jetson.errors import CoopexportError, DamagedFileError, StaleError, UnsupportedError
from jetson.files.json_files import read_json
from jetson.runtime import preprocessing
from jetson.runtime.bundle_manifest import WHOLE_SCHEMA, read_bundle_manifest, read_feature_codec
from jetson.runtime.image_parts import as_sent
from jetson.runtime.partition_policy import INPUT, OUTPUT, PartitionPolicy, read_partition_policy, release_name
from jetson.stream.frames import Bytes, with_checksum
from jetson.stream.hello import Pair
from jetson.wire.feature import without_uint8
from jetson.wire.image_message import IMAGE_CODINGS, ImageCoding, encode_image
from jetson.wire.pictures import check_picture_codec

_SUFFIXES = (".onnx", ".engine")
Image = Any
# From an image (height x width x 3, uint8) to what is sent.
Encode = Callable[[Image], List[Bytes]]
# From an image to the network's outputs.
Compute = Callable[[Image], List[Any]]


class Way(NamedTuple):
    """One candidate of the plan as this device carries it out. `number`: of the candidate.

    `pair`: what server and device have to agree on, None where nothing crosses; `encode`: what the device does before
    it sends; `compute`: all of it, where nothing crosses.
    """

    number: int
    pair: Optional[Pair]
    encode: Optional[Encode]
    compute: Optional[Compute]
    device_ms: float
    edge_ms: float
    payload_bytes: float


class DeviceRelease(NamedTuple):
    """What a device can do of a plan. `ways`: by number of the candidate; `left_out`: why of others; `local`: the
    fastest that needs no server, None where there is none.
    """

    name: str
    policy: PartitionPolicy
    ways: Dict[int, Way]
    left_out: Dict[int, str]
    local: Optional[Way]
    runners: Tuple[Any, ...]

    def close(self) -> None:
        """Give back the engines."""
        for runner in self.runners:
            runner.close()


LoadEngine = Callable[[bytes, EngineIdentity], Any]


def open_device_release(plan_path: str, target: str, probe: Probe, load: LoadEngine) -> DeviceRelease:
    """Open what the plan may choose, and the fastest network that this device runs alone.

    Engines lie beside the bundles that the plan names, under engines/TARGET, as `coopexport build` leaves them.
    Raises CoopexportError when the plan cannot be read, or nothing of it can be run here.
    """
    policy = read_partition_policy(plan_path)
    opener = _Opener(os.path.dirname(os.path.abspath(plan_path)), target, probe, load)
    ways: Dict[int, Way] = {}
    left_out: Dict[int, str] = {}
    numbers = sorted({number for envelope in policy.envelopes for number in envelope.candidates})
    alone = _fastest_alone(policy)
    for number in numbers + ([] if alone is None or alone in numbers else [alone]):
        try:
            ways[number] = opener.open(number, policy.candidates[number])
        except CoopexportError as error:
            left_out[number] = str(error)
        except KeyError as error:
            raise DamagedFileError(
                "{} is malformed ({} is missing)".format(plan_path, error), path=plan_path,
                fix="make it with: coopexport select",
            ) from None  # fmt: skip
    if not ways:
        raise StaleError("nothing of {} runs here: {}".format(plan_path, next(iter(left_out.values()), "it is empty")))
    local = ways.get(alone) if alone is not None else None
    return DeviceRelease(release_name(plan_path), policy, ways, left_out, local, tuple(opener.runners))


def _fastest_alone(policy: PartitionPolicy) -> Optional[int]:
    """Return the candidate that needs no server and takes the least time; None where the plan has none."""
    found = [
        (float(candidate["device_ms"]), number)
        for number, candidate in enumerate(policy.candidates)
        if candidate.get("layer") == OUTPUT and not candidate.get("reason") and candidate.get("device_ms") is not None
    ]
    return min(found)[1] if found else None


class _Engine(NamedTuple):
    runner: Any
    identity: EngineIdentity


class _Opener:
    """Opens candidates; each engine once."""

    def __init__(self, folder: str, target: str, probe: Probe, load: LoadEngine) -> None:
        self._folder, self._target, self._probe, self._load = folder, target, probe, load
        self._opened: Dict[str, _Engine] = {}

    @property
    def runners(self) -> List[Any]:
        return [engine.runner for engine in self._opened.values()]

    def open(self, number: int, candidate: Dict[str, Any]) -> Way:
        variant, layer = candidate["variant"], candidate["layer"]
        precision = candidate.get("precision", "fp32")
        times = float(candidate["device_ms"]), float(candidate["edge_ms"]), float(candidate["payload_bytes"])
        files = candidate["files"]
        if layer in (INPUT, OUTPUT):
            folder = os.path.join(self._folder, os.path.dirname(files["whole"]))
            whole = read_json(os.path.join(folder, "whole.json"), WHOLE_SCHEMA)
            declaration = preprocessing.from_json(whole["preprocessing"])
            if layer == INPUT:
                coding = _image_coding(candidate["coding"])
                pair = Pair(variant, layer, precision, coding.name, whole["model"]["sha256"])
                return Way(number, pair, _image_encoder(coding, declaration), None, *times)
            sha256 = whole["model"]["sha256"]
            runner = self._engine(folder, "whole", variant, "whole", "whole", precision, sha256).runner

            def compute(image: Image) -> List[Any]:
                return list(runner([preprocessing.network_inputs(declaration, image[None])]))

            return Way(number, None, None, compute, *times)
        folder = os.path.join(self._folder, os.path.dirname(files["head"]))
        manifest = read_bundle_manifest(os.path.join(folder, layer + ".split.json"))
        codec = read_feature_codec(folder, manifest)
        head = self._engine(folder, layer + ".head", variant, layer, "head", precision, manifest.head.sha256)
        if not any(output["dtype"] == "uint8" for output in head.identity.outputs):
            codec = codec._replace(tensors=tuple(without_uint8(tensor) for tensor in codec.tensors))
        pair = Pair(variant, layer, precision, "feature", codec.associated_data.decode("ascii"))

        def encode(image: Image) -> List[Bytes]:
            return [codec.encode(head.runner([preprocessing.network_inputs(manifest.preprocessing, image[None])]))]

        return Way(number, pair, encode, None, *times)

    def _engine(
        self, folder: str, stem: str, variant: str, layer: str, role: str, precision: str, sha256: str
    ) -> _Engine:  # fmt: skip
        name = stem if precision == "fp32" else "{}.{}".format(stem, precision)
        base = os.path.join(folder, "engines", self._target, name)
        path = next((base + suffix for suffix in _SUFFIXES if os.path.isfile(base + suffix)), base + _SUFFIXES[0])
        if path not in self._opened:
            source = sha256 if precision == "fp32" else None
            expected = Expected(None, self._target, variant, layer, role, source, None, precision, 1)
            identity, data = verify_engine(path, self._probe.machine, expected)
            self._opened[path] = _Engine(self._load(data, identity), identity)
        return self._opened[path]


def _image_coding(coding: str) -> ImageCoding:
    """Return what a candidate cut at the input is coded by: "raw", "jpeg q40", "resized-webp q61"."""
    name, _, quality = coding.partition(" q")
    if name not in IMAGE_CODINGS or not (quality.isdigit() or not quality):
        raise UnsupportedError("this version knows no coding {}".format(coding), fix="copy a newer agent")
    return ImageCoding(name, int(quality) if quality else None)


def _image_encoder(coding: ImageCoding, declaration: preprocessing.Preprocessing) -> Encode:
    """Return what codes an image; raises UnsupportedError where this Python cannot."""
    if coding.quality is None:
        return lambda image: [encode_image(coding, as_sent(declaration, coding, image))]
    check_picture_codec(coding.codec)
    return lambda image: with_checksum(encode_image(coding, as_sent(declaration, coding, image)))
