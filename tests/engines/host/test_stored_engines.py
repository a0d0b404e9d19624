"""The verbs on stored engines as functions: what is there, what one is and where it runs, and what goes first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from engine_examples import DESKTOP, ORIN, RTX_ENGINE, TENSORRT_ENGINE, rtx_identity, tensorrt_identity, write_engine

from engines.host.stored_engines import (
    ExplainRequest,
    PruneStoreRequest,
    explain_engine,
    list_engines,
    own_store,
    prune_engines,
)
from engines.host.this_machine import this_machine
from jetson.errors import CoopexportError
from jetson.store.key import key_of
from jetson.store.store import EngineStore, add

RTX_KEY, PLAN_KEY = key_of(rtx_identity()), key_of(tensorrt_identity())


@pytest.fixture
def store(tmp_path: Path) -> EngineStore:
    """A store with an older plan of an Orin and a newer engine for Ada."""
    store = EngineStore(str(tmp_path / "store"), 1000)
    for identity, data in ((tensorrt_identity(), TENSORRT_ENGINE), (rtx_identity(), RTX_ENGINE)):
        add(store, key_of(identity), identity, data)
    os.utime(Path(store.root) / "keys" / f"{PLAN_KEY.digest}.json", (1e9, 1e9))
    return store


def test_what_is_stored_is_listed_by_its_last_use(store: EngineStore) -> None:
    stored = list_engines(store)
    assert [(entry.key, entry.identity) for entry in stored.entries] == [
        (RTX_KEY, rtx_identity()), (PLAN_KEY, tensorrt_identity())
    ]  # fmt: skip
    assert stored.entries[1].used_at_s == 1e9
    assert (stored.store, stored.stored_bytes) == (store, len(TENSORRT_ENGINE) + len(RTX_ENGINE))


def test_a_store_that_is_not_there_is_empty_and_stays_away(tmp_path: Path) -> None:
    store = EngineStore(str(tmp_path / "none"), 1000)
    stored = list_engines(store)
    assert (stored.entries, stored.stored_bytes) == ((), 0)
    assert not Path(store.root).exists()


def test_the_environment_says_where_the_store_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COOPEXPORT_STORE", str(tmp_path))
    monkeypatch.setenv("COOPEXPORT_STORE_LIMIT", "5KB")
    assert own_store() == EngineStore(str(tmp_path), 5000)
    monkeypatch.setenv("COOPEXPORT_STORE_LIMIT", "5 apples")
    with pytest.raises(CoopexportError, match="COOPEXPORT_STORE_LIMIT: '5 apples' is not a size"):
        own_store()


def test_an_engine_is_compared_with_the_machine_that_is_given(store: EngineStore) -> None:
    on_orin = explain_engine(ExplainRequest(PLAN_KEY.digest[:12], ORIN), store)
    assert (on_orin.identity, on_orin.machine, on_orin.mismatches, on_orin.unchecked) == (
        tensorrt_identity(), ORIN, (), ()
    )  # fmt: skip
    elsewhere = explain_engine(ExplainRequest(PLAN_KEY.digest, DESKTOP), store)
    assert "SM 8.9 here, engine built for 8.7" in elsewhere.mismatches
    assert "Linux x86_64 here, engine built on Linux aarch64" in elsewhere.mismatches
    bare = explain_engine(ExplainRequest(RTX_KEY.digest, DESKTOP._replace(compute_capability=None)), store)
    assert bare.mismatches == ()
    assert "SM not known here, engine built for 8.9" in bare.unchecked


def test_a_file_is_explained_for_this_machine_without_a_store(tmp_path: Path, store: EngineStore) -> None:
    path = write_engine(tmp_path, RTX_ENGINE, rtx_identity())
    result = explain_engine(ExplainRequest(path), EngineStore(str(tmp_path / "none"), 0))
    assert (result.identity, result.machine) == (rtx_identity(), this_machine())
    Path(path).write_bytes(RTX_ENGINE[:-1] + b"\0\0")
    with pytest.raises(CoopexportError, match="is too long"):
        explain_engine(ExplainRequest(path), store)


def test_what_names_no_engine_or_several_is_refused(store: EngineStore) -> None:
    for wanted, words in (
        ("0123456789ab", "no file 0123456789ab, and no stored engine in .*engines list"),
        ("no/such.engine", r"engine no/such\.engine is missing"),
        ("", "is missing"),
    ):
        with pytest.raises(CoopexportError, match=words):
            explain_engine(ExplainRequest(wanted, ORIN), store)
    start = RTX_KEY.digest[0]
    others = (tensorrt_identity(target_file_sha256=f"{number:064}") for number in range(1000))
    twin = next(identity for identity in others if key_of(identity).digest.startswith(start))
    add(store, key_of(twin), twin, TENSORRT_ENGINE)
    with pytest.raises(CoopexportError, match=r"and [23] stored engines in .*engines list"):
        explain_engine(ExplainRequest(start, ORIN), store)


def test_the_least_recently_used_go_first_and_the_bytes_add_up(store: EngineStore) -> None:
    before = list_engines(store)
    unchanged = prune_engines(store, PruneStoreRequest())
    assert (unchanged.removed_bytes, unchanged.left) == (0, before)
    less = prune_engines(store, PruneStoreRequest(len(RTX_ENGINE)))
    assert (less.removed_bytes, less.left.stored_bytes) == (len(TENSORRT_ENGINE), len(RTX_ENGINE))
    assert [entry.key for entry in less.left.entries] == [RTX_KEY]
    none = prune_engines(store, PruneStoreRequest(0))
    assert (none.removed_bytes, none.left.entries, none.left.stored_bytes) == (len(RTX_ENGINE), (), 0)
