"""trtexec, TensorRT's command-line tool: how each version is told to build, to run and to measure.

Which option a version has was read in the usage texts and sources of TensorRT 8.2 to 11.1. Options that a version does
not know end it with an error, so that nothing is passed "to be safe".
"""

import functools
import json
import math
import operator
import os
import re
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

from jetson.cuda.gpu_times import GpuTimes
from jetson.engines.build_settings import BuildSettings
from jetson.errors import UnsupportedError, one_line
from jetson.files.system_files import system_path
from jetson.processes import find_program, run_program

if TYPE_CHECKING:  # its package imports NumPy, and the probe finds trtexec without
    from jetson.tensorrt_engines.tensor_info import TensorInfo

INSTALLED_FOLDER = "/usr/src/tensorrt/bin"
_MEBIBYTE = 1 << 20
_LONGEST_REASON = 500
_HELP_TIMEOUT_S = 60.0
_BYTE_DTYPES = ("uint8", "int8")
# "[11/21/2026-08:15:02] [E] Error[4]: ..." ; its banner is "&&&& FAILED TensorRT.trtexec [TensorRT v8201] # ...".
_ERROR_LINE = re.compile(r"^(?:\[[^\]]*\] )?\[[EF]\] (.*)$", re.MULTILINE)
_BANNER = re.compile(r"\[TensorRT v(\d+)\]")

Version = Tuple[int, ...]


def find_trtexec(root: str) -> Optional[str]:
    """Return the path of trtexec: on PATH, else where JetPack puts it; None when there is none."""
    return find_program("trtexec", (system_path(root, INSTALLED_FOLDER),))


def version_of(text: str) -> Version:
    """Return a version ("10.3.0.30") as numbers, to be compared; raises CoopexportError for something else."""
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError:
        raise UnsupportedError(
            '"{}" is not a version of TensorRT'.format(text), fix="check what dpkg -l says"
        ) from None


def banner_version(output: str) -> Optional[str]:
    """Return the version that trtexec names itself in its output ("8.2.1"); None when it does not.

    v8201 is 8.2.1 and v100300 is 10.3.0: two digits for the patch and, from 10 on, two for the minor version.
    """
    found = _BANNER.search(output)
    if found is None:
        return None
    number = int(found.group(1))
    if number < 100000:
        return "{}.{}.{}".format(number // 1000, number // 100 % 10, number % 100)
    return "{}.{}.{}".format(number // 10000, number // 100 % 100, number % 100)


def own_version(program: str) -> str:
    """Return the version that trtexec names itself; raises CoopexportError when it does not."""
    answer = run_program([program, "--help"], _HELP_TIMEOUT_S)
    version = banner_version(answer.output + answer.errors)
    if version is None:
        raise UnsupportedError("{} does not say which version it is".format(program), fix="install TensorRT's packages")
    return version


def build_options(
    version: Version,
    graph: str,
    engine: str,
    inputs: Sequence["TensorInfo"],
    settings: BuildSettings,
    has_half: bool = True,
) -> List[str]:
    """Return the options with which trtexec of `version` builds the ONNX file `graph` into the file `engine`.

    `inputs`: as the graph declares them, for dynamic batches. `has_half`: whether an int8 graph holds float16 as well;
    where it does not, TensorRT 8 is not allowed to compute in it. Precision is in the graph; TensorRT 8, which is
    weakly typed, is told of it as well, and 10 to keep to it, unless for a DLA, for which flags are its only documented
    way; 11 knows nothing else.
    """
    options = ["--onnx=" + graph, "--saveEngine=" + engine]
    # Up to 8.5 the word is buildOnly, from 8.6 on skipInference: without it, it measures for seconds.
    options.append("--skipInference" if version >= (8, 6) else "--buildOnly")
    if version < (10,) or (version < (11,) and settings.dla_core is not None):
        # What of an int8 graph a DLA cannot run in int8 it runs in half: float32 it has not.
        mixed = has_half or settings.dla_core is not None
        int8 = ["--int8", "--fp16"] if mixed else ["--int8"]
        options += {"fp16": ["--fp16"], "int8": int8}.get(settings.precision, [])
    elif version < (11,):
        options.append("--stronglyTyped")
    if not settings.tf32:
        options.append("--noTF32")
    if settings.workspace_bytes is not None:
        mebibytes = max(1, settings.workspace_bytes // _MEBIBYTE)
        form = "--memPoolSize=workspace:{}" if version >= (8, 4) else "--workspace={}"
        options.append(form.format(mebibytes))
    if settings.dynamic:
        for index, which in enumerate(("min", "opt", "max")):
            options.append("--{}Shapes={}".format(which, _shapes(inputs, settings.batches[index])))
    if settings.dla_core is not None:
        options.append("--useDLACore={}".format(settings.dla_core))
        if settings.gpu_fallback:
            options.append("--allowGPUFallback")
    if settings.optimization_level is not None and version >= (8, 6):
        options.append("--builderOptimizationLevel={}".format(settings.optimization_level))
    return options


def run_options(
    engine: str,
    inputs: Sequence["TensorInfo"],
    files: Sequence[str],
    batch: int,
    output: str,
    dla_core: Optional[int] = None,
) -> List[str]:
    """Return the options with which trtexec runs `engine` once on the raw files `files`, one per input.

    The outputs go as JSON into the file `output`.
    """
    loaded = ",".join("{}:{}".format(_quoted(tensor.name), files[index]) for index, tensor in enumerate(inputs))
    options = ["--loadEngine=" + engine, "--loadInputs=" + loaded, "--exportOutput=" + output]
    options += _dynamic_shapes(inputs, batch) + _on_dla(dla_core)
    return options + ["--iterations=1", "--warmUp=0", "--duration=0", "--avgRuns=1"]


def measure_options(
    version: Version, engine: str, inputs: Sequence["TensorInfo"], batch: int, rounds: int, warm_up_ms: int, times: str,
    dla_core: Optional[int] = None
) -> List[str]:  # fmt: skip
    """Return the options with which trtexec measures `engine` at least `rounds` times, into the JSON file `times`.

    What differs between versions, or would let runs overlap, is said, so that each measures the same: one run at a
    time, inputs to the GPU, compute, outputs back, without CUDA graphs and spinning. 11 turned all three defaults
    round; up to 10 there are no options for what is the default there.
    """
    options = ["--loadEngine=" + engine, "--exportTimes=" + times]
    options += _dynamic_shapes(inputs, batch) + _on_dla(dla_core)
    options += ["--iterations={}".format(rounds), "--warmUp={}".format(warm_up_ms), "--duration=0", "--avgRuns=1"]
    # Otherwise the next run's inputs are copied while this one computes.
    options += ["--exposeDMA", "--infStreams=1" if version >= (8, 6) else "--streams=1"]
    if version >= (11,):
        options += ["--includeDataTransfers", "--noSpinWait", "--noCudaGraph"]
    return options


def read_outputs(path: str, outputs: Sequence["TensorInfo"], batch: int) -> List[Any]:
    """Return the arrays in a file of `--exportOutput`, in the order of `outputs` and of their dtypes.

    Raises CoopexportError when one is missing, or has another number of values than it declares.
    """
    import numpy as np

    characters = _printed_as_characters(path, outputs, batch)
    if characters is not None:
        found = characters
    else:
        found = {str(item.get("name")): item.get("values") for item in _read_json(path) if isinstance(item, dict)}
    arrays = []
    for tensor in outputs:
        values = found.get(tensor.name)
        if values is None:
            raise UnsupportedError("trtexec returned no output {}, but {}".format(tensor.name, sorted(map(str, found))))
        shape = (batch,) + tensor.shape[1:]
        if isinstance(values, bytes):
            array = np.frombuffer(values, dtype=tensor.dtype)
        else:
            array = np.asarray(values, dtype=np.float64).astype(tensor.dtype)
        if array.size != int(np.prod(shape)):
            raise UnsupportedError(
                "trtexec returned {} values for {}, its shape {} needs {}".format(
                    array.size, tensor.name, "x".join(map(str, shape)), int(np.prod(shape))
                )
            )
        arrays.append(array.reshape(shape))
    return arrays


def read_times(path: str, version: Version, warm_up_ms: float) -> List[float]:
    """Return the milliseconds of each run in a file of `--exportTimes`: transfers and compute.

    8.2 and 8.4 write the runs of the warm-up as well; those are left out. Raises CoopexportError when there is none.
    """
    times = [float(record["latencyMs"]) for record in _kept(path, version, warm_up_ms)]
    if not times or not _all_usable(times):
        raise UnsupportedError("trtexec wrote no usable times into {}".format(os.path.basename(path)))
    return times


def read_gpu_times(path: str, version: Version, warm_up_ms: float) -> List[GpuTimes]:
    """Return what the same runs were made of, by trtexec's own events; none where it does not write all of that."""
    found = []
    for record in _kept(path, version, warm_up_ms):
        try:
            enqueue_ms = float(record["endEnqMs"]) - float(record["startEnqMs"])
            times = GpuTimes(float(record["h2dMs"]), float(record["computeMs"]), float(record["d2hMs"]), enqueue_ms)
        except (KeyError, TypeError, ValueError):
            return []
        if not _all_usable(times):
            return []
        found.append(times)
    return found


def _kept(path: str, version: Version, warm_up_ms: float) -> List[Dict[str, Any]]:
    """Return the records of the runs after the warm-up."""
    records = _read_json(path)
    return records if version >= (8, 5) else [one for one in records if one["startComputeMs"] >= warm_up_ms]


def _all_usable(times: Sequence[Optional[float]]) -> bool:
    return all(time is not None and math.isfinite(time) and time >= 0 for time in times)


def reason_of_failure(code: int, output: str) -> str:
    """Return in one line why trtexec failed, in its own words where it left some."""
    said = [one_line(line) for line in _ERROR_LINE.findall(output)]
    # The same line comes from parser, builder and trtexec itself.
    words = "; ".join(sorted(set(said), key=said.index))[:_LONGEST_REASON]
    if code < 0:
        return "signal {} ended trtexec{}".format(-code, ": " + words if words else "")
    return "trtexec failed: {}".format(words or "exit code {}, without a line of error".format(code))


def _shapes(inputs: Sequence["TensorInfo"], batch: int) -> str:
    return ",".join(
        "{}:{}".format(_quoted(tensor.name), "x".join(str(size) for size in (batch,) + tensor.shape[1:]))
        for tensor in inputs
    )


def _dynamic_shapes(inputs: Sequence["TensorInfo"], batch: int) -> List[str]:
    from jetson.tensorrt_engines.tensor_info import DYNAMIC

    dynamic = any(tensor.shape[:1] == (DYNAMIC,) for tensor in inputs)
    return ["--shapes=" + _shapes(inputs, batch)] if dynamic else []


def _on_dla(dla_core: Optional[int]) -> List[str]:
    """Return what chooses the core that an engine is loaded on: 0 unless told."""
    return [] if dla_core is None else ["--useDLACore={}".format(dla_core)]


def _quoted(name: str) -> str:
    """Return a tensor's name as trtexec takes it: in single quotes where it holds what separates names."""
    return "'{}'".format(name) if ":" in name or "," in name else name


def _printed_as_characters(path: str, outputs: Sequence["TensorInfo"], batch: int) -> Optional[Dict[str, Any]]:
    """Return the values of each output in a file of `--exportOutput` whose int8 and uint8 are single characters.

    8.5 prints them as C++ prints its char types, one byte each with ", " between, which is not JSON; later versions as
    numbers. None where the file is JSON, or holds something else.
    """
    if not any(tensor.dtype in _BYTE_DTYPES for tensor in outputs):
        return None
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return None
    try:
        json.loads(data.decode("utf-8"))
        return None
    except ValueError:
        pass
    found: Dict[str, Any] = {}
    try:
        for tensor in outputs:
            name = re.escape(tensor.name.encode("utf-8"))
            head = re.search(b'"name" : "' + name + rb'"\s*,\s*"dimensions" : "[\dx]*"\s*,\s*"values" : \[ ', data)
            if head is None:
                return None
            if tensor.dtype in _BYTE_DTYPES:
                values = data[head.end() :][: 3 * batch * functools.reduce(operator.mul, tensor.shape[1:], 1)]
                if not values.endswith(b" ]") or set(values[1:-2:3]) - set(b",") or set(values[2::3]) - set(b" ]"):
                    return None
                found[tensor.name] = values[::3]
            else:
                found[tensor.name] = [float(number) for number in data[head.end() :].partition(b"]")[0].split(b",")]
    except ValueError:
        return None
    return found


def _read_json(path: str) -> List[Dict[str, Any]]:
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read().decode("utf-8", "replace"))
    except (OSError, ValueError) as error:
        raise UnsupportedError("trtexec left no readable {}: {}".format(os.path.basename(path), error)) from None
    if not isinstance(content, list):
        raise UnsupportedError("trtexec wrote something else than a list into {}".format(os.path.basename(path)))
    return content
