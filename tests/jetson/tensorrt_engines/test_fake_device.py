"""`import tensorrt` in a process of its own, as on a device: the double that an environment variable names."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorrt_graphs
from tensorrt_doubles.installing import VERSIONS

TESTS = Path(__file__).resolve().parents[2]
SITE = TESTS / "tensorrt_doubles" / "site"

# Read by Python 3.6 as well.
SCRIPT = """
import sys
import numpy as np
from jetson.engines.build_settings import BuildSettings
from jetson.tensorrt_engines.build import build_engine
from jetson.tensorrt_engines.inspection import describe_layers
from jetson.tensorrt_engines.runtime import load_engine
from jetson.tensorrt_engines.library import open_library

library = open_library("tensorrt")
with open(sys.argv[1], "rb") as file:
    built = build_engine(library, file.read(), BuildSettings(batches=(1, 1, 2)))
runner = load_engine(library, built.data)
np.save(sys.argv[3], runner([np.load(sys.argv[2])])[0])
assert [layer.kind for layer in describe_layers(library, runner.engine)][0] == "Conv"
runner.close()
from tensorrt_doubles.host_memory import process_memory
process_memory().check_clean()
print(built.version, library.version, runner.memory_how)
"""


def interpreters():
    """Return this Python, and Python 3.6 where one is at hand."""
    old = os.environ.get("COOPEXPORT_PYTHON36")
    return [sys.executable, *([old] if old else [])]


def run(interpreter, script, *arguments, **variables):
    folders = os.pathsep.join([str(TESTS.parent), str(SITE)])
    environment = {**os.environ, "PYTHONPATH": folders, **variables}
    command = [interpreter, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("interpreter", interpreters(), ids=lambda path: Path(path).name)
@pytest.mark.parametrize("version", [pytest.param(item, marks=() if item in ("8.2", "10.3") else pytest.mark.full)
                                     for item in VERSIONS])  # fmt: skip
def test_engines_are_built_and_run_there(tmp_path, interpreter, version):
    if run(interpreter, "import onnxruntime").returncode != 0:
        pytest.skip(f"left out: {interpreter} has no ONNX Runtime, through which the doubles execute")
    graph, inputs = tensorrt_graphs.head("batch", symbols=6), tensorrt_graphs.images(2)
    (tmp_path / "head.onnx").write_bytes(graph.SerializeToString())
    np.save(tmp_path / "inputs.npy", inputs)
    found = run(interpreter, SCRIPT, tmp_path / "head.onnx", tmp_path / "inputs.npy", tmp_path / "outputs.npy",
                COOPEXPORT_DOUBLE=version)  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert found.stdout.split()[0].startswith(version)
    assert found.stdout.split()[-1] == "PyCUDA"
    np.testing.assert_array_equal(np.load(tmp_path / "outputs.npy"), tensorrt_graphs.expected(graph, [inputs])[0])


def test_what_gpu_it_has_is_told_by_variables():
    script = "import tensorrt as t; b = t.Builder(t.Logger()); print(t.__version__, b.num_DLA_cores)"
    found = run(sys.executable, script, COOPEXPORT_DOUBLE="10.3", COOPEXPORT_DOUBLE_DLA="2")
    assert found.stdout.split() == ["10.3.0", "2"]
    found = run(sys.executable, script, COOPEXPORT_DOUBLE="10.3", COOPEXPORT_DOUBLE_DRIVER="0")
    assert "factory function returned nullptr" in found.stderr


def test_without_the_variable_there_is_no_tensorrt():
    found = run(
        sys.executable, "import os; del os.environ['COOPEXPORT_DOUBLE']; import tensorrt", COOPEXPORT_DOUBLE="x"
    )
    assert "No module named 'tensorrt'" in found.stderr
