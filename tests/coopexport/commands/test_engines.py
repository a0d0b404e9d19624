"""`coopexport engines`: listing, explaining and pruning a store, and explaining one file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click.testing
import pytest
from engine_examples import RTX_ENGINE, TENSORRT_ENGINE, rtx_identity, tensorrt_identity, write_engine

import engines.host.stored_engines
from coopexport.commands.engines import engines as command
from jetson.engines.identity import run_on
from jetson.engines.machine import Machine
from jetson.errors import CoopexportError
from jetson.store.key import key_of
from jetson.store.location import DEFAULT_LIMIT_BYTES
from jetson.store.store import EngineStore, add, entries

RTX_HOST = Machine("Linux", "x86_64", backends={"tensorrt-rtx": "1.7.1.116"})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineStore:
    """A store with a plan of an Orin and an engine for Ada; this machine has TensorRT-RTX and no GPU."""
    monkeypatch.setenv("COOPEXPORT_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("COOPEXPORT_STORE_LIMIT", raising=False)
    monkeypatch.setattr(engines.host.stored_engines, "this_machine", lambda: RTX_HOST)
    store = EngineStore(str(tmp_path / "store"), DEFAULT_LIMIT_BYTES)
    for identity, data in ((tensorrt_identity(), TENSORRT_ENGINE), (rtx_identity(), RTX_ENGINE)):
        add(store, key_of(identity), identity, data)
    return store


def run(*arguments: str) -> str:
    """Return what the command prints; raises what it refuses with."""
    result = click.testing.CliRunner().invoke(command, arguments, standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return str(result.output)


def test_the_list_says_what_each_engine_is(store: EngineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = run("list")
    for text in ("pruned conv4_1 head", "orin-nano", "tensorrt 10.3.0.30", "fp16", "rtx-ada", "tensorrt-rtx 1.7.1.116"):
        assert text in printed
    assert f"{len(TENSORRT_ENGINE):,}" in printed
    total = len(TENSORRT_ENGINE) + len(RTX_ENGINE)
    assert f"2 engines, {total:,} of 4,294,967,296 bytes, in {store.root}" in printed


def test_an_empty_store_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COOPEXPORT_STORE", str(tmp_path / "none"))
    assert run("list").startswith("0 engines, 0 of ")
    assert run("prune").startswith("removed 0 bytes\n0 engines")


def test_a_key_from_the_list_is_explained(store: EngineStore) -> None:
    digest = next(word for word in run("list").split() if re.fullmatch("[0-9a-f]{12}", word))
    printed = run("explain", digest)
    assert "built by      TensorRT-RTX 1.7.1.116 (tensorrt-rtx module), coopexport 0.1.0" in printed
    assert "runs on       SM 8.9" in printed
    assert "checked       no: no GPU here" in printed
    assert "not compared  SM not known here, engine built for 8.9" in printed
    assert printed.endswith("it may be loaded here, as far as this machine is known\n")


def test_a_check_is_explained_with_where_it_was_run(store: EngineStore, tmp_path: Path) -> None:
    checks = [{"check": "build", "error": 1e-6, "bound": 1e-3}]
    for parity in (checks, run_on(checks, RTX_HOST, "tensorrt-rtx")):
        path = write_engine(tmp_path, RTX_ENGINE, rtx_identity(parity=parity, parity_reason=None))
        printed = run("explain", path)
        assert "checked       its golden data agree on Linux x86_64, TensorRT-RTX 1.7.1.116\n" in printed


def test_an_engine_of_another_machine_is_explained_and_ends_with_an_error(store: EngineStore) -> None:
    with pytest.raises(CoopexportError, match=r"may not be loaded here: no usable TensorRT here, .*--target orin-nano"):
        run("explain", key_of(tensorrt_identity()).digest)


def test_a_file_is_explained(store: EngineStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_engine(tmp_path, RTX_ENGINE, rtx_identity())
    assert run("explain", path).endswith("it may be loaded here, as far as this machine is known\n")
    monkeypatch.chdir(tmp_path)
    assert run("explain", Path(path).name).endswith("it may be loaded here, as far as this machine is known\n")
    monkeypatch.setattr(
        engines.host.stored_engines, "this_machine", lambda: RTX_HOST._replace(compute_capability="8.6")
    )
    with pytest.raises(CoopexportError, match=r"SM 8\.6 here, engine built for 8\.9; build it again"):
        run("explain", path)
    Path(path).write_bytes(RTX_ENGINE[:-1])
    with pytest.raises(CoopexportError, match="is truncated"):
        run("explain", path)


@pytest.mark.parametrize("wanted", ["0123456789ab", "", "no/such.engine"])
def test_what_is_not_there_is_refused(store: EngineStore, wanted: str) -> None:
    with pytest.raises(CoopexportError, match=r"no stored engine in .* see: coopexport engines list|is missing"):
        run("explain", wanted)


def test_pruning_keeps_the_most_recently_used(store: EngineStore) -> None:
    run("explain", key_of(rtx_identity()).digest)
    assert run("prune", "--limit", f"{len(RTX_ENGINE)}").startswith(
        f"removed {len(TENSORRT_ENGINE):,} bytes\n1 engine, "
    )
    assert [entry.identity.target for entry in entries(store)] == ["rtx-ada"]
    assert run("prune").startswith("removed 0 bytes")
    run("prune", "--limit", "0")
    assert entries(store) == []
    with pytest.raises(CoopexportError, match="--limit: '5 apples' is not a size"):
        run("prune", "--limit", "5 apples")


def test_the_command_line_offers_it(coopexport: Callable, tmp_path: Path) -> None:
    result = coopexport(tmp_path, "engines", "list", environment={"COOPEXPORT_STORE": str(tmp_path / "store")})
    assert result.code == 0
    assert result.output.startswith("0 engines")
    assert coopexport(tmp_path, "engines", "explain", "0" * 12).code == 2
