"""trtexec of a fake Jetson: the options, files and words of its version; it computes with ONNX Runtime on the CPU.

Options that a version lacks end it as they end the real one, so that the agent's choice of options is put to the test.
Read in the usage texts of TensorRT 8.2 to 11.1. Started as: trtexec_program.py VERSION OPTIONS...
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from tensorrt_doubles.engine_file import decode_engine, encode_engine

Version = tuple[int, ...]
UINT8 = 2  # in ONNX
ENQUEUE_MS = 0.0625
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int32)": "int32", "tensor(uint8)": "uint8",
          "tensor(int8)": "int8", "tensor(int64)": "int64"}  # fmt: skip
COMMON = {"onnx", "saveEngine", "loadEngine", "minShapes", "optShapes", "maxShapes", "shapes", "loadInputs", "help",
          "exportOutput", "exportTimes", "iterations", "warmUp", "duration", "avgRuns", "noTF32", "useDLACore",
          "allowGPUFallback", "verbose", "exposeDMA", "streams", "idleTime"}  # fmt: skip


def known_options(version: Version) -> set[str]:
    """Return the options that trtexec of `version` has, of those that matter here."""
    known = set(COMMON)
    known.add("memPoolSize" if version >= (8, 4) else "workspace")
    if (8, 4) <= version < (10,):
        known.add("workspace")
    known.add("skipInference" if version >= (8, 6) else "buildOnly")
    if (8, 6) <= version < (10,):
        known.add("buildOnly")
    if version < (11,):
        known |= {"fp16", "int8", "noDataTransfers", "useSpinWait", "useCudaGraph"}
    else:
        known |= {"includeDataTransfers", "noSpinWait", "noCudaGraph", "useSpinWait", "noDataTransfers"}
    if version >= (8, 6):
        known |= {"builderOptimizationLevel", "infStreams"}
    if version >= (10,):
        known.add("stronglyTyped")
    return known


class Log:
    """What trtexec prints: a banner, lines with time and severity, and how it ended."""

    def __init__(self, version: Version, command: list[str]) -> None:
        major, minor, patch, build = version
        number = major * 1000 + minor * 100 + patch if major < 10 else major * 10000 + minor * 100 + patch
        self.banner = f"TensorRT.trtexec [TensorRT v{number}]{f' [b{build}]' if major >= 10 else ''} # "
        self.banner += " ".join(command)
        print(f"&&&& RUNNING {self.banner}", flush=True)

    def line(self, severity: str, text: str) -> None:
        print(f"[{datetime.now():%m/%d/%Y-%H:%M:%S}] [{severity}] {text}", flush=True)

    def fail(self, *lines: str) -> NoReturn:
        for text in lines:
            self.line("E", text)
        print(f"&&&& FAILED {self.banner}", flush=True)
        sys.exit(1)


def main() -> None:
    version = tuple(int(part) for part in sys.argv[1].split("."))
    log = Log(version, ["trtexec", *sys.argv[2:]])
    options = {}
    for argument in sys.argv[2:]:
        name, _, value = argument.removeprefix("--").partition("=")
        options[name] = value
    if "help" in options:
        print("=== Model Options ===")
        return
    unknown = sorted(set(options) - known_options(version))
    if unknown:
        log.fail(*(f"Unknown option: --{name} {options[name]}".strip() for name in unknown))
    play_fault(log, options)
    if "onnx" in options:
        build(log, version, options)
    elif "loadEngine" in options:
        run(log, version, options)
    else:
        log.fail("Model missing or format not recognized")
    print(f"&&&& PASSED {log.banner}", flush=True)


def play_fault(log: Log, options: dict[str, str]) -> None:
    """Do what the test wrote into the device's faults.json: one entry is used up by each run that it fits."""
    path = Path(os.environ["COOPEXPORT_DEVICE_ROOT"]) / "faults.json"
    faults = json.loads(path.read_text()) if path.is_file() else []
    data = Path(options["onnx"]).read_bytes() if "onnx" in options else b""
    for index, fault in enumerate(faults):
        if (fault["when"] == "dla") > ("useDLACore" in options) or fault.get("holds", "").encode() not in data:
            continue
        if fault["when"] == "build" and not data:
            continue
        if not fault.get("always"):
            path.write_text(json.dumps(faults[:index] + faults[index + 1 :]))
        if "until" in fault:
            Path(fault["reached"]).touch()
            while not Path(fault["until"]).exists():
                time.sleep(0.02)
        if fault.get("does") == "killed":
            os.kill(os.getpid() if fault.get("whom") != "parent" else os.getppid(), signal.SIGKILL)
            time.sleep(1)
        if fault.get("does") == "throttles":
            counter = Path(os.environ["COOPEXPORT_DEVICE_ROOT"]) / "sys/class/hwmon/hwmon3/oc3_event_cnt"
            counter.write_text(f"{int(counter.read_text()) + fault['times']}\n")
            return
        if fault.get("does") == "fails":
            log.fail(*fault["words"])


def build(log: Log, version: Version, options: dict[str, str]) -> None:
    import onnx  # takes long, and is not needed to run

    model = onnx.load(options["onnx"])
    problems = [
        f'ModelImporter.cpp:773: While parsing node number {index} [{node.op_type} -> "{node.output[0]}"]: {why}'
        for index, node in enumerate(model.graph.node)
        if (why := refusal(version, node)) is not None
    ]
    types = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    if version < (8, 5) and UINT8 in types:
        problems.append("Unsupported ONNX data type: UINT8 (2)")
    if problems:
        log.fail(*problems, "Failed to parse onnx file", "Parsing model failed", "Engine set up failed")
    if "useDLACore" in options and version >= (10, 8):
        log.fail(f"Cannot create DLA engine, {options['useDLACore']} not available")
    batches = [batch_of(options[name]) for name in ("minShapes", "optShapes", "maxShapes") if name in options]
    dynamic = any(not value.type.tensor_type.shape.dim[0].dim_value for value in model.graph.input)
    if dynamic and len(batches) != 3:
        log.line("W", "Dynamic dimensions required for input, but no shapes were provided. Overriding with 1.")
        batches = [1, 1, 1]
    data = encode_engine("tensorrt", version, model.SerializeToString(), {"batches": batches})
    Path(options["saveEngine"]).write_bytes(data)
    log.line("I", f"Engine built in {0.1:.3f} sec.")


def refusal(version: Version, node: Any) -> str | None:
    """Return why the parser of `version` refuses a node, or None."""
    if node.domain not in ("", "ai.onnx"):
        return '[8] Assertion failed: creator && "Plugin not found, are the name, version, and namespace correct?"'
    if node.op_type in ("BitShift", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear"):
        return f"[8] No importer registered for op: {node.op_type}"
    if node.op_type == "Cast" and version < (8, 5) and node.attribute[0].i == UINT8:
        return "[8] Assertion failed: convertDtype: unsupported cast to UINT8"
    return None


def batch_of(shapes: str) -> int:
    """Return the batch of "name:4x3x6x6,...", the same for all inputs."""
    batches = {int(item.rpartition(":")[2].split("x")[0]) for item in shapes.split(",")}
    assert len(batches) == 1
    return batches.pop()


def run(log: Log, version: Version, options: dict[str, str]) -> None:
    data = Path(options["loadEngine"]).read_bytes()
    try:
        model, settings = decode_engine(data, "tensorrt", version)
    except ValueError as error:
        log.fail(f"Error[6]: {error}", "Engine deserialization failed", "Inference set up failed")
    import onnxruntime  # takes long, and is not needed to build

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    batch = batch_of(options["shapes"]) if "shapes" in options else 1
    least, _, most = settings["batches"] or (batch, batch, batch)
    if not least <= batch <= most:
        log.fail("Error[3]: IExecutionContext::setInputShape: Error Code 3: batch is not in the profile's range")
    files = dict(item.rsplit(":", 1) for item in options.get("loadInputs", "").split(",") if item)
    feed = {item.name: read_input(log, item, files.get(item.name), batch) for item in session.get_inputs()}
    outputs = session.run(None, feed)
    if "exportOutput" in options:
        text = format_outputs(version, session.get_outputs(), outputs)
        Path(options["exportOutput"]).write_bytes(text.encode("latin-1"))
    if "exportTimes" in options:
        warm_up_ms = int(options.get("warmUp", 200))
        Path(options["exportTimes"]).write_text(
            format_times(version, int(options.get("iterations", 10)), warm_up_ms, lambda: session.run(None, feed))
        )


def read_input(log: Log, item: Any, file: str | None, batch: int) -> np.ndarray:
    shape = [size if isinstance(size, int) else batch for size in item.shape]
    dtype = np.dtype(DTYPES[item.type])
    if file is None:
        return np.random.default_rng(0).random(shape).astype(dtype)
    data = Path(file.strip("'")).read_bytes()
    if len(data) < np.prod(shape) * dtype.itemsize:
        log.fail(f"Note: Expected: {int(np.prod(shape)) * dtype.itemsize} bytes but only read: {len(data)} bytes",
                 "Inference set up failed")  # fmt: skip
    return np.frombuffer(data, dtype)[: int(np.prod(shape))].reshape(shape)


def format_outputs(version: Version, described: Any, outputs: list[np.ndarray]) -> str:
    """Six digits, as C++ streams print; the last binding first would be no better: names tell them apart.

    Up to 8.5 bytes are printed as the characters that int8_t and uint8_t are to such a stream.
    """
    items = []
    for value, array in zip(described, outputs, strict=True):
        if array.dtype.itemsize == 1 and version < (8, 6):
            numbers = ", ".join(array.tobytes().decode("latin-1"))
        else:
            numbers = ", ".join(f"{number:g}" if array.dtype.kind == "f" else str(int(number)) for number in array.flat)
        dimensions = "x".join(map(str, array.shape))
        items.append(f'{{ "name" : "{value.name}", "dimensions" : "{dimensions}", "values" : [ {numbers} ] }}')
    return "[\n  " + "\n, ".join(items) + "\n]\n"


def format_times(version: Version, iterations: int, warm_up_ms: int, call: Any) -> str:
    """One record per run, times since the start; 8.2 and 8.4 write those of the warm-up, too."""
    started = time.perf_counter()
    records: list[dict[str, float]] = []
    kept = 0
    while kept < iterations:
        begin = 1000 * (time.perf_counter() - started)
        call()
        end = 1000 * (time.perf_counter() - started)
        warm = begin < warm_up_ms
        kept += not warm
        if warm and version >= (8, 5):
            continue
        record = {"startEnqMs": begin, "endEnqMs": begin + ENQUEUE_MS, "startH2dMs": begin, "endH2dMs": begin,
                  "startComputeMs": begin, "endComputeMs": end, "startD2hMs": end, "endD2hMs": end,
                  "h2dMs": 0.0, "computeMs": end - begin, "d2hMs": 0.0, "latencyMs": end - begin}  # fmt: skip
        if version < (8, 4):
            record["endToEndMs"] = end - begin
        records.append(record)
    return "[\n  " + "\n, ".join(json.dumps(record) for record in records) + "\n]\n"


if __name__ == "__main__":
    main()
