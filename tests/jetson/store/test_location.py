"""Where the store lies and how large it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from jetson.errors import CoopexportError
from jetson.store.location import byte_count, store_limit_bytes, store_root

HOME = str(Path.home())


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({}, f"{HOME}/.cache/coopexport/engines"),
        ({"XDG_CACHE_HOME": "/var/cache/me"}, "/var/cache/me/coopexport/engines"),
        ({"XDG_CACHE_HOME": "relative"}, f"{HOME}/.cache/coopexport/engines"),
        ({"XDG_CACHE_HOME": "/var/cache/me", "COOPEXPORT_STORE": "/data/engines"}, "/data/engines"),
        ({"COOPEXPORT_STORE": "~/engines"}, f"{HOME}/engines"),
        ({"COOPEXPORT_STORE": ""}, f"{HOME}/.cache/coopexport/engines"),
    ],
)
def test_the_folder(environment: dict[str, str], root: str) -> None:
    assert store_root(environment) == root


def test_a_relative_folder_is_that_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store_root({"COOPEXPORT_STORE": "engines"}) == str(tmp_path / "engines")


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("1024", 1024),
        ("10 B", 10),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("1.5MiB", 1572864),
        ("500mb", 500_000_000),
        ("4GiB", 4 << 30),
        (" 2 TiB ", 2 << 40),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert byte_count(text, "x") == store_limit_bytes({"COOPEXPORT_STORE_LIMIT": text}) == size_bytes


@pytest.mark.parametrize("text", ["4Gi", "GiB", "-1", "1e9", "4 GiB or so", "0x10", "inf"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(CoopexportError, match=r"COOPEXPORT_STORE_LIMIT: .* is not a size; write"):
        store_limit_bytes({"COOPEXPORT_STORE_LIMIT": text})


def test_the_limit_without_a_wish() -> None:
    assert store_limit_bytes({}) == store_limit_bytes({"COOPEXPORT_STORE_LIMIT": ""}) == 4 << 30
