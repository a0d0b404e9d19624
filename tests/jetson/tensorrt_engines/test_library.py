"""Opening TensorRT: versions, the one logger, and what is said when it cannot be used."""

import ctypes
import sys

import pytest
import tensorrt_graphs
from tensorrt_case import RTX, build, settings_for, tensorrt
from tensorrt_doubles.installing import VERSIONS

from jetson.errors import CoopexportError
from jetson.tensorrt_engines import library as library_module
from jetson.tensorrt_engines.build import build_engine
from jetson.tensorrt_engines.library import TENSORRT, TENSORRT_RTX, open_library
from jetson.tensorrt_engines.runtime import load_engine

HEAD = tensorrt_graphs.head(symbols=6)


@pytest.mark.parametrize(
    ("name", "module", "advice"),
    [(TENSORRT, "tensorrt", "JetPack"), (TENSORRT_RTX, "tensorrt_rtx", r"coopexport\[rtx\]")],
)
def test_a_missing_package_is_named(monkeypatch, name, module, advice):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CoopexportError, match=advice):
        open_library(name)


def test_libraries_that_do_not_load_are_named(monkeypatch, tmp_path):
    (tmp_path / "tensorrt.py").write_text("raise OSError('libnvdla_compiler.so: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(CoopexportError, match=r"TensorRT is not usable \(libnvdla_compiler\.so"):
        open_library(TENSORRT)


def test_a_folder_of_that_name_is_not_taken_for_it(monkeypatch, tmp_path):
    (tmp_path / "tensorrt").mkdir()
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(CoopexportError, match="imported as tensorrt is something else"):
        open_library(TENSORRT)
    sys.modules.pop("tensorrt", None)


@pytest.mark.parametrize("version", [*VERSIONS, RTX])
def test_a_process_has_one_logger(version):
    with tensorrt(version) as first:
        second = open_library(first.name)
        assert second.logger is first.logger
        build(first, version, HEAD)
        build(second, version, HEAD)
        assert not any("differs from one already" in text for text in second.warnings())


@pytest.mark.parametrize("version", VERSIONS)
def test_plugins_of_the_library_are_registered_once(version):
    """TensorRT 8's parser makes InstanceNormalization of one."""
    with tensorrt(version) as library:
        assert open_library(library.name).module._world.plugin_namespaces == [""]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("use", [build_engine, load_engine])
def test_a_missing_driver_is_said_to_be_missing(version, use):
    with tensorrt(version, driver=False) as library, pytest.raises(CoopexportError) as refusal:
        use(library, HEAD.SerializeToString(), *([settings_for(version)] if use is build_engine else []))
    assert "finds no usable NVIDIA driver here (CUDA initialization failure with error: 35" in str(refusal.value)


def test_other_type_errors_are_no_missing_driver():
    with tensorrt("10.3") as library, pytest.raises(TypeError, match="incompatible"):
        library_module.make(library._replace(logger=None), library.module.Builder)


def test_what_one_graph_made_it_say_is_not_said_of_the_next():
    with tensorrt("10.3") as library:
        with pytest.raises(CoopexportError, match="Nope"):
            build(library, "10.3", tensorrt_graphs.judged_graphs()["no such operators"])
        with pytest.raises(CoopexportError) as second:
            build(library, "10.3", tensorrt_graphs.judged_graphs()["nothing"])
    assert "Nope" not in str(second.value)


class LoadedLibrary:
    """libnvinfer's four functions that tell its version."""

    def __init__(self, *numbers):
        for part, number in zip(("Major", "Minor", "Patch", "Build"), numbers, strict=True):
            setattr(self, f"getInferLib{part}Version", lambda number=number: number)


@pytest.mark.parametrize(
    ("loaded", "version"),
    [
        (LoadedLibrary(10, 3, 0, 30), "10.3.0.30"),
        (LoadedLibrary(10, 4, 0, 11), "10.3.0"),  # another copy than the module's
        (object(), "10.3.0"),
        (None, "10.3.0"),
    ],
)
def test_the_build_number_comes_from_the_loaded_library(monkeypatch, loaded, version):
    def open_loaded(name, mode):
        assert name == "libnvinfer.so.10"
        assert mode & 4, "only the copy that is loaded already may answer"
        if loaded is None:
            raise OSError("not loaded")
        return loaded

    with tensorrt("10.3"):
        monkeypatch.setattr(ctypes, "CDLL", open_loaded)
        assert open_library(TENSORRT).version == version
