"""What goes to a device to be built there, and what comes back: two parcels, an order and its result."""

import io
import zipfile
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from jetson.engines.build_settings import BuildSettings, settings_from_json
from jetson.engines.golden_check import OutputForm, form_from_json
from jetson.errors import DamagedFileError
from jetson.requests.archive import Parcel, open_parcel, read_member, write_parcel
from jetson.store.blobs import is_sha256
from jetson.tensorrt_engines.ends import End, declared_ends

ORDER_SCHEMA, ORDER_NAME = "coopexport.order/1.0", "order.json"
RESULT_SCHEMA, RESULT_NAME = "coopexport.order-result/1.0", "result.json"
_MALFORMED = (TypeError, ValueError, KeyError, AttributeError)


class OrderTarget(NamedTuple):
    """What an order is for; what is None is not compared with the device.

    `name`: the target's, "orin-nano@6.2"; `board`: "orin-nano"; `chip`: "tegra234"; `jetpack`: "6.2"; `l4t` and
    `last_l4t`: the releases that it stands for, "36.4" to "36.5"; `tensorrt`: as they ship it, "10.3.0";
    `compute_capability`: "8.7".
    """

    name: str
    board: Optional[str] = None
    chip: Optional[str] = None
    jetpack: Optional[str] = None
    l4t: Optional[str] = None
    last_l4t: Optional[str] = None
    tensorrt: Optional[str] = None
    compute_capability: Optional[str] = None


class OrderItem(NamedTuple):
    """One engine to build.

    `name`: "pruned/conv4_1.head", unique in an order. `graph_sha256`: of the self-contained ONNX file, which is the
    identity's target file; `source_sha256`: of the bundle's graph that it was made from; `golden_sha256`: of the
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
    inputs: Tuple[End, ...]
    outputs: Tuple[End, ...]
    forms: Tuple[OutputForm, ...]
    notes: Dict[str, Any] = {}


class Order(NamedTuple):
    """An order that was opened; its files are read with `read_graph` and `read_samples`."""

    parcel: Parcel
    target: OrderTarget
    coopexport: str
    items: Tuple[OrderItem, ...]


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
    """The result of an order that was opened. `probe`: of the device, as `coopexport.probe/1.0`."""

    parcel: Parcel
    order_sha256: str
    probe: Dict[str, Any]
    items: Tuple[ResultItem, ...]


def write_order(path: str, target: OrderTarget, coopexport: str, items: Sequence[OrderItem],
                files: Iterable[Tuple[str, bytes]]) -> str:  # fmt: skip
    """Write an order to `path` (".zip", or a manifest with its files beside it); return its SHA-256.

    `coopexport`: the version that orders. `files`: SHA-256 and bytes of every graph and npz file of the items. Raises
    OSError, and ValueError when two items share a name.
    """
    if len({item.name for item in items}) != len(items):
        raise ValueError("two items of an order share a name")
    content = {
        "target": {key: value for key, value in target._asdict().items() if value is not None},
        "coopexport": coopexport,
        "items": [_item_to_json(item) for item in items],
    }
    return write_parcel(path, ORDER_NAME, ORDER_SCHEMA, content, files)


def open_order(path: str) -> Order:
    """Open an order; raises CoopexportError when it is missing, damaged or no order."""
    parcel = open_parcel(path, ORDER_NAME, ORDER_SCHEMA)
    try:
        return _order_of(parcel)
    except _MALFORMED as error:
        raise _malformed(parcel, error) from None


def read_graph(order: Order, item: OrderItem) -> bytes:
    """Return the ONNX file of an item; raises CoopexportError when it is missing or damaged."""
    return read_member(order.parcel, item.graph_sha256, item.graph_bytes)


def read_samples(order: Order, item: OrderItem) -> Tuple[List[Any], List[Any]]:
    """Return the golden inputs and expected outputs of an item, N x ... each; raises CoopexportError if damaged."""
    import numpy as np

    data = read_member(order.parcel, item.samples_sha256, item.samples_bytes)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            inputs = [archive["input_{}".format(index)] for index in range(len(item.inputs))]
            expected = [archive["expected_{}".format(index)] for index in range(len(item.outputs))]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise DamagedFileError(
            "{}: the golden data of {} are unusable: {}".format(order.parcel.path, item.name, error),
            path=order.parcel.path,
            fix="make the order again",
        ) from None
    return inputs, expected


def pack_samples(inputs: Sequence[Any], expected: Sequence[Any]) -> bytes:
    """Return the npz file that `read_samples` reads."""
    import numpy as np

    arrays = {"input_{}".format(index): array for index, array in enumerate(inputs)}
    arrays.update({"expected_{}".format(index): array for index, array in enumerate(expected)})
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def write_result(path: str, order: Order, probe: Dict[str, Any], items: Sequence[ResultItem],
                 files: Iterable[Tuple[str, bytes]]) -> str:  # fmt: skip
    """Write the result of `order` to `path`; return its SHA-256. `files`: engines and identities. Raises OSError."""
    content = {
        "order_sha256": order.parcel.sha256,
        "target": order.target.name,
        "probe": probe,
        "items": [{key: value for key, value in item._asdict().items() if value is not None} for item in items],
    }
    return write_parcel(path, RESULT_NAME, RESULT_SCHEMA, content, files)


def open_result(path: str) -> Result:
    """Open a result; raises CoopexportError when it is missing, damaged or no result."""
    parcel = open_parcel(path, RESULT_NAME, RESULT_SCHEMA)
    try:
        return _result_of(parcel)
    except _MALFORMED as error:
        raise _malformed(parcel, error) from None


def read_engine(result: Result, item: ResultItem) -> Tuple[bytes, bytes]:
    """Return engine and identity file of a built item; raises CoopexportError when one is missing or damaged."""
    engine = read_member(result.parcel, str(item.engine_sha256), item.engine_bytes)
    return engine, read_member(result.parcel, str(item.identity_sha256), item.identity_bytes)


def _item_to_json(item: OrderItem) -> Dict[str, Any]:
    content = dict(item._asdict())
    content["settings"] = item.settings.to_json()
    content["forms"] = [dict(form._asdict()) for form in item.forms]
    for ends in ("inputs", "outputs"):
        content[ends] = [end.to_json() for end in content[ends]]
    return content


def _malformed(parcel: Parcel, error: Exception) -> DamagedFileError:
    return DamagedFileError("{} is malformed: {!r}".format(parcel.path, error), path=parcel.path, fix="make it again")


def _order_of(parcel: Parcel) -> Order:
    content = parcel.content
    items = tuple(_item_from_json(item) for item in content["items"])
    if len({item.name for item in items}) != len(items):
        raise ValueError("two items share a name")
    target = OrderTarget(**_known(OrderTarget, content["target"]))
    return Order(parcel, target, str(content["coopexport"]), items)


def _item_from_json(content: Dict[str, Any]) -> OrderItem:
    content = _known(OrderItem, content)
    content["settings"] = settings_from_json(_known(BuildSettings, content["settings"]))
    content["inputs"] = tuple(declared_ends(content["inputs"]))
    content["outputs"] = tuple(declared_ends(content["outputs"]))
    content["forms"] = tuple(form_from_json(_known(OutputForm, form)) for form in content["forms"])
    item = OrderItem(**content)
    if any(type(size) is not int for size in (item.graph_bytes, item.samples_bytes)):
        raise ValueError("{} has sizes that are no numbers".format(item.name))
    if len(item.forms) != len(item.outputs):
        raise ValueError("{} says not what every output holds".format(item.name))
    return item


def _known(kind: Any, content: Dict[str, Any]) -> Dict[str, Any]:
    """Return the fields that this version knows: a later minor version may have more."""
    return {key: value for key, value in content.items() if key in kind._fields}


def _result_of(parcel: Parcel) -> Result:
    content = parcel.content
    items = [ResultItem(**dict(_known(ResultItem, item), notes=tuple(item["notes"]))) for item in content["items"]]
    for item in items:
        if (item.failure is None) == (item.engine_sha256 is None or item.identity_sha256 is None):
            raise ValueError("{} has to have either an engine or a failure".format(item.name))
        said = (item.name,) + item.notes + (() if item.failure is None else (item.failure,))
        if not all(isinstance(text, str) for text in said):
            raise ValueError("{!r} is no text".format(said))
        if any(type(size) is not int for size in (item.engine_bytes, item.identity_bytes)):
            raise ValueError("{} has sizes that are no numbers".format(item.name))
        # They become names of files.
        for sha256 in (item.engine_sha256, item.identity_sha256):
            if sha256 is not None and not is_sha256(sha256):
                raise ValueError("{} is no hash".format(sha256))
    return Result(parcel, str(content["order_sha256"]), dict(content["probe"]), tuple(items))
