"""Archives and build requests: what goes in comes out, and what is damaged or does not belong there is refused by
name.
"""

from __future__ import annotations

import json
import random
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests_support import files_below

from jetson.engines.build_settings import BuildSettings
from jetson.engines.golden_check import OutputForm
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.requests.archive import open_archive, read_member, write_archive
from jetson.requests.build_request import (
    EngineSpec,
    RequestTarget,
    ResultItem,
    encode_samples,
    open_request,
    open_result,
    read_engine,
    read_graph,
    read_samples,
    write_request,
    write_result,
)
from jetson.tensorrt_engines.tensor_info import TensorInfo

SCHEMA = "coopexport.test/1.0"
# One order in both forms, written by the version before `jetson.store.blobs`.
EARLIER_ORDERS = Path(__file__).parents[2] / "data/blobs/order"
BLOBS = [b"a graph", b"golden data", b""]
FILES = [(sha256_of_bytes(data), data) for data in BLOBS]
INPUTS = [np.arange(12, dtype=np.float32).reshape(3, 4)]
EXPECTED = [np.arange(6, dtype=np.uint8).reshape(3, 2), np.ones((3, 1), np.float32)]
FORMS = (OutputForm("symbols", 1e-3, 4, "bytes", 3), OutputForm("numbers", 1e-3))


def request_at(path: Path) -> EngineSpec:
    graph, samples = b"a graph", encode_samples(INPUTS, EXPECTED)
    item = EngineSpec(
        "small/conv1.head", "small", "conv1", "head", sha256_of_bytes(graph), len(graph), "1" * 64, "2" * 64,
        sha256_of_bytes(samples), len(samples), BuildSettings("fp16", (1, 2, 4), dla_core=0),
        (TensorInfo("images", "float32", (-1, 4)),),
        (TensorInfo("symbols_0", "uint8", (-1, 2)), TensorInfo("exit", "float32", (-1, 1))),
        FORMS,
    )  # fmt: skip
    target = RequestTarget("orin-nx@6.2", chip="tegra234", l4t="36.4", tensorrt="10.3.0")
    write_request(str(path), target, "0.1.0", [item], [(item.graph_sha256, graph), (item.samples_sha256, samples)])
    return item


@pytest.mark.parametrize("name", ["archive.zip", "archive.json"])
def test_what_goes_in_comes_out(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    written = write_archive(path, "m.json", SCHEMA, {"a": [1, 2.5]}, [*FILES, FILES[0]])
    archive = open_archive(path, "m.json", SCHEMA)
    assert (archive.content, archive.sha256) == ({"a": [1, 2.5]}, written)
    assert [read_member(archive, sha256, len(data)) for sha256, data in FILES] == BLOBS
    again = write_archive(str(tmp_path / f"again-{name}"), "m.json", SCHEMA, {"a": [1, 2.5]}, FILES)
    assert again == written
    assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()


@pytest.mark.parametrize("name", ["order.zip", "order.json"])
def test_an_order_comes_out_as_it_went_in(tmp_path: Path, name: str) -> None:
    item = request_at(tmp_path / name)
    request = open_request(str(tmp_path / name))
    assert request.items == (item,)
    assert request.target == RequestTarget("orin-nx@6.2", chip="tegra234", l4t="36.4", tensorrt="10.3.0")
    assert read_graph(request, item) == b"a graph"
    inputs, expected = read_samples(request, item)
    for found, given in zip(inputs + expected, INPUTS + EXPECTED, strict=True):
        assert found.dtype == given.dtype
        assert np.array_equal(found, given)


def test_orders_of_an_earlier_version_are_read_and_written_in_the_same_form(tmp_path: Path) -> None:
    for name in ("order.zip", "folder/order.json"):
        request = open_request(str(EARLIER_ORDERS / name))
        (item,) = request.items
        assert (request.target, item.name) == (RequestTarget("orin-nano@6.2"), "small/conv1.head")
        assert item.inputs == (TensorInfo("images", "float32", (-1, 4)),)
        samples = read_member(request.archive, item.samples_sha256, item.samples_bytes)
        assert (read_graph(request, item), samples) == (b"a graph", b"golden data")
        files = [(item.graph_sha256, b"a graph"), (item.samples_sha256, b"golden data")]
        assert write_request(str(tmp_path / name), request.target, "0.1.0", [item], files) == request.archive.sha256
    assert files_below(tmp_path) == files_below(EARLIER_ORDERS)
    for found in files_below(tmp_path):
        assert (tmp_path / found).read_bytes() == (EARLIER_ORDERS / found).read_bytes()


def test_a_damaged_file_beside_a_manifest_is_written_again(tmp_path: Path) -> None:
    item = request_at(tmp_path / "order.json")
    blob = tmp_path / "blobs" / item.graph_sha256
    blob.write_bytes(b"b graph")  # as long as it was
    with pytest.raises(CoopexportError, match=r"order\.json is damaged: the file .* is not what its name says"):
        read_graph(open_request(str(tmp_path / "order.json")), item)
    request_at(tmp_path / "order.json")
    assert read_graph(open_request(str(tmp_path / "order.json")), item) == b"a graph"


@pytest.mark.parametrize("name", ["archive.zip", "archive.json"])
def test_a_file_under_a_hash_that_is_not_its_own_never_becomes_part_of_a_parcel(tmp_path: Path, name: str) -> None:
    with pytest.raises(CoopexportError, match="has another SHA-256"):
        write_archive(str(tmp_path / name), "m.json", SCHEMA, {}, [FILES[0], (FILES[1][0], b"something else")])
    assert not (tmp_path / name).exists()


def test_a_result_comes_out_as_it_went_in(tmp_path: Path) -> None:
    request_at(tmp_path / "order.zip")
    request = open_request(str(tmp_path / "order.zip"))
    built = ResultItem("small/conv1.head", FILES[0][0], 7, FILES[1][0], 11, True, None, ("built for the GPU",))
    failed = ResultItem("small/conv1.tail", failure="memory ran out")
    write_result(str(tmp_path / "r.zip"), request, {"machine": {}}, [built, failed], FILES[:2])
    result = open_result(str(tmp_path / "r.zip"))
    assert (result.request_sha256, result.items) == (request.archive.sha256, (built, failed))
    assert read_engine(result, built) == (b"a graph", b"golden data")
    write_result(str(tmp_path / "r.zip"), request, {}, [built._replace(engine_sha256="../../.ssh/authorized_keys")], [])
    with pytest.raises(CoopexportError, match=r"r\.zip is malformed: .*is not a hash"):
        open_result(str(tmp_path / "r.zip"))


def test_no_flipped_byte_goes_unnoticed(tmp_path: Path) -> None:
    """Dates and permissions in the zip file's own records mean nothing here; nothing else may change unseen."""
    item = request_at(tmp_path / "order.zip")
    whole = (tmp_path / "order.zip").read_bytes()
    generator = random.Random(5)
    path = tmp_path / "damaged.zip"
    for position in sorted(generator.sample(range(len(whole)), 300)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            request = open_request(str(path))
            contents = read_graph(request, item), read_samples(request, item)[0][0].tobytes()
        except CoopexportError as error:
            assert "damaged.zip" in str(error)
        else:
            assert request.items == (item,)
            assert contents == (b"a graph", INPUTS[0].tobytes())


@pytest.mark.parametrize("keep", [0, 1, 30, 0.5, 0.9, 0.999])
def test_a_truncated_parcel_is_refused(tmp_path: Path, keep: float) -> None:
    request_at(tmp_path / "order.zip")
    whole = (tmp_path / "order.zip").read_bytes()
    (tmp_path / "order.zip").write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(CoopexportError, match=r"order\.zip is damaged: .*; copy or make it again"):
        open_request(str(tmp_path / "order.zip"))


def add(name: str, compression: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as zip_file:
            warnings.simplefilter("ignore")  # of a name that is there twice
            zip_file.writestr(name, b"x" * 100, compression)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add("../../.ssh/authorized_keys"), 'authorized_keys" does not belong there'),
        (add("/etc/passwd"), '"/etc/passwd" does not belong there'),
        (add("blobs/../x"), "does not belong there"),
        (add("order.json"), "order.json is there twice"),
        (add("blobs/" + "0" * 64, zipfile.ZIP_DEFLATED), "is compressed"),
    ],
)
def test_names_that_do_not_belong_there(tmp_path: Path, change: Callable[[Path], None], said: str) -> None:
    request_at(tmp_path / "order.zip")
    change(tmp_path / "order.zip")
    with pytest.raises(CoopexportError, match=f"order.zip is damaged: .*{said}"):
        open_request(str(tmp_path / "order.zip"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"coopexport.order/1.0", b"coopexport.order/9.0", "is of schema coopexport.order/9.0"),
        (b"coopexport.order/1.0", b"coopexport.cards/1.0", "is of schema coopexport.cards/1.0"),
        (b'"forms"', b'"shape"', "is malformed"),
        (b'"symbols"', b'"letters"', "is malformed"),
        (b'"items"', b'"thing"', "is malformed"),
        (b"{", b"[", "is not a manifest"),
    ],
)
def test_another_manifest_is_refused(tmp_path: Path, old: bytes, new: bytes, said: str) -> None:
    request_at(tmp_path / "order.json")
    text = (tmp_path / "order.json").read_bytes()
    assert old in text
    (tmp_path / "order.json").write_bytes(text.replace(old, new, 1))
    with pytest.raises(CoopexportError, match=said):
        open_request(str(tmp_path / "order.json"))


def test_a_later_minor_version_is_read(tmp_path: Path) -> None:
    item = request_at(tmp_path / "order.json")
    content = json.loads((tmp_path / "order.json").read_text())
    content["schema"] = "coopexport.order/1.7"
    for place in (content, content["target"], *content["items"], content["items"][0]["settings"]):
        place["new in 1.7"] = 1
    content["items"][0]["forms"][0]["new in 1.7"] = 1
    (tmp_path / "order.json").write_text(json.dumps(content))
    assert open_request(str(tmp_path / "order.json")).items == (item,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ["x"]},
        {"engine_bytes": "7"},
        {"identity_bytes": True},
        {"notes": [{"a": 1}]},
        {"engine_sha256": "../../.bashrc"},
        {"engine_sha256": None, "identity_sha256": None, "failure": {"why": 1}},
    ],
)
def test_a_result_is_from_another_machine_and_not_believed(tmp_path: Path, wrong: dict[str, object]) -> None:
    item = {"name": "a", "engine_sha256": "0" * 64, "engine_bytes": 7, "identity_sha256": "1" * 64,
            "identity_bytes": 9, "notes": [], **wrong}  # fmt: skip
    content = {"order_sha256": "0" * 64, "probe": {}, "items": [item]}
    write_archive(str(tmp_path / "r.json"), "result.json", "coopexport.order-result/1.0", content, [])
    with pytest.raises(CoopexportError, match="is malformed"):
        open_result(str(tmp_path / "r.json"))


def test_a_file_of_the_right_size_in_a_zip_file_is_read_by_its_hash(tmp_path: Path) -> None:
    """What a zip file itself checks is what is in it: not whether that is what was ordered."""
    item = request_at(tmp_path / "order.zip")
    with zipfile.ZipFile(tmp_path / "order.zip") as whole, zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        for name in whole.namelist():
            data = whole.read(name)
            other.writestr(name, data[::-1] if name.endswith(item.graph_sha256) else data)
    request = open_request(str(tmp_path / "other.zip"))
    with pytest.raises(CoopexportError, match="is not what its name says"):
        read_graph(request, item)


def test_brackets_in_brackets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("[" * 100_000)
    with pytest.raises(CoopexportError, match="is not a manifest"):
        open_result(str(tmp_path / "r.json"))


def test_a_missing_or_exchanged_file_is_refused(tmp_path: Path) -> None:
    item = request_at(tmp_path / "order.json")
    request = open_request(str(tmp_path / "order.json"))
    (tmp_path / "blobs" / item.graph_sha256).write_bytes(b"b graph")
    with pytest.raises(CoopexportError, match="is not what its name says"):
        read_graph(request, item)
    (tmp_path / "blobs" / item.graph_sha256).unlink()
    with pytest.raises(CoopexportError, match="it lacks the file"):
        read_graph(request, item)
    with pytest.raises(CoopexportError, match="is not a hash"):
        read_graph(request, item._replace(graph_sha256="../order.json"))
    with pytest.raises(CoopexportError, match="check the path"):
        open_request(str(tmp_path / "nowhere.zip"))
    with pytest.raises(ValueError, match="share a name"):
        write_request(str(tmp_path / "o.zip"), request.target, "0.1.0", [item, item], [])
