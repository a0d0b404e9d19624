"""The store: what is found, what is not and why, what goes first, and that damage never comes out of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from engine_examples import RTX_ENGINE, rtx_identity, tensorrt_identity
from hypothesis import given
from hypothesis import strategies as st
from store_process import engine_of as small_engine_of
from tensorrt_doubles.engine_file import encode_engine
from tests_support import files_below

from jetson.engines.identity import EngineIdentity
from jetson.errors import CoopexportError
from jetson.files.atomic_files import sha256_of_bytes
from jetson.store import store as engine_store
from jetson.store.entries import stored_bytes
from jetson.store.key import EngineKey, key_of
from jetson.store.store import EngineStore, Hit, Miss, add, entries, evict, find, obtain

KIB = 1 << 10
# Two engines, kept by the version before `jetson.store.blobs`.
EARLIER_STORE = Path(__file__).parents[2] / "data/blobs/store"


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    return EngineStore(str(tmp_path / "store"), 100 * KIB)


def engine_of(number: int, size_bytes: int = 10 * KIB) -> tuple[EngineKey, EngineIdentity, bytes]:
    """Return key, identity and bytes of one of many engines, of exactly `size_bytes`."""
    body = number.to_bytes(4, "little") * (size_bytes // 4)
    data = encode_engine("tensorrt", (10, 3, 0, 30), body, {})[:size_bytes]
    identity = tensorrt_identity(data, target_file_sha256=f"{number:064x}")
    return key_of(identity), identity, data


def put(store: EngineStore, *numbers: int, size_bytes: int = 10 * KIB) -> None:
    for number in numbers:
        add(store, *engine_of(number, size_bytes))
        used(store, number, 1_000_000 + number)


def used(store: EngineStore, number: int, at_s: float) -> None:
    """Set when an engine was used last."""
    os.utime(Path(store.root) / "keys" / f"{engine_of(number)[0].digest}.json", (at_s, at_s))


def stored(store: EngineStore) -> list[int]:
    return [int(entry.key.target_file_sha256, 16) for entry in entries(store)]


def test_what_is_added_is_found(store: EngineStore) -> None:
    key, identity, data = engine_of(1)
    assert find(store, key) == Miss("the store holds no engine yet")
    assert not Path(store.root).exists()
    add(store, key, identity, data)
    assert find(store, key) == Hit(identity, data)
    assert files_below(Path(store.root)) == {f"blobs/{sha256_of_bytes(data)}", f"keys/{key.digest}.json"}
    (entry,) = entries(store)
    assert (entry.key, entry.identity) == (key, identity)


def test_a_store_of_an_earlier_version_is_read_and_kept_in_the_same_form(tmp_path: Path) -> None:
    read, written = (EngineStore(str(tmp_path / name), 100 * KIB) for name in ("read", "written"))
    shutil.copytree(EARLIER_STORE, read.root)
    engines = [small_engine_of(number, 320) for number in (0, 1)]
    assert stored_bytes(read) == sum(len(data) for _, data in engines) == 2 * 384
    for identity, data in engines:
        assert find(read, key_of(identity)) == Hit(identity, data)
        add(written, key_of(identity), identity, data)
    assert evict(read, read.limit_bytes) == 0
    assert files_below(Path(written.root)) == files_below(Path(read.root)) == files_below(EARLIER_STORE)
    for name in files_below(EARLIER_STORE):
        assert (Path(written.root) / name).read_bytes() == (EARLIER_STORE / name).read_bytes()


def test_files_of_other_names_are_left_alone(store: EngineStore) -> None:
    put(store, 1)
    strangers = [Path(store.root) / "blobs/notes.txt", Path(store.root) / "keys/notes.json"]
    for path in strangers:
        path.write_bytes(b"not of the store")
        os.utime(path, (1.0, 1.0))
    assert stored_bytes(store) == 10 * KIB
    assert evict(store, 0) == 10 * KIB
    assert files_below(Path(store.root)) == {"blobs/notes.txt", "keys/notes.json"}


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("call", range(2))
def test_an_engine_whose_entry_cannot_be_written_goes_again(
    store: EngineStore, monkeypatch: pytest.MonkeyPatch, function: str, call: int
) -> None:
    put(store, 1)
    before = files_below(Path(store.root))
    original, calls = getattr(os, function), []

    def failing(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == call + 1:
            raise OSError(5, "Input/output error")
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, failing)
        with pytest.raises(OSError, match="Input/output error"):
            add(store, *engine_of(2))
    assert files_below(Path(store.root)) == before
    assert isinstance(find(store, engine_of(1)[0]), Hit)


def test_a_miss_is_explained_by_the_nearest_engine(store: EngineStore) -> None:
    put(store, 1, 2, 3)
    key = engine_of(2)[0]
    found = find(store, key._replace(backend_version="10.13.3.9", cuda="13.0"))
    assert found == Miss(
        "the nearest of 3 stored engines differs: TensorRT 10.13.3.9 here, engine built by 10.3.0.30; "
        "CUDA 13.0 here, engine built with 12.6"
    )


def test_one_file_serves_two_keys(store: EngineStore) -> None:
    key, identity, data = engine_of(1)
    other = identity._replace(coopexport_version="0.2.0")
    add(store, key, identity, data)
    add(store, key_of(other), other, data)
    assert len(files_below(Path(store.root))) == 3
    assert find(store, key) == Hit(identity, data)
    assert find(store, key_of(other)) == Hit(other, data)
    used(store, 1, 5.0)
    os.utime(Path(store.root) / "keys" / f"{key_of(other).digest}.json", (6.0, 6.0))
    assert evict(store, len(data)) == 0
    assert len(entries(store)) == 2
    assert evict(store, len(data) - 1) == len(data)
    assert files_below(Path(store.root)) == set()


def test_an_engine_that_is_added_again_replaces_the_old_one(store: EngineStore) -> None:
    key, identity, data = engine_of(1)
    add(store, key, identity, data)
    later = encode_engine("tensorrt", (10, 3, 0, 30), b"timed otherwise", {})
    again = identity._replace(engine_sha256=sha256_of_bytes(later), engine_bytes=len(later))
    add(store, key, again, later)
    assert find(store, key) == Hit(again, later)
    evict(store, store.limit_bytes)
    assert stored_bytes(store) == len(later)


@pytest.mark.parametrize(
    "wrong",
    [{"engine_bytes": 5}, {"engine_sha256": "0" * 64}, {"target_file_sha256": "0" * 64}, {"backend_version": "10.3.0"}],
)
def test_what_does_not_belong_together_is_not_kept(store: EngineStore, wrong: dict[str, Any]) -> None:
    key, identity, data = engine_of(1)
    with pytest.raises(ValueError, match="engine"):
        add(store, key, identity._replace(**wrong), data)
    assert not Path(store.root).exists()


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "flipped":
        path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif how == "truncated":
        path.write_bytes(content[:-1])
    elif how == "emptied":
        path.write_bytes(b"")
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["flipped", "truncated", "emptied", "gone"])
def test_a_damaged_engine_never_comes_out(store: EngineStore, how: str) -> None:
    put(store, 1, 2)
    key, identity, data = engine_of(1)
    blob = Path(store.root) / "blobs" / identity.engine_sha256
    damage(blob, how)
    found = find(store, key)
    assert isinstance(found, Miss)
    assert found.reason.startswith("the stored engine was removed: it")
    assert not blob.exists()
    assert stored(store) == [2]
    again = find(store, key)
    assert isinstance(again, Miss)
    assert again.reason.startswith("the one stored engine differs: it was built from another graph")
    add(store, key, identity, data)
    assert find(store, key) == Hit(identity, data)


@pytest.mark.parametrize("how", ["flipped", "truncated", "emptied"])
def test_a_damaged_entry_never_comes_out(store: EngineStore, how: str) -> None:
    put(store, 1, 2)
    key, identity, data = engine_of(1)
    damage(Path(store.root) / "keys" / f"{key.digest}.json", how)
    assert stored(store) == [2]
    found = find(store, key)
    assert isinstance(found, Miss)
    assert "its entry is damaged" in found.reason
    assert len(files_below(Path(store.root))) == 2, "the entry and its engine are gone"
    add(store, key, identity, data)
    assert find(store, key) == Hit(identity, data)


@given(st.data())
def test_no_changed_byte_of_the_store_comes_out(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    store = EngineStore(str(tmp_path_factory.getbasetemp() / "flipped-store"), 100 * KIB)
    key, identity, engine = engine_of(1, 200)
    add(store, key, identity, engine)
    path = Path(store.root) / data.draw(st.sampled_from(sorted(files_below(Path(store.root)))))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    assert isinstance(find(store, key), Miss)
    assert entries(store) == []


def test_an_entry_under_another_name_is_not_taken(store: EngineStore) -> None:
    put(store, 1)
    keys = Path(store.root) / "keys"
    wanted = engine_of(2)[0]
    (keys / f"{engine_of(1)[0].digest}.json").rename(keys / f"{wanted.digest}.json")
    found = find(store, wanted)
    assert isinstance(found, Miss)
    assert "not of the key that it is named after" in found.reason


def test_the_least_recently_used_go_first(store: EngineStore) -> None:
    put(store, *range(10))
    assert stored(store) == list(range(10))
    assert isinstance(find(store, engine_of(0)[0]), Hit)
    assert stored(store) == [*range(1, 10), 0]
    put(store, 10, 11)
    assert stored(store) == [3, 4, 5, 6, 7, 8, 9, 10, 11, 0]
    assert stored_bytes(store) == store.limit_bytes
    assert evict(store, 25 * KIB) == 80 * KIB
    assert stored(store) == [11, 0]


def test_an_engine_larger_than_the_store_is_refused_and_nothing_goes(store: EngineStore) -> None:
    put(store, 1, 2)
    with pytest.raises(CoopexportError, match=r"does not fit into the store of 102,400; raise COOPEXPORT_STORE_LIMIT"):
        add(store, *engine_of(3, 100 * KIB + 4))
    assert stored(store) == [1, 2]
    add(store, *engine_of(4, 100 * KIB))
    assert stored(store) == [4]


def test_a_reader_that_has_an_engine_open_keeps_it(store: EngineStore) -> None:
    put(store, 1)
    key, identity, data = engine_of(1)
    with (Path(store.root) / "blobs" / identity.engine_sha256).open("rb") as opened:
        assert evict(store, 0) == len(data)
        assert opened.read() == data
    assert isinstance(find(store, key), Miss)


@pytest.mark.parametrize("age_s", [0, 7200])
@pytest.mark.parametrize("alone", [True, False])
def test_leftovers_of_kills_go(store: EngineStore, monkeypatch: pytest.MonkeyPatch, age_s: float, alone: bool) -> None:
    """At once where the lock says that nobody else writes; by age where there are no locks."""
    put(store, 1)
    root = Path(store.root)
    leftovers = [root / "blobs" / ".abc.0123.part", root / "keys" / ".abc.0123.part", root / "blobs" / ("f" * 64)]
    then_s = (root / "keys").stat().st_mtime - age_s
    for path in leftovers:
        path.write_bytes(b"half an engine")
        os.utime(path, (then_s, then_s))
    if not alone:
        monkeypatch.setattr("fcntl.flock", lambda descriptor, how: (_ for _ in ()).throw(OSError(38, "no locks")))
    evict(store, store.limit_bytes)
    assert [path.exists() for path in leftovers] == [not alone and age_s == 0] * 3
    assert isinstance(find(store, engine_of(1)[0]), Hit)


def test_obtain_builds_once_and_says_why(store: EngineStore) -> None:
    key, identity, data = engine_of(1)
    built = []

    def build() -> tuple[EngineIdentity, bytes]:
        built.append(1)
        return identity, data

    first = obtain(store, key, build)
    assert first == engine_store.Obtained(identity, data, False, "the store holds no engine yet")
    assert obtain(store, key, build) == engine_store.Obtained(identity, data, True)
    assert built == [1]


def test_what_the_builder_raises_is_passed_on_and_leaves_nothing(store: EngineStore) -> None:
    def build() -> tuple[EngineIdentity, bytes]:
        raise CoopexportError("no memory")

    with pytest.raises(CoopexportError, match="no memory"):
        obtain(store, engine_of(1)[0], build)
    assert files_below(Path(store.root)) == set()
    assert obtain(store, engine_of(1)[0], lambda: engine_of(1)[1:]).reused is False


@pytest.mark.parametrize("obstacle", ["too small", "a file in the way"])
def test_a_store_that_cannot_keep_an_engine_does_not_hinder_its_use(tmp_path: Path, obstacle: str) -> None:
    store = EngineStore(str(tmp_path / "store"), KIB)
    if obstacle == "a file in the way":
        (tmp_path / "store").write_bytes(b"")
        store = store._replace(limit_bytes=100 * KIB)
    key, identity, data = engine_of(1)
    found = obtain(store, key, lambda: (identity, data))
    assert (found.identity, found.data, found.reused) == (identity, data, False)
    assert found.not_stored is not None
    assert str(tmp_path / "store") in found.not_stored


def test_engines_of_other_backends_are_kept_as_well(store: EngineStore) -> None:
    rtx = rtx_identity()
    onnx = rtx_identity(b"an ONNX file", backend="onnxruntime", backend_version="1.31.1", compute_capabilities=())
    for identity, data in ((rtx, RTX_ENGINE), (onnx, b"an ONNX file")):
        add(store, key_of(identity), identity, data)
        assert find(store, key_of(identity)) == Hit(identity, data)
