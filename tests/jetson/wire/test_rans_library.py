"""rans.c is compiled where a compiler is, kept where nobody else can write, and its absence is named."""

import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jetson.errors import CoopexportError
from jetson.wire import rans, rans_library, rans_python
from jetson.wire.rans import rans_implementation
from jetson.wire.symbol_model import symbol_model

MODEL = symbol_model(1, np.array([0, 0]), np.array([[20000, 12768]]))
SYMBOLS = (np.arange(60) % 7 == 0).astype(np.uint8).reshape(1, 6, 10)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of this test, and nothing remembered from other ones; yields coopexport's part of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("COOPEXPORT_RANS", raising=False)
    monkeypatch.delenv("CC", raising=False)
    rans._coder.cache_clear()
    yield tmp_path / "cache" / "coopexport"
    rans._coder.cache_clear()


@pytest.fixture
def no_compiler(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def works(library):
    return library.encode(SYMBOLS, MODEL) == rans_python.encode(SYMBOLS, MODEL)


def write_compiler(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_it_is_compiled_once_and_kept_closed(cache, monkeypatch):
    assert works(rans_library.load_library())
    (file,) = cache.iterdir()
    assert file.suffix == ".so"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    monkeypatch.setattr(rans_library, "_compile", None)
    assert works(rans_library.load_library()), "taken from the cache, nothing compiled"


def test_another_source_or_compiler_is_another_file(cache, tmp_path, monkeypatch):
    rans_library.load_library()
    monkeypatch.setenv("CC", write_compiler(tmp_path / "my-cc", 'exec cc "$@"'))
    assert works(rans_library.load_library())
    assert len(list(cache.iterdir())) == 2
    source = Path(rans_library.__file__).with_name("rans.c").read_bytes()
    monkeypatch.setattr(rans_library.pkgutil, "get_data", lambda package, name: source + b"\n")
    assert works(rans_library.load_library())
    assert len(list(cache.iterdir())) == 3


def test_cc_may_have_arguments_and_comes_first(tmp_path, monkeypatch):
    note = tmp_path / "note"
    path = write_compiler(tmp_path / "my-cc", f'echo "$@" >> {note}; exec cc "$@"')
    monkeypatch.setenv("CC", f"{path} -DANYTHING=1")
    assert works(rans_library.load_library())
    assert note.read_text().startswith("-DANYTHING=1 -O2 -shared -fPIC")


def test_a_cc_that_is_not_there_is_passed_over(monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert works(rans_library.load_library())


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o702])
def test_a_folder_open_to_others_is_not_used(cache, mode):
    cache.mkdir(parents=True)
    cache.chmod(mode)
    assert works(rans_library.load_library())
    assert list(cache.iterdir()) == []


def test_a_folder_of_somebody_else_is_not_used(cache, monkeypatch):
    cache.mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(rans_library.os, "geteuid", lambda: os.getuid() + 1)
    assert works(rans_library.load_library())
    assert list(cache.iterdir()) == []


def test_a_link_in_its_place_is_not_followed(cache, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    cache.parent.mkdir()
    cache.symlink_to(tmp_path / "elsewhere")
    assert works(rans_library.load_library())
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_file_in_place_of_the_cache_does_no_harm(cache):
    cache.parent.write_bytes(b"")
    assert works(rans_library.load_library())


def test_a_broken_file_in_the_cache_does_no_harm(cache):
    rans_library.load_library()
    (file,) = cache.iterdir()
    file.unlink()  # never overwrite a library that this process has loaded
    file.write_bytes(b"not a library")
    assert works(rans_library.load_library())


def test_without_xdg_the_cache_is_below_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert works(rans_library.load_library())
    assert len(list((tmp_path / ".cache" / "coopexport").iterdir())) == 1


def test_processes_that_start_together_do_not_break_each_other(cache):
    script = (
        "from jetson.wire import rans; from jetson.wire.rans import rans_implementation\n"
        "assert rans_implementation() == ('c', ''), rans_implementation()\n"
    )
    command = [sys.executable, "-c", script]
    started = [subprocess.Popen(command, cwd=Path(__file__).parents[3]) for _ in range(4)]
    assert [process.wait(timeout=120) for process in started] == [0] * 4
    assert [file.suffix for file in cache.iterdir()] == [".so"]


def test_it_is_compiled_from_a_zip_archive_too(tmp_path):
    """The device gets the ground floor as one file."""
    archive = tmp_path / "device.pyz"
    room = Path(rans_library.__file__).parents[1]
    with zipfile.ZipFile(archive, "w") as packed:
        for file in [*room.rglob("*.py"), *room.rglob("*.c")]:
            packed.write(file, file.relative_to(room.parent))
    script = f"import sys; sys.path.insert(0, {str(archive)!r})\n"
    script += "from jetson.wire import rans; from jetson.wire.rans import rans_implementation\n"
    script += f"assert rans.__file__.startswith({str(archive)!r})\nassert rans_implementation() == ('c', '')\n"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, timeout=120)


def test_c_runs_where_a_compiler_is():
    assert rans_implementation() == ("c", "")


def test_without_a_compiler_python_runs_and_says_so(no_compiler):
    assert rans_implementation() == ("python", "there is no C compiler ($CC, cc, gcc, clang)")
    coded = rans.rans_encode(SYMBOLS, MODEL)
    assert coded == rans_python.encode(SYMBOLS, MODEL)
    np.testing.assert_array_equal(rans.rans_decode(coded, SYMBOLS.shape, MODEL), SYMBOLS)


def test_c_can_be_asked_for(no_compiler, monkeypatch):
    monkeypatch.setenv("COOPEXPORT_RANS", "c")
    with pytest.raises(CoopexportError, match=r"COOPEXPORT_RANS=c, but there is no C compiler .*install gcc"):
        rans.rans_encode(SYMBOLS, MODEL)


def test_python_can_be_asked_for(monkeypatch):
    monkeypatch.setenv("COOPEXPORT_RANS", "python")
    assert rans_implementation() == ("python", "COOPEXPORT_RANS=python asks for it")


def test_anything_else_cannot_be_asked_for(monkeypatch):
    monkeypatch.setenv("COOPEXPORT_RANS", "rust")
    with pytest.raises(CoopexportError, match='COOPEXPORT_RANS is "rust"; set it to c or python'):
        rans_implementation()


def test_a_cc_that_cannot_be_read_is_named(monkeypatch):
    monkeypatch.setenv("CC", "gcc '")
    name, reason = rans_implementation()
    assert (name, reason.startswith('CC is "gcc \'": ')) == ("python", True), reason


def test_a_cache_that_cannot_be_written_does_no_harm(cache, tmp_path, monkeypatch):
    """As on a full disk: the compiler fails wherever the file is to lie in the cache."""
    script = f'case "$*" in *{cache}*) echo no space left >&2; exit 1;; esac; exec cc "$@"'
    monkeypatch.setenv("CC", write_compiler(tmp_path / "my-cc", script))
    assert rans_implementation() == ("c", "")


def test_without_any_writable_folder_python_runs(cache, tmp_path, monkeypatch):
    cache.parent.write_bytes(b"")
    monkeypatch.setattr(rans_library.tempfile, "tempdir", str(tmp_path / "not there"))
    name, reason = rans_implementation()
    assert name == "python"
    assert "cannot be loaded: [Errno 2] No such file or directory" in reason


def test_a_compiler_that_fails_is_quoted(tmp_path, monkeypatch, cache):
    monkeypatch.setenv("CC", write_compiler(tmp_path / "my-cc", "echo no space left on device >&2; exit 1"))
    assert rans_implementation() == ("python", f"{tmp_path}/my-cc fails: no space left on device")
    assert list(cache.iterdir()) == []


def test_a_compiler_that_writes_nonsense_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", write_compiler(tmp_path / "my-cc", 'for last; do :; done; echo nonsense > "$last"'))
    name, reason = rans_implementation()
    assert name == "python"
    assert reason.startswith("the compiled rans.c cannot be loaded")


def test_a_compiler_that_takes_forever_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", write_compiler(tmp_path / "my-cc", f"exec {shutil.which('sleep')} 60"))
    monkeypatch.setattr(rans_library, "_COMPILE_TIMEOUT_S", 0.2)
    assert rans_implementation() == ("python", f"{tmp_path}/my-cc did not end within 0.2 s")


def test_a_miscompiled_file_is_not_used(tmp_path, monkeypatch):
    compiler = write_compiler(tmp_path / "my-cc", "sed 's/PROBABILITY_BITS 15/PROBABILITY_BITS 14/' | cc \"$@\"")
    monkeypatch.setenv("CC", compiler)
    assert rans_implementation() == ("python", "the compiled rans.c gives other bytes than the reference")
