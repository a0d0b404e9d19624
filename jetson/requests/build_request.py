"""What goes to a device to be built there, and what comes back: two archives, a build request and its result."""

import io
import zipfile
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from jetson.engines.build_settings import BuildSettings, settings_from_json
from jetson.engines.golden_check import OutputForm, form_from_json
from jetson.engines.verification import Expected
from jetson.errors import DamagedFileError
from jetson.requests.archive import Archive, open_archive, read_member, write_archive
from jetson.requests.measurement import Measurement, measured_items, measurement_from_json, measurement_to_json
from jetson.store.blobs import is_sha256
from jetson.tensorrt_engines.tensor_info import TensorInfo, declared_tensors

REQUEST_SCHEMA, REQUEST_NAME = "coopexport.order/1.1", "order.json"
# Of an order that says nothing which only 1.1 can say: the same bytes as before.
_PLAIN_REQUEST_SCHEMA = "coopexport.order/1.0"
RESULT_SCHEMA, RESULT_NAME = "coopexport.order-result/1.0", "result.json"
_DEFAULTS: Dict[str, Any] = {"backend": "tensorrt"}
_MALFORMED = (TypeError, ValueError, KeyError, AttributeError)


class RequestTarget(NamedTuple):
    """What a build request is for; what is None is not compared with the device.

    `name`: the target's, "orin-nano@6.2"; `board`: "orin-nano"; `chip`: "tegra234"; `jetpack`: "6.2"; `l4t` and
    `last_l4t`: the releases that it stands for, "36.4" to "36.5"; `tensorrt`: as they ship it, "10.3.0";
    `compute_capability`: "8.7". `backend`: what builds its engines and runs them, "tensorrt" or "onnxruntime";
    `architecture`: of its processor, "aarch64".
    """

    name: str
    board: Optional[str] = None
    chip: Optional[str] = None
    jetpack: Optional[str] = None
    l4t: Optional[str] = None
    last_l4t: Optional[str] = None
    tensorrt: Optional[str] = None
    compute_capability: Optional[str] = None
    backend: str = "tensorrt"
    architecture: Optional[str] = None


class EngineSpec(NamedTuple):
    """One engine to build.

    `name`: "pruned/conv4_1.head", unique in a build request. `graph_sha256`: of the self-contained ONNX file, which is
    the identity's target file; `source_sha256`: of the bundle's graph that it was made from; `golden_sha256`: of the
    bundle's golden data. `samples_sha256`: of the npz file with `input_0` and so on and `expected_0` and so on, N x
    ..., golden data in the form in which this graph takes and gives them. `inputs`, `outputs`: as the graph declares
    them; `forms`: what each output holds. `notes`: what was done to the graph, for the identity's flags.
    """

    name: str
    variant: str
    layer: str
    role: str
    graph_sha256: str
    graph_bytes: int
    source_sha256: str
    golden_sha256: str
    samples_sha256: str
    samples_bytes: int
    settings: BuildSettings
    inputs: Tuple[TensorInfo, ...]
    outputs: Tuple[TensorInfo, ...]
    forms: Tuple[OutputForm, ...]
    notes: Dict[str, Any] = {}

    def expected(self, backend: str, target: str) -> Expected:
        """Return what its engine has to say of itself, built by `backend` for the target called `target`."""
        return Expected(
            backend=backend,
            target=target,
            variant=self.variant,
            layer=self.layer,
            role=self.role,
            source_sha256=self.source_sha256,
            target_file_sha256=self.graph_sha256,
            precision=self.settings.precision,
            batch=self.settings.batches[1],
        )


class BuildRequest(NamedTuple):
    """A build request that was opened; its files are read with `read_graph` and `read_samples`.

    `measurement`: what is measured once its engines are built; None in an order that is only to be built.
    """

    archive: Archive
    target: RequestTarget
    coopexport: str
    items: Tuple[EngineSpec, ...]
    measurement: Optional[Measurement] = None


class ResultItem(NamedTuple):
    """What became of one item: an engine with its identity (the identity file's bytes), or `failure`, the reason.

    `reused`: the engine was on the device already. `notes`: what the user should know, such as a DLA left out.
    """

    name: str
    engine_sha256: Optional[str] = None
    engine_bytes: int = 0
    identity_sha256: Optional[str] = None
    identity_bytes: int = 0
    reused: bool = False
    failure: Optional[str] = None
    notes: Tuple[str, ...] = ()


class Result(NamedTuple):
    """The result of a build request that was opened. `probe`: of the device, as `coopexport.probe/1.0`."""

    archive: Archive
    request_sha256: str
    probe: Dict[str, Any]
    items: Tuple[ResultItem, ...]


def write_request(path: str, target: RequestTarget, coopexport: str, items: Sequence[EngineSpec],
                files: Iterable[Tuple[str, bytes]], measurement: Optional[Measurement] = None) -> str:  # fmt: skip
    """Write a build request to `path` (".zip", or a manifest with its files beside it); return its SHA-256.

    `coopexport`: the version that build requests. `files`: SHA-256 and bytes of every graph and npz file of the items,
    and of what `measurement` names. Raises OSError, and ValueError when two items share a name.
    """
    if len({item.name for item in items}) != len(items):
        raise ValueError("two items of an order share a name")
    content = {
        "target": {key: value for key, value in target._asdict().items() if value != _DEFAULTS.get(key)},
        "coopexport": coopexport,
        "items": [_item_to_json(item) for item in items],
    }
    if measurement is not None:
        content["measurement"] = measurement_to_json(measurement)
    plain = measurement is None and target.backend == _DEFAULTS["backend"]
    return write_archive(path, REQUEST_NAME, _PLAIN_REQUEST_SCHEMA if plain else REQUEST_SCHEMA, content, files)


def open_request(path: str) -> BuildRequest:
    """Open a build request; raises CoopexportError when it is missing, damaged or no order."""
    archive = open_archive(path, REQUEST_NAME, REQUEST_SCHEMA)
    try:
        return _request_of(archive)
    except _MALFORMED as error:
        raise _malformed(archive, error) from None


def read_graph(request: BuildRequest, item: EngineSpec) -> bytes:
    """Return the ONNX file of an item; raises CoopexportError when it is missing or damaged."""
    return read_member(request.archive, item.graph_sha256, item.graph_bytes)


def read_samples(request: BuildRequest, item: EngineSpec) -> Tuple[List[Any], List[Any]]:
    """Return the golden inputs and expected outputs of an item, N x ... each; raises CoopexportError if damaged."""
    import numpy as np

    data = read_member(request.archive, item.samples_sha256, item.samples_bytes)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            inputs = [archive["input_{}".format(index)] for index in range(len(item.inputs))]
            expected = [archive["expected_{}".format(index)] for index in range(len(item.outputs))]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise DamagedFileError(
            "{}: the golden data of {} are unusable: {}".format(request.archive.path, item.name, error),
            path=request.archive.path,
            fix="make the order again",
        ) from None
    return inputs, expected


def encode_samples(inputs: Sequence[Any], expected: Sequence[Any]) -> bytes:
    """Return the npz file that `read_samples` reads."""
    import numpy as np

    arrays = {"input_{}".format(index): array for index, array in enumerate(inputs)}
    arrays.update({"expected_{}".format(index): array for index, array in enumerate(expected)})
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def write_result(path: str, request: BuildRequest, probe: Dict[str, Any], items: Sequence[ResultItem],
                 files: Iterable[Tuple[str, bytes]]) -> str:  # fmt: skip
    """Write the result of `request` to `path`; return its SHA-256. `files`: engines and identities. Raises OSError."""
    content = {
        "order_sha256": request.archive.sha256,
        "target": request.target.name,
        "probe": probe,
        "items": [{key: value for key, value in item._asdict().items() if value is not None} for item in items],
    }
    return write_archive(path, RESULT_NAME, RESULT_SCHEMA, content, files)


def open_result(path: str) -> Result:
    """Open a result; raises CoopexportError when it is missing, damaged or no result."""
    archive = open_archive(path, RESULT_NAME, RESULT_SCHEMA)
    try:
        return _result_of(archive)
    except _MALFORMED as error:
        raise _malformed(archive, error) from None


def read_engine(result: Result, item: ResultItem) -> Tuple[bytes, bytes]:
    """Return engine and identity file of a built item; raises CoopexportError when one is missing or damaged."""
    engine = read_member(result.archive, str(item.engine_sha256), item.engine_bytes)
    return engine, read_member(result.archive, str(item.identity_sha256), item.identity_bytes)


def _item_to_json(item: EngineSpec) -> Dict[str, Any]:
    content = dict(item._asdict())
    content["settings"] = item.settings.to_json()
    content["forms"] = [dict(form._asdict()) for form in item.forms]
    for tensors in ("inputs", "outputs"):
        content[tensors] = [tensor.to_json() for tensor in content[tensors]]
    return content


def _malformed(archive: Archive, error: Exception) -> DamagedFileError:
    return DamagedFileError("{} is malformed: {!r}".format(archive.path, error), path=archive.path, fix="make it again")


def _request_of(archive: Archive) -> BuildRequest:
    content = archive.content
    items = tuple(_item_from_json(item) for item in content["items"])
    if len({item.name for item in items}) != len(items):
        raise ValueError("two items share a name")
    target = RequestTarget(**_known(RequestTarget, content["target"]))
    measurement = measurement_from_json(content["measurement"]) if "measurement" in content else None
    unknown = set() if measurement is None else measured_items(measurement) - {item.name for item in items}
    if unknown:
        raise ValueError("it measures what is not in it: {}".format(", ".join(sorted(unknown))))
    return BuildRequest(archive, target, str(content["coopexport"]), items, measurement)


def _item_from_json(content: Dict[str, Any]) -> EngineSpec:
    content = _known(EngineSpec, content)
    content["settings"] = settings_from_json(_known(BuildSettings, content["settings"]))
    content["inputs"] = tuple(declared_tensors(content["inputs"]))
    content["outputs"] = tuple(declared_tensors(content["outputs"]))
    content["forms"] = tuple(form_from_json(_known(OutputForm, form)) for form in content["forms"])
    item = EngineSpec(**content)
    if any(type(size) is not int for size in (item.graph_bytes, item.samples_bytes)):
        raise ValueError("{} has sizes that are not numbers".format(item.name))
    if len(item.forms) != len(item.outputs):
        raise ValueError("{} does not say what every output holds".format(item.name))
    return item


def _known(kind: Any, content: Dict[str, Any]) -> Dict[str, Any]:
    """Return the fields that this version knows: a later minor version may have more."""
    return {key: value for key, value in content.items() if key in kind._fields}


def _result_of(archive: Archive) -> Result:
    content = archive.content
    items = [ResultItem(**dict(_known(ResultItem, item), notes=tuple(item["notes"]))) for item in content["items"]]
    for item in items:
        if (item.failure is None) == (item.engine_sha256 is None or item.identity_sha256 is None):
            raise ValueError("{} has to have either an engine or a failure".format(item.name))
        said = (item.name,) + item.notes + (() if item.failure is None else (item.failure,))
        if not all(isinstance(text, str) for text in said):
            raise ValueError("{!r} is not text".format(said))
        if any(type(size) is not int for size in (item.engine_bytes, item.identity_bytes)):
            raise ValueError("{} has sizes that are not numbers".format(item.name))
        # They become names of files.
        for sha256 in (item.engine_sha256, item.identity_sha256):
            if sha256 is not None and not is_sha256(sha256):
                raise ValueError("{} is not a hash".format(sha256))
    return Result(archive, str(content["order_sha256"]), dict(content["probe"]), tuple(items))
