"""Files named by their SHA-256: what is written is read, damage never is, and what fails leaves the store as it was."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from python36 import interpreters
from tests_support import STUCK_S, files_below

import jetson
from jetson.errors import CoopexportError
from jetson.store.blobs import (
    BlobStore,
    blob_name,
    blob_path,
    flush_names,
    is_sha256,
    link_blob,
    list_blobs,
    read_blob,
    remove_blob,
    remove_leftovers,
    sha256_of_content,
    sha256_of_name,
    total_bytes,
    verify_blob,
    write_blob,
)

REPOSITORY = Path(jetson.__file__).parents[1]
SUFFIXES = st.sampled_from(["", ".bin"])
DATA = b"what an engine or a weight may be" * 30
SHA256 = hashlib.sha256(DATA).hexdigest()
MIB = 1 << 20


@contextlib.contextmanager
def fresh(suffix: str = "") -> Iterator[BlobStore]:
    """Yield a store whose folder is not there yet."""
    with tempfile.TemporaryDirectory() as folder:
        yield BlobStore(str(Path(folder) / "made/blobs"), suffix)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "made/blobs"), ".bin")


def names(blobs: BlobStore) -> list[str]:
    """Return how all files of a store's folder are called."""
    return sorted(path.name for path in Path(blobs.folder).iterdir())


def state(blobs: BlobStore) -> dict[str, tuple[bytes, int]]:
    """Return name, content and inode of all files of a store."""
    folder = Path(blobs.folder)
    return {name: ((folder / name).read_bytes(), (folder / name).stat().st_ino) for name in files_below(folder)}


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=50), max_size=6), SUFFIXES, st.booleans())
def test_what_is_written_is_read_in_whatever_blocks_it_came(blocks: list[bytes], suffix: str, known: bool) -> None:
    data = b"".join(blocks)
    sha256 = hashlib.sha256(data).hexdigest()
    with fresh(suffix) as blobs:
        assert not verify_blob(blobs, sha256)
        assert sha256_of_content(data) == sha256_of_content(iter(blocks)) == sha256
        assert not Path(blobs.folder).exists()
        assert write_blob(blobs, iter(blocks), sha256 if known else None) == sha256
        written = state(blobs)
        assert {name: content for name, (content, _) in written.items()} == {sha256 + suffix: data}
        assert write_blob(blobs, data, sha256 if known else None) == sha256
        assert write_blob(blobs, [data]) == sha256
        assert state(blobs) == written, "nothing is written again"
        assert verify_blob(blobs, sha256)
        assert read_blob(blobs, sha256) == read_blob(blobs, sha256, len(data)) == data
        assert (list_blobs(blobs), total_bytes(blobs)) == ([sha256], len(data))
        assert remove_blob(blobs, sha256) == len(data)
        assert (list_blobs(blobs), remove_blob(blobs, sha256)) == ([], 0)


@settings(max_examples=60)
@given(st.binary(min_size=1, max_size=80), st.data())
def test_no_damage_is_read_and_writing_again_mends_it(data: bytes, draw: st.DataObject) -> None:
    with fresh() as blobs:
        sha256 = write_blob(blobs, data)
        where = draw.draw(st.integers(0, len(data) - 1), "where")
        flipped = bytes([data[where] ^ draw.draw(st.integers(1, 255), "bits")])
        damaged = draw.draw(
            st.sampled_from([data[:where], data + flipped, data[:where] + flipped + data[where + 1 :]]), "damaged"
        )
        Path(blob_path(blobs, sha256)).write_bytes(damaged)
        assert not verify_blob(blobs, sha256)
        for size_bytes in (None, len(data), len(damaged)):
            with pytest.raises(CoopexportError, match=sha256):
                read_blob(blobs, sha256, size_bytes)
        assert write_blob(blobs, data if draw.draw(st.booleans(), "whole") else [data]) == sha256
        assert read_blob(blobs, sha256) == data


@settings(max_examples=60)
@given(st.text(max_size=70) | st.from_regex(r"[0-9a-fA-F]{63,65}(\.bin)?\n?", fullmatch=True), SUFFIXES)
def test_only_a_sha_256_is_a_name(text: str, suffix: str) -> None:
    blobs = BlobStore("never", suffix)
    expected = len(text) == 64 and {*text} <= {*"0123456789abcdef"}
    assert is_sha256(text) == expected
    found = sha256_of_name(blobs, text)
    if found is not None:
        assert text == blob_name(blobs, found)
    if expected:
        assert sha256_of_name(blobs, text + suffix) == text
        return
    assert sha256_of_name(blobs, text + suffix) is None
    for function in (blob_name, blob_path, verify_blob, read_blob, remove_blob):
        with pytest.raises(ValueError, match="is not a SHA-256"):
            function(blobs, text)


@pytest.mark.parametrize("name", ["../secret", "a/" + SHA256, SHA256.upper(), SHA256 + "\n", "", None, 5])
def test_names_that_lead_elsewhere_are_no_names(blobs: BlobStore, name: Any) -> None:
    assert not is_sha256(name)
    with pytest.raises(ValueError, match="is not a SHA-256"):
        read_blob(blobs, name)


def test_a_missing_blob_and_one_of_another_size_are_told_apart(blobs: BlobStore) -> None:
    with pytest.raises(FileNotFoundError):
        read_blob(blobs, SHA256)
    write_blob(blobs, DATA)
    with pytest.raises(CoopexportError, match=r"\.bin is truncated: 990 bytes in place of 991"):
        read_blob(blobs, SHA256, len(DATA) + 1)
    with pytest.raises(CoopexportError, match=r"\.bin is too long: 990 bytes in place of 989"):
        read_blob(blobs, SHA256, len(DATA) - 1)
    Path(blob_path(blobs, SHA256)).unlink()
    Path(blob_path(blobs, SHA256)).mkdir()
    assert not verify_blob(blobs, SHA256)
    with pytest.raises(IsADirectoryError):
        read_blob(blobs, SHA256)
    with pytest.raises(IsADirectoryError):
        write_blob(blobs, DATA)
    assert names(blobs) == [SHA256 + ".bin"]


@pytest.mark.parametrize("content", [DATA, [DATA[:10], DATA[10:]]])
def test_content_of_another_hash_is_not_kept(blobs: BlobStore, content: Any) -> None:
    for _ in range(2):
        with pytest.raises(CoopexportError, match=f"kept as {'0' * 64} has another SHA-256, {SHA256}"):
            write_blob(blobs, content, "0" * 64)
        assert not any(Path(blobs.folder).glob("*"))
    assert not Path(blobs.folder).parent.exists()


def test_blocks_that_end_in_an_error_leave_nothing(blobs: BlobStore) -> None:
    def broken() -> Iterator[bytes]:
        yield DATA
        raise ConnectionResetError("lost")

    with pytest.raises(ConnectionResetError):
        write_blob(blobs, broken())
    assert not Path(blobs.folder).parent.exists()
    write_blob(blobs, DATA)
    before = state(blobs)
    with pytest.raises(ConnectionResetError):
        write_blob(blobs, broken())
    assert state(blobs) == before


@pytest.mark.parametrize("content", [DATA, [DATA]])
@pytest.mark.parametrize(("function", "call"), [("fsync", 0), ("fsync", 1), ("replace", 0)])
def test_a_dying_disk_leaves_nothing(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch, content: Any, function: str, call: int
) -> None:
    original, calls = getattr(os, function), []

    def failing(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == call + 1:
            raise OSError(5, "Input/output error")
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, failing)
        with pytest.raises(OSError, match="Input/output error"):
            write_blob(blobs, content)
    assert not Path(blobs.folder).parent.exists()
    assert write_blob(blobs, content) == SHA256


def test_content_is_on_the_disk_before_its_name(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    events = []
    replace, fsync = os.replace, os.fsync

    def note_replace(source: str, target: str) -> None:
        events.append(("name", Path(target).name))
        replace(source, target)

    def note_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append(("names of", path.name) if path.is_dir() else ("content", path.suffix))
        fsync(descriptor)

    Path(blobs.folder).mkdir(parents=True)
    monkeypatch.setattr(os, "replace", note_replace)
    monkeypatch.setattr(os, "fsync", note_fsync)
    for content in (DATA, [b"another"]):
        write_blob(blobs, content)
    flush_names(blobs)
    other = hashlib.sha256(b"another").hexdigest()
    written = [("content", ".part"), ("name", SHA256 + ".bin"), ("content", ".part"), ("name", other + ".bin")]
    assert events == [*written, ("names of", "blobs")]


@pytest.mark.parametrize("function", ["write", "replace"])
def test_a_kill_leaves_a_hidden_file_that_goes_later(blobs: BlobStore, function: str) -> None:
    script = f"""
import os, signal
from jetson.store.blobs import BlobStore, write_blob
def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
def blocks():
    yield {DATA!r}
    {"die()" if function == "write" else "os.replace = die"}
write_blob(BlobStore({blobs.folder!r}, ".bin"), blocks())
"""
    killed = subprocess.run([sys.executable, "-S", "-c", script], cwd=REPOSITORY, timeout=STUCK_S, check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = names(blobs)
    assert left.startswith(".")
    assert (list_blobs(blobs), verify_blob(blobs, SHA256)) == ([], False)
    size_bytes = len(DATA) if function == "replace" else 0  # what was not flushed
    assert total_bytes(blobs) == size_bytes
    assert remove_leftovers(blobs) == 0, "another process may be writing it"
    assert names(blobs) == [left]
    assert remove_leftovers(blobs, 0.0) == size_bytes
    assert names(blobs) == []


@pytest.mark.parametrize("age_s", [0, 7200])
def test_leftovers_are_half_written_files_and_what_nobody_wants(blobs: BlobStore, age_s: float) -> None:
    wanted, other = write_blob(blobs, DATA), write_blob(blobs, b"other")
    folder = Path(blobs.folder)
    for name in (".blocks.0123.part", "notes.txt", ".hidden", "0" * 64, "0" * 64 + ".npz", "half.part"):
        (folder / name).write_bytes(b"seven b")
    for path in folder.iterdir():
        os.utime(path, (path.stat().st_mtime - age_s,) * 2)
    foreign = {"notes.txt", ".hidden", "0" * 64, "0" * 64 + ".npz", "half.part"}
    assert total_bytes(blobs) == len(DATA) + 5 + 7
    assert list_blobs(blobs) == sorted([wanted, other])
    assert remove_leftovers(blobs) == (7 if age_s else 0)
    assert list_blobs(blobs) == sorted([wanted, other]), "no blob goes unless it is said which are wanted"
    assert remove_leftovers(blobs, wanted={wanted}) == (5 if age_s else 0)
    remove_leftovers(blobs, 0.0, {wanted})
    assert files_below(folder) == {f"{wanted}.bin", *foreign}
    assert read_blob(blobs, wanted) == DATA


def test_a_folder_that_is_not_there_is_an_empty_store(blobs: BlobStore) -> None:
    flush_names(blobs)
    found = list_blobs(blobs), total_bytes(blobs), remove_leftovers(blobs, 0.0, ()), remove_blob(blobs, SHA256)
    assert found == ([], 0, 0, 0)
    assert not Path(blobs.folder).exists()


def test_a_second_name_is_no_second_copy(blobs: BlobStore, tmp_path: Path) -> None:
    aside = BlobStore(str(tmp_path))
    write_blob(blobs, DATA)
    link_blob(blobs, SHA256, aside)
    assert Path(blob_path(blobs, SHA256)).samefile(blob_path(aside, SHA256))
    with pytest.raises(FileExistsError):
        link_blob(blobs, SHA256, aside)
    with pytest.raises(FileNotFoundError):
        link_blob(blobs, "0" * 64, aside)
    remove_blob(blobs, SHA256)
    assert read_blob(aside, SHA256) == DATA


def test_of_many_blocks_one_is_in_memory_at_a_time(blobs: BlobStore) -> None:
    def blocks() -> Iterator[bytes]:
        for number in range(24):
            yield bytes([number]) * MIB

    tracemalloc.start()
    try:
        sha256 = write_blob(blobs, blocks())
        assert verify_blob(blobs, sha256)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total_bytes(blobs) == 24 * MIB
    assert peak_bytes < 4 * MIB


def test_writers_at_the_same_time_leave_one_whole_file(blobs: BlobStore) -> None:
    start = threading.Barrier(6)
    written: list[str] = []

    def write(content: Any) -> None:
        start.wait(timeout=STUCK_S)
        written.append(write_blob(blobs, content))

    threads = [threading.Thread(target=write, args=(content,)) for content in [DATA, [DATA]] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=STUCK_S)
    assert written == [SHA256] * 6
    assert files_below(Path(blobs.folder)) == {SHA256 + ".bin"}
    assert read_blob(blobs, SHA256) == DATA


SCRIPT = """
import sys
from jetson.errors import CoopexportError
from jetson.store.blobs import BlobStore, list_blobs, read_blob, total_bytes, verify_blob, write_blob

source, blobs = (BlobStore(folder, sys.argv[3]) for folder in sys.argv[1:3])
for sha256 in list_blobs(source):
    data = read_blob(source, sha256)
    assert write_blob(blobs, (data[start:start + 100] for start in range(0, len(data), 100)), sha256) == sha256
    assert verify_blob(blobs, sha256) and write_blob(blobs, data) == sha256
    try:
        write_blob(blobs, [data, b"more"], sha256)
    except CoopexportError:
        pass
    else:
        raise AssertionError("other content was kept")
print(len(list_blobs(blobs)), total_bytes(blobs))
"""


@pytest.mark.parametrize("python", interpreters())
def test_the_pythons_of_devices_copy_what_earlier_versions_wrote(tmp_path: Path, python: str) -> None:
    """Without packages: weights, engines and the files of an order."""
    earlier = REPOSITORY / "tests/data/blobs"
    interpreter = [sys.executable, "-S"] if python == "isolated" else [python]
    for folder, suffix, size_bytes in (("bundle/weights", ".bin", 3200), ("store/blobs", "", 768),
                                       ("order/folder/blobs", "", 18)):  # fmt: skip
        copy = tmp_path / folder
        command = [*interpreter, "-c", SCRIPT, str(earlier / folder), str(copy), suffix]
        ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=STUCK_S, check=False)
        assert ended.stdout.split() == ["2", str(size_bytes)], ended.stderr
        assert files_below(copy) == files_below(earlier / folder)
        for name in files_below(copy):
            assert (copy / name).read_bytes() == (earlier / folder / name).read_bytes()
