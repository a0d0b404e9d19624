"""Peak memory of planted engines in real processes: what is written counts, at its most, and nothing else does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from python36 import interpreters

from jetson.errors import CoopexportError
from jetson.runtime.peak_memory import read_resident

ROOT = Path(__file__).resolve().parents[3]
MIB = 1 << 20
# Runs in Python 3.6 as well: each planted engine, by its name what `peak_memory` said of it.
SCRIPT = """
import json, mmap, os, signal, sys, time
from jetson.errors import DeviceError
from jetson.runtime.peak_memory import peak_memory, read_resident

MIB = 1 << 20
kept = []

def holding(mebibytes):
    def work(begin):
        begin()
        kept.append(b"x" * (mebibytes * MIB))
        return lambda: None
    return work

def spike(begin):
    begin()
    len(b"x" * (64 * MIB))
    return lambda: None

def third_run(begin):
    calls = []
    begin()
    def run():
        calls.append(b"x" * (32 * MIB) if len(calls) == 2 else b"")
    return run

def before(begin):
    len(b"x" * (64 * MIB))
    begin()
    return lambda: None

def reused(begin):
    # Too small to be mapped by themselves, and below one that stays: freed, they are the process's to use again.
    freed = [b"x" * 60000 for _ in range(600)]
    kept.append(b"x" * 60000)
    del freed
    begin()
    kept.append([b"x" * 60000 for _ in range(600)])
    return lambda: None

def mapped(begin):
    begin()
    with open(sys.argv[1], "rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return lambda: sum(pages[at] for at in range(0, len(pages), 4096))

def failing(begin):
    begin()
    raise DeviceError("the GPU is away")

def breaking(begin):
    begin()
    return lambda: [][1]

def hungry(begin):
    begin()
    raise MemoryError

def killed(begin):
    begin()
    return lambda: os.kill(os.getpid(), signal.SIGSEGV)

def stuck(begin):
    begin()
    return lambda: time.sleep(60)

class Gpu:
    def __init__(self, shared, taken):
        self.shared, self.taken, self.calls = shared, taken, 0

    def free_bytes(self):
        # What was asked for first is what was free before; a Jetson has less free for what the process itself writes.
        self.calls += 1
        taken = self.taken if self.calls > 1 else 0
        return 8 * 1024 * MIB - taken - (read_resident().written if self.shared else 0)

def gpu(shared, mebibytes):
    return lambda: Gpu(shared, mebibytes * MIB)

nothing = holding(0)
found = {
    "nothing": peak_memory(nothing),
    "kept": peak_memory(holding(64)),
    "nothing after it": peak_memory(nothing),
    "spike": peak_memory(spike),
    "third run": peak_memory(third_run),
    "before": peak_memory(before),
    "reused": peak_memory(reused),
    "mapped": peak_memory(mapped),
    "failing": peak_memory(failing),
    "breaking": peak_memory(breaking),
    "hungry": peak_memory(hungry),
    "killed": peak_memory(killed),
    "stuck": peak_memory(stuck, timeout_s=0.2),
    "own memory of a GPU": peak_memory(holding(16), gpu(False, 40)),
    "shared memory": peak_memory(holding(16), gpu(True, 40)),
    "others gave back": peak_memory(holding(16), gpu(False, -40)),
}
print(json.dumps(found))
"""


def run(interpreter, script, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [interpreter, "-c", script, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Warning" not in ended.stderr
    return json.loads(ended.stdout)


# This Python, and 3.6 where there is one.
@pytest.fixture(scope="module", params=[pytest.param(sys.executable, id="this"), *interpreters()[1:]])
def planted(request, tmp_path_factory):
    """What is said of each planted engine: bytes, reason."""
    file = tmp_path_factory.mktemp("pages") / "pages"
    file.write_bytes(b"x" * (32 * MIB))
    return run(request.param, SCRIPT, file)


@pytest.mark.parametrize(
    ("name", "mebibytes"),
    [
        ("nothing", 0),
        ("kept", 64),
        ("nothing after it", 0),
        ("spike", 64),
        ("third run", 32),
        ("before", 0),
        ("reused", 34),
        ("mapped", 0),
        ("own memory of a GPU", 56),
        ("shared memory", 56),
    ],
)
def test_what_an_engine_writes_at_its_most_is_counted_and_nothing_else(planted, name, mebibytes):
    found, reason = planted[name]
    assert reason == ""
    assert (mebibytes - 1) * MIB <= found <= (mebibytes + 2) * MIB


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("failing", "the GPU is away"),
        ("breaking", "IndexError: list index out of range"),
        ("hungry", "memory ran out"),
        ("killed", "SIGSEGV ended its process"),
        ("stuck", "not done after 0.2 s"),
        ("others gave back", "the GPU had no less memory free with the engine: other programs use it, too"),
    ],
)
def test_what_fails_is_a_reason_and_no_number(planted, name, said):
    assert planted[name] == [None, said]


def test_a_kernel_that_does_not_tell_is_named(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython3\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n")
    with pytest.raises(CoopexportError, match="status does not have RssAnon, RssFile, RssShmem"):
        read_resident(str(status))
    status.write_text("VmHWM:\t   2048 kB\nRssAnon:\t 512 kB\nRssFile:\t 256 kB\nRssShmem:\t 4 kB\n")
    assert read_resident(str(status)) == (516 * 1024, 256 * 1024, 2048 * 1024)
    with pytest.raises(CoopexportError, match="nowhere cannot be read: No such file"):
        read_resident(str(tmp_path / "nowhere"))


OF_ONNXRUNTIME = """
import json, sys
import numpy as np
import onnxruntime
from jetson.onnxruntime_engines.session import load_on_cpu
from jetson.runtime.peak_memory import peak_memory

def work_of(path, width):
    def work(begin):
        x = np.ones((1, width), np.float32)
        begin()
        with open(path, "rb") as file:
            runner = load_on_cpu(file.read())
        return lambda: runner([x])
    return work

print(json.dumps([peak_memory(work_of(path, int(width))) for path, width in zip(sys.argv[1::2], sys.argv[2::2])]))
"""


def product(path, width):
    """Write a network that multiplies 1 x `width` numbers by a matrix of weights."""
    weights = numpy_helper.from_array(np.ones((width, width), np.float32), "w")
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, width]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def test_an_engine_needs_its_weights_and_not_many_times_as_much(tmp_path):
    """16 MiB of weights: the file's bytes, ONNX Runtime's graph, its tensors and what it packs for its kernels."""
    product(tmp_path / "large.onnx", 2048)
    product(tmp_path / "small.onnx", 4)
    files = [tmp_path / "large.onnx", 2048, tmp_path / "small.onnx", 4]
    (large, no_reason), (small, _) = run(sys.executable, OF_ONNXRUNTIME, *files)
    assert no_reason == ""
    assert 16 * MIB <= large - small <= 4 * 16 * MIB
    assert 0 <= small <= 8 * MIB
