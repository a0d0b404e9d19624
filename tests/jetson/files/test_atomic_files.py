"""Files appear whole or not at all, and what failed leaves what was there before."""

import errno
import hashlib
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jetson.files import atomic_files
from jetson.files.atomic_files import sha256_of_bytes, sha256_of_file, temporary_folder_beside, write_file, write_files

REPOSITORY = Path(atomic_files.__file__).parents[2]


def tree(folder):
    """Return everything below `folder`: contents by relative path, None for folders."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def fail_at(monkeypatch, function, call):
    """Make the `call`-th call (from 0) of os.`function` raise OSError, as a dying disk does."""
    original = getattr(os, function)
    calls = []

    def failing(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == call + 1:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return original(*arguments, **keywords)

    monkeypatch.setattr(os, function, failing)


@pytest.fixture
def umask():
    """Set the umask with `umask(value)`; the old one comes back at the end."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def test_a_file_appears_with_its_missing_folders_and_nothing_else(tmp_path):
    write_file(str(tmp_path / "a" / "b" / "c.bin"), b"content")
    assert tree(tmp_path) == {"a": None, "a/b": None, "a/b/c.bin": b"content"}


def test_a_file_is_replaced(tmp_path):
    (tmp_path / "a").write_bytes(b"a much longer content than the new one")
    write_file(str(tmp_path / "a"), b"new")
    assert tree(tmp_path) == {"a": b"new"}


def test_paths_relative_to_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_file("a", b"1")
    write_file("folder/b", b"2")
    write_files("", {"c": b"3"})
    write_files(".", {"d/e": b"4", "f": b"5"})
    assert tree(tmp_path) == {
        "a": b"1",
        "folder": None,
        "folder/b": b"2",
        "c": b"3",
        "d": None,
        "d/e": b"4",
        "f": b"5",
    }


def test_no_files_are_nothing_to_do(tmp_path):
    write_files(str(tmp_path / "never"), {})
    assert tree(tmp_path) == {}


def test_names_as_long_as_the_file_system_allows(tmp_path):
    name = "ä" * 127  # 254 bytes of at most 255
    write_file(str(tmp_path / name), b"1")
    assert tree(tmp_path) == {name: b"1"}
    with pytest.raises(OSError, match="File name too long"):
        write_files(str(tmp_path), {name: b"2", "ä" * 128: b"manifest"})
    assert tree(tmp_path) == {name: b"1"}


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"keep")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    write_files(str(tmp_path), {"link": b"1", "dangling": b"2"})
    assert not (tmp_path / "link").is_symlink()
    assert tree(tmp_path) == {"elsewhere": b"keep", "link": b"1", "dangling": b"2"}


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0o000])
def test_permissions_follow_the_umask(tmp_path, umask, mask):
    umask(mask)
    write_file(str(tmp_path / "folder" / "a"), b"")
    assert stat.S_IMODE((tmp_path / "folder" / "a").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~mask


def test_contents_reach_the_disk_first_then_names_and_the_manifest_comes_last(tmp_path, monkeypatch):
    events = []
    replace, fsync = os.replace, os.fsync

    def name_of(descriptor):
        return Path(f"/proc/self/fd/{descriptor}").readlink()

    def note_replace(source, target):
        events.append(("name", Path(target).name))
        replace(source, target)

    def note_fsync(descriptor):
        path = name_of(descriptor)
        events.append(("folder" if path.is_dir() else "content", "" if path.is_file() else path.name))
        fsync(descriptor)

    monkeypatch.setattr(os, "replace", note_replace)
    monkeypatch.setattr(os, "fsync", note_fsync)
    folder = tmp_path / "variant"
    write_files(str(folder), {"weights/w.bin": b"w", "head.onnx": b"h", "split.json": b"{}"})
    assert events[:5] == [("content", "")] * 3 + [("name", "w.bin"), ("name", "head.onnx")]
    # The new folder `variant` is a name too, in the folder above it.
    assert sorted(events[5:8]) == sorted([("folder", "weights"), ("folder", "variant"), ("folder", tmp_path.name)])
    assert events[8:] == [("name", "split.json"), ("folder", "variant")]


def test_a_manifest_is_never_there_without_its_files(tmp_path, monkeypatch):
    replace = os.replace
    seen = []

    def watch(source, target):
        replace(source, target)
        seen.append(sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")))

    monkeypatch.setattr(os, "replace", watch)
    write_files(str(tmp_path), {"c": b"1", "a": b"2", "b": b"manifest"})
    assert seen == [["c"], ["a", "c"], ["a", "b", "c"]]


@pytest.mark.parametrize("second", ["blocked/b", "blocked/deep/b", "folder", "x" * 300, "zero\0byte"])
def test_a_file_that_cannot_be_written_leaves_everything_as_it_was(tmp_path, second):
    (tmp_path / "blocked").write_bytes(b"a file where a folder is needed")
    (tmp_path / "folder").mkdir()
    (tmp_path / "old").write_bytes(b"old")
    before = tree(tmp_path)
    with pytest.raises((OSError, ValueError)):
        write_files(str(tmp_path), {"old": b"new", "made/for/a": b"1", second: b"2", "manifest": b"3"})
    assert tree(tmp_path) == before


def test_folders_made_before_one_could_not_be_made_are_removed(tmp_path):
    with pytest.raises(OSError, match="File name too long"):
        write_file(str(tmp_path / "a" / "b" / ("x" * 300) / "c"), b"")
    assert tree(tmp_path) == {}


def test_a_folder_that_another_process_uses_by_now_stays(tmp_path, monkeypatch):
    def failing(source, target):
        (tmp_path / "made" / "from_elsewhere").write_bytes(b"")
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="broken"):
        write_file(str(tmp_path / "made" / "a"), b"")
    assert tree(tmp_path) == {"made": None, "made/from_elsewhere": b""}


@pytest.mark.parametrize("call", range(3))
def test_new_files_are_all_or_nothing_when_a_rename_fails(tmp_path, monkeypatch, call):
    (tmp_path / "other").write_bytes(b"other")
    fail_at(monkeypatch, "replace", call)
    with pytest.raises(OSError, match="Input/output error"):
        write_files(str(tmp_path), {"weights/a": b"1", "b": b"2", "manifest": b"3"})
    assert tree(tmp_path) == {"other": b"other"}


@pytest.mark.parametrize("call", range(8))
def test_new_files_are_all_or_nothing_when_a_flush_fails(tmp_path, monkeypatch, call):
    """Calls 0 to 2 flush contents, 3 to 5 the folders of the files, 6 the manifest's, 7 does not happen."""
    fail_at(monkeypatch, "fsync", call)
    files = {"weights/a": b"1", "b": b"2", "manifest": b"3"}
    if call == 7:
        write_files(str(tmp_path / "variant"), files)
        assert len(tree(tmp_path)) == 5
        return
    with pytest.raises(OSError, match="Input/output error"):
        write_files(str(tmp_path / "variant"), files)
    assert tree(tmp_path) == {}


def test_a_new_manifest_is_taken_back_before_its_files(tmp_path, monkeypatch):
    removed = []
    unlink = os.unlink

    def note_unlink(path):
        unlink(path)  # raises for what is not there: the temporary names, renamed by then
        removed.append(Path(path).name)

    monkeypatch.setattr(os, "unlink", note_unlink)
    fail_at(monkeypatch, "fsync", 4)  # three contents, the folder of the first two names, the manifest's
    with pytest.raises(OSError, match="Input/output error"):
        write_files(str(tmp_path), {"a": b"1", "b": b"2", "manifest": b"3"})
    assert removed == ["manifest", "b", "a"]


@pytest.mark.parametrize(("function", "call"), [("fsync", 0), ("fsync", 1), ("fsync", 2), ("replace", 0)])
def test_existing_files_are_untouched_until_all_contents_are_on_the_disk(tmp_path, monkeypatch, function, call):
    old = {"a": b"old 1", "b": b"old 2", "manifest": b"old 3"}
    write_files(str(tmp_path), old)
    fail_at(monkeypatch, function, call)
    with pytest.raises(OSError, match="Input/output error"):
        write_files(str(tmp_path), {"a": b"1", "b": b"2", "manifest": b"3"})
    assert tree(tmp_path) == old


@pytest.mark.parametrize("call", [1, 2])
def test_the_documented_exception_files_replaced_before_a_failing_rename_stay_new(tmp_path, monkeypatch, call):
    write_files(str(tmp_path), {"a": b"old 1", "b": b"old 2", "manifest": b"old 3"})
    fail_at(monkeypatch, "replace", call)
    with pytest.raises(OSError, match="Input/output error"):
        write_files(str(tmp_path), {"a": b"1", "b": b"2", "new": b"n", "manifest": b"3"})
    expected = {"a": b"1", "b": b"2" if call == 2 else b"old 2", "manifest": b"old 3"}
    assert tree(tmp_path) == expected, "no new name, and the old manifest: its hashes tell"


def test_a_manifest_that_replaced_an_older_one_keeps_its_new_files(tmp_path, monkeypatch):
    write_files(str(tmp_path), {"manifest": b"old"})
    fail_at(monkeypatch, "fsync", 3)  # after two contents and the names but the manifest: its own
    with pytest.raises(OSError, match="Input/output error"):
        write_files(str(tmp_path), {"new": b"n", "manifest": b"names new"})
    assert tree(tmp_path) == {"new": b"n", "manifest": b"names new"}


@pytest.mark.parametrize("call", range(3))
def test_an_interruption_cleans_up_like_an_error(tmp_path, monkeypatch, call):
    replace = os.replace
    calls = []

    def interrupted(source, target):
        calls.append(target)
        replace(source, target)
        if len(calls) == call + 1:
            raise KeyboardInterrupt  # after the rename, before it could be noted

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_files(str(tmp_path), {"a/b": b"1", "c": b"2", "manifest": b"3"})
    assert tree(tmp_path) == {}


def test_a_full_disk_leaves_no_trace(tmp_path):
    """The limit on a file's size stands for the full disk: the kernel refuses the write just so."""
    (tmp_path / "old").write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_files(str(tmp_path), {"made/small": b"1", "old": bytes(2 << 20), "manifest": b"3"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert tree(tmp_path) == {"old": b"old"}


@pytest.mark.parametrize("renames", range(4))
def test_a_kill_between_two_renames_leaves_whole_files_and_the_old_manifest(tmp_path, renames):
    old = {"a": b"old a" * 1000, "b": b"old b" * 1000, "manifest": b"old m" * 1000}
    new = {"a": b"new a" * 2000, "b": b"new b" * 2000, "manifest": b"new m" * 2000}
    write_files(str(tmp_path), old)
    script = f"""
import os, signal
from jetson.files.atomic_files import write_files
replace, count = os.replace, 0
def dying(source, target):
    global count
    if count == {renames}:
        os.kill(os.getpid(), signal.SIGKILL)
    count += 1
    replace(source, target)
os.replace = dying
write_files({str(tmp_path)!r}, {new!r})
"""
    finished = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, timeout=60)
    assert finished.returncode == (0 if renames == 3 else -9)
    visible = {name: content for name, content in tree(tmp_path).items() if not name.endswith(".part")}
    replaced = list(new)[:renames]
    assert visible == {name: new[name] if name in replaced else old[name] for name in old}
    assert all(name.startswith(".") for name in tree(tmp_path) if name not in old)


@pytest.mark.parametrize("size_bytes", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_both_hashes_are_sha_256_in_lower_case_hexadecimal(tmp_path, size_bytes):
    data = bytes(range(256)) * (size_bytes // 256) + b"x" * (size_bytes % 256)
    (tmp_path / "a").write_bytes(data)
    assert sha256_of_bytes(data) == sha256_of_file(str(tmp_path / "a")) == hashlib.sha256(data).hexdigest()


def test_the_hash_of_a_missing_file_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        sha256_of_file(str(tmp_path / "a"))


def test_a_temporary_folder_lies_beside_and_goes_with_its_contents(tmp_path):
    with temporary_folder_beside(str(tmp_path / "engine")) as folder:
        assert Path(folder).parent == tmp_path
        (Path(folder) / "deep").mkdir()
        (Path(folder) / "deep" / "file").write_bytes(b"1")
    assert tree(tmp_path) == {}
    with pytest.raises(RuntimeError, match="build failed"), temporary_folder_beside(str(tmp_path / "engine")):
        raise RuntimeError("build failed")
    assert tree(tmp_path) == {}
