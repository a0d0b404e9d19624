"""The ground floor runs in the Python 3.6 of JetPack 4.6, with the standard library and NumPy only."""

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import numpy as np
import pytest
from python36 import interpreters

import jetson

ROOM = Path(jetson.__file__).parent
FILES = sorted(ROOM.rglob("*.py"))
IDS = [str(file.relative_to(ROOM)) for file in FILES]
MODULES = sorted(
    ".".join(file.relative_to(ROOM.parent).with_suffix("").parts).removesuffix(".__init__") for file in FILES
)

# Only on the device, and therefore only inside the functions that need them.
DEVICE_MODULES = {"tensorrt", "pycuda", "cuda", "cv2", "onnxruntime", "PIL"}
NEWER_STANDARD_LIBRARY = {
    "annotationlib",
    "compression",
    "concurrent.interpreters",
    "contextvars",
    "dataclasses",
    "graphlib",
    "importlib.metadata",
    "importlib.resources",
    "string.templatelib",
    "tomllib",
    "zoneinfo",
}
NEWER_NAMES = {
    "asyncio": {"run", "create_task", "get_running_loop", "to_thread", "TaskGroup", "timeout"},
    "collections.abc": {"Buffer"},
    "contextlib": {"nullcontext", "AsyncExitStack", "asynccontextmanager", "aclosing", "chdir"},
    "functools": {"cache", "cached_property", "singledispatchmethod"},
    "hashlib": {"file_digest"},
    "http.server": {"ThreadingHTTPServer"},
    "itertools": {"batched", "pairwise"},
    "math": {"cbrt", "comb", "dist", "exp2", "isqrt", "lcm", "nextafter", "perm", "prod", "remainder", "ulp"},
    "numpy": {"broadcast_shapes", "typing", "exceptions", "concat", "permute_dims", "astype", "bool", "trapezoid"},
    "numpy.lib.stride_tricks": {"sliding_window_view"},
    "os": {"memfd_create", "posix_spawn", "process_cpu_count", "waitstatus_to_exitcode"},
    "shlex": {"join"},
    "statistics": {"NormalDist", "correlation", "fmean", "geometric_mean", "multimode", "quantiles"},
    "threading": {"excepthook", "get_native_id"},
    "time": {name + "_ns" for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time")},
    "typing": {
        "Annotated",
        "Concatenate",
        "Final",
        "ForwardRef",
        "Literal",
        "OrderedDict",
        "ParamSpec",
        "Protocol",
        "Self",
        "SupportsIndex",
        "TypeAlias",
        "TypedDict",
        "TypeGuard",
        "final",
        "get_args",
        "get_origin",
        "override",
        "runtime_checkable",
    },
}
NEWER_METHODS = {"removeprefix", "removesuffix", "fromisoformat", "bit_count", "is_relative_to", "readlink"}
NEWER_KEYWORDS = {"capture_output", "missing_ok", "dirs_exist_ok", "strict"}
GENERIC_ALIASES = {"dict", "frozenset", "list", "set", "tuple", "type"}  # dict[str, int] is of Python 3.9


def dotted(node):
    """Return `a.b.c` for such an expression, "" for any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and dotted(node.value):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def annotations_of(tree):
    """Yield every annotation: all of them are evaluated when the module is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            yield node.annotation
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            yield node.returns


def module_problems(name, at_top):
    """Yield why the absolute import of module `name` does not belong into the room."""
    top = name.split(".")[0]
    parent, _, last = name.rpartition(".")
    if name in NEWER_STANDARD_LIBRARY or top in NEWER_STANDARD_LIBRARY or last in NEWER_NAMES.get(parent, ()):
        yield f"{name} is newer than Python 3.6 or NumPy 1.19"
    elif top in DEVICE_MODULES:
        if at_top:
            yield f"{name} is imported outside of a function"
    elif top not in sys.stdlib_module_names | {"numpy", "jetson"}:
        yield f"{name} is neither of the standard library nor numpy nor jetson"


def import_problems(tree):
    inside_functions = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside_functions.update(ast.walk(node))
    for node in ast.walk(tree):
        at_top = node not in inside_functions
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from module_problems(alias.name, at_top)
        if isinstance(node, ast.ImportFrom):
            if node.level:
                yield "imports are absolute in this project"
                continue
            for alias in node.names:
                if node.module == "__future__":
                    yield f"from __future__ import {alias.name}"
                yield from module_problems(node.module, at_top)
                name = f"{node.module}.{alias.name}"
                if name in NEWER_STANDARD_LIBRARY or alias.name in NEWER_NAMES.get(node.module, ()):
                    yield f"{name} is newer than Python 3.6 or NumPy 1.19"


def call_problems(node):
    keywords = {keyword.arg for keyword in node.keywords}
    for keyword in sorted(keywords & NEWER_KEYWORDS):
        if keyword != "strict" or dotted(node.func) == "zip":
            yield f"{keyword}= in {ast.unparse(node.func)}(...)"
    if "text" in keywords and dotted(node.func).split(".")[0] == "subprocess":
        yield f"text= in {dotted(node.func)}(...)"
    if dotted(node.func) == "breakpoint":
        yield "breakpoint()"


def name_problems(tree):
    modules = {"np": "numpy"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update({alias.asname or alias.name: alias.name for alias in node.names})
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            module = modules.get(dotted(node.value))
            if node.attr in NEWER_NAMES.get(module, ()):
                yield f"{module}.{node.attr} is newer than Python 3.6 or NumPy 1.19"
            elif node.attr in NEWER_METHODS and module is None:
                yield f"method {node.attr} is newer than Python 3.6"
        if isinstance(node, ast.Call):
            yield from call_problems(node)
        if isinstance(node, ast.NamedExpr):
            yield "the walrus"
        if isinstance(node, ast.Subscript) and dotted(node.value) in GENERIC_ALIASES:
            yield f"{ast.unparse(node)} is of Python 3.9"
        if isinstance(node, ast.Subscript) and dotted(node.value) in ("np.ndarray", "numpy.ndarray", "np.dtype"):
            yield f"{ast.unparse(node)} is of NumPy 1.22"
    for annotation in annotations_of(tree):
        if any(isinstance(part, ast.BinOp) for part in ast.walk(annotation)):
            yield f"the union {ast.unparse(annotation)} is of Python 3.10"


def debugging_braces(tree, source):
    """Yield f'{a=}': Python 3.12 no longer refuses it when asked for 3.6, but knows where the parts stand."""
    if sys.version_info < (3, 12):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue):
            whole, value = (ast.get_source_segment(source, part) or "" for part in (node, node.value))
            if whole.partition(value)[2].lstrip().startswith("="):
                yield f"{whole} is of Python 3.8"


def problems(source):
    """Return all that Python 3.6 with NumPy 1.19 would stumble over in `source`, as far as one can tell."""
    try:
        tree = ast.parse(source, feature_version=(3, 6))
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    found = [*import_problems(tree), *name_problems(tree), *debugging_braces(tree, source)]
    if re.search(r"^\s*(async )?with \(", source, re.MULTILINE):  # not all versions refuse it when asked for 3.6
        found.append("a parenthesised context manager")
    return found


def test_there_is_something_to_look_at():
    assert {"jetson", "jetson.wire.message", "jetson.runtime.preprocessing"} <= set(MODULES)


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_every_file_is_python_3_6(file):
    with tokenize.open(file) as opened:
        assert problems(opened.read()) == []


@pytest.mark.parametrize(
    "source",
    [
        "from __future__ import annotations",
        "import dataclasses",
        "from dataclasses import dataclass",
        "import importlib.resources",
        "from importlib import metadata",
        "import onnx",
        "from PIL import Image",
        "from exporter.masks import masks",
        "from . import errors",
        "import tensorrt",
        "if True:\n    import pycuda.driver",
        "import numpy.typing",
        "from numpy import typing",
        "import time\ntime.perf_counter_ns()",
        "from time import monotonic_ns",
        "import time as clock\nclock.time_ns()",
        "import math\nmath.prod([1])",
        "import numpy as np\nx: np.ndarray[int]",
        "import subprocess\nsubprocess.run([], capture_output=True)",
        "import subprocess\nsubprocess.check_output([], text=True)",
        "zip([1], [2], strict=True)",
        "(n := 1)",
        "def f(a, /): pass",
        "f'{a=}'",
        "with (open('a') as a, open('b') as b):\n    pass",
        "match a:\n    case 1: pass",
        "x: list[int] = []",
        "x = dict[str, int]",
        "def f(a: int | None): pass",
        "def f() -> 'str' | None: pass",
        "'a'.removeprefix('b')",
        "from typing import Literal",
        "import typing\nx: typing.Protocol",
        "async def f():\n    import contextvars",
        "breakpoint()",
    ],
)
def test_the_test_above_sees_what_it_should(source):
    assert problems(source) != []


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    import tensorrt\n    import pycuda.driver as cuda\n    import onnxruntime",
        "class A:\n    def f(self):\n        import onnxruntime",
        "import os, json\nimport numpy as np\nfrom jetson.errors import CoopexportError",
        "from typing import Dict, NamedTuple, Optional\nx: Dict[str, int] = {}\nf'{x} {1_000}'",
        "import os.path\nos.path.join('a', 'b').replace('a', 'b')",
        "values[0] | 3\nx = a | b",
        "with open('a') as a, open('b') as b:\n    (a, b)",
        "import subprocess\nsubprocess.run([], stdout=subprocess.PIPE, universal_newlines=True)\nf(text='x')",
    ],
)
def test_the_test_above_does_not_cry_wolf(source):
    assert problems(source) == []


# The modules are imported and used, in Python 3.6 where there is one, and in this Python without anything
# but the standard library and NumPy in any case. This script is read by both: Python 3.6 throughout.
SCRIPT = """
import hashlib, importlib, os, sys, tempfile

sys.path[:] = sys.argv[1].split(os.pathsep) + sys.path
allowed = set(getattr(sys, "stdlib_module_names", ())) | {"numpy", "jetson"}

class OnlyStandardLibraryAndNumPy:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed:
            raise ImportError("blocked: " + name)

if "--block" in sys.argv:
    sys.meta_path.insert(0, OnlyStandardLibraryAndNumPy())
for name in sys.argv[2].split(","):
    importlib.import_module(name)
if "--block" in sys.argv:
    strangers = {name.split(".")[0] for name in sys.modules} - allowed - {"__main__"}
    assert all(not getattr(sys.modules.get(name), "__file__", None) for name in strangers), strangers

import numpy as np
from jetson.files import atomic_files, json_files
from jetson import errors
from jetson.runtime import preprocessing, sampling
from jetson.wire import packing
from jetson.wire.feature import FeatureCodec, FeatureTensor
from jetson.wire.message import encode_message, decode_message
from jetson.wire.specification import TensorSpecification
from jetson.wire.symbol_model import model_from_bytes, model_of_channels, model_to_bytes, symbol_model

digest = hashlib.sha256()
values = np.arange(2 * 3 * 4).reshape(2, 3, 4) * 7 % 256
for dtype in ("uint8", "float32", "float16", "int32", ">f4"):
    for tensor in (values.astype(dtype), values.T.astype(dtype), np.zeros((2, 0), dtype), np.ones((), dtype)):
        for codec in ("raw", "zlib-huffman"):
            expected = [TensorSpecification(tensor.dtype.name, tensor.shape, codec)] * 2
            message = encode_message([tensor, tensor], expected)
            for received in decode_message(message, expected):
                assert received.dtype == np.dtype(tensor.dtype.name) and (received == tensor).all()
            try:
                decode_message(message[:-1], expected)
            except errors.CoopexportError as error:
                assert "truncated" in str(error)
            else:
                raise AssertionError("a truncated message was accepted")
        digest.update(encode_message([tensor], [TensorSpecification(tensor.dtype.name, tensor.shape)]))
for bits in range(1, 9):
    weights = 1 + np.arange(1 << bits, dtype=np.int64) ** 2 % 37
    rows = np.stack([np.roll(weights, shift) * ((1 << 15) // weights.sum()) for shift in range(4)])
    rows[:, 0] += (1 << 15) - rows.sum(axis=1)
    contexts = symbol_model(bits, np.arange(1 << bits) % 2, rows, np.arange(256) // 5 % 2)
    order_0 = symbol_model(bits, np.zeros(1 << bits, np.uint8), rows[:1])
    assert model_from_bytes(model_to_bytes(contexts)) == contexts != order_0
    symbols = (np.arange(2 * 3 * 5 * 7, dtype=np.int64) ** 2 // 3 % (1 << bits)).astype(np.uint8).reshape(2, 3, 5, 7)
    channels = model_of_channels([order_0, contexts], [0, 1, 0])
    assert model_from_bytes(model_to_bytes(channels)) == channels
    for codec, model in (("raw", None), ("zlib-huffman", None), ("rans", order_0), ("rans-context", contexts),
                         ("rans-context", channels)):
        expected = [TensorSpecification("uint8", (2, 3, 5, 7), codec, bits, model)]
        messages = []
        for implementation in ("c", "python"):
            os.environ["COOPEXPORT_RANS"] = implementation if "--compiler" in sys.argv else "python"
            messages.append(encode_message([symbols], expected, b"a cut"))
            assert (decode_message(messages[0], expected, b"a cut")[0] == symbols).all()
        assert messages[0] == messages[1]
        if codec != "zlib-huffman":
            digest.update(messages[0])
        for name in packing.PACKINGS if bits in packing.PACKABLE_BITS else ("none", "integers"):
            tensor = FeatureTensor("t", (3, 5, 7), "affine", bits, name, codec, model)
            crossing = FeatureCodec((tensor,), b"a cut", 2)
            sent = packing.pack_bits(symbols, bits, name)
            assert crossing.encode([sent]) == messages[0]
            (taken,) = crossing.decode(messages[0])
            assert taken.dtype == sent.dtype and (taken.ravel() == (symbols if name == "words" else sent).ravel()).all()
            digest.update(sent.astype(sent.dtype.newbyteorder("<")).tobytes())
image = (np.arange(61 * 83 * 3, dtype=np.int64) ** 2 * 7919 // 64 % 256).astype(np.uint8).reshape(61, 83, 3)
for interpolation in preprocessing.INTERPOLATIONS:
    for colour_order in preprocessing.COLOUR_ORDERS:
        for layout in preprocessing.LAYOUTS:
            declaration = preprocessing.from_json({
                "resize": 40, "crop": [32, 32], "interpolation": interpolation, "layout": layout,
                "colour_order": colour_order, "scale": 1 / 255, "mean": [0.45], "std": [0.225],
            })
            assert preprocessing.from_json(preprocessing.to_json(declaration)) == declaration
            digest.update(preprocessing.apply(declaration, [image]).tobytes())
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "made", "a.json")
    json_files.write_json(path, "coopexport.test/1.0", {"values": [1, 2.5]})
    assert json_files.read_json(path, "coopexport.test/1.7") == {"values": [1, 2.5]}
    digest.update(atomic_files.sha256_of_file(path).encode("ascii"))
taken = sampling.sample_interleaved([("a", int), ("b", lambda: 1 // 0)], 3, sampling.until_steady(1))
samples, failures = taken.samples_ms, taken.failures
assert len(samples["a"]) == 3 and sorted(failures) == ["b"], (samples, failures)
print(sys.version_info[0], sys.version_info[1], np.__version__, digest.hexdigest())
"""


@functools.cache
def report(interpreter):
    """Run the script; return (Python's major and minor version, NumPy's version, digest)."""
    paths = [str(ROOM.parent)]
    if interpreter == "isolated":
        # -I and -S: no site-packages, no user's folder, no PYTHONPATH. NumPy's folder comes back by its path,
        # and what else lies in that folder is blocked.
        command = [sys.executable, "-I", "-S", "-W", "error"]
        paths.append(str(Path(np.__file__).parents[1]))
    else:
        command = [interpreter, "-W", "error"]
    arguments = [os.pathsep.join(paths), ",".join(MODULES)] + ["--block"] * (interpreter == "isolated")
    arguments += ["--compiler"] * any(shutil.which(name) for name in ("cc", "gcc", "clang"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    finished = subprocess.run(
        [*command, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=120, env=environment
    )
    assert finished.returncode == 0, finished.stderr
    major, minor, numpy_version, digest = finished.stdout.split()
    return (int(major), int(minor)), numpy_version, digest


def test_the_script_itself_is_python_3_6():
    ast.parse(SCRIPT, feature_version=(3, 6))


@pytest.mark.parametrize("interpreter", interpreters())
def test_every_module_is_imported_and_used_with_the_standard_library_and_numpy(interpreter):
    """With COOPEXPORT_PYTHON36 set, that Python has to work; without, `python3.6` is taken if it does."""
    version, numpy_version, digest = report(interpreter)
    if interpreter == "isolated":
        assert version == sys.version_info[:2]
        assert numpy_version == np.__version__
    else:
        assert version == (3, 6), f"COOPEXPORT_PYTHON36 is a Python {version}"
    # Messages, inputs and files are the same to the bit in every Python and with every NumPy.
    assert digest == "9525ae8ac8464df22c8e45b91cd5238516ca3aea88e6db97595cb882d7767eac"


def test_the_isolation_blocks_what_it_should():
    arguments = [str(Path(pytest.__file__).parents[1]), "pytest", "--block"]
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=60
    )
    assert finished.returncode == 1
    assert "blocked: pytest" in finished.stderr
