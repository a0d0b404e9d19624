"""A device reads a real bundle and talks as the workstation does: Python 3.6, standard library and NumPy."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from python36 import interpreters

import jetson
from exporter.bundles.bundle import read_feature_codec, read_golden, read_split, split_layers
from exporter.bundles.golden import golden_head_outputs, golden_tail_inputs

# Read by Python 3.6. It takes each sample through a message, and prints a digest of all messages and tail inputs.
SCRIPT = """
import hashlib, os, sys

sys.path[:] = sys.argv[1].split(os.pathsep) + sys.path
import numpy as np
from jetson.runtime import bundle_manifest

folder, layers = sys.argv[2], sys.argv[3].split(",")
for layer in layers:
    manifest = bundle_manifest.read_bundle_manifest(os.path.join(folder, layer + ".split.json"))
    golden_path = bundle_manifest.verify_file(folder, manifest.golden)
    for role in (manifest.head, manifest.tail):
        bundle_manifest.verify_file(folder, role)
    codec = bundle_manifest.read_feature_codec(folder, manifest)
    digest = hashlib.sha256()
    with np.load(golden_path, allow_pickle=False) as golden:
        outputs = [golden["symbols_%d" % index] for index in range(len(codec.tensors))]
        for sample in range(len(outputs[0])):
            message = codec.encode([one[sample : sample + 1] for one in outputs])
            digest.update(message)
            for taken in codec.decode(message):
                digest.update(taken.astype(taken.dtype.newbyteorder("<")).tobytes())
    print(layer, sample + 1, digest.hexdigest())
assert not {"pydantic", "onnx", "torch", "exporter"} & set(sys.modules)
"""


def expected_of(folder: Path, layer: str) -> str:
    """Return what the script has to print: messages as they are made here, and what the golden data say of the tail."""
    bundle = read_split(folder, layer)
    golden = read_golden(folder, bundle.golden)
    codec = read_feature_codec(folder, bundle)
    digest = hashlib.sha256()
    samples = list(zip(*golden_head_outputs(golden), strict=True))
    for sample, taken in zip(samples, zip(*golden_tail_inputs(golden), strict=True), strict=True):
        digest.update(codec.encode([one[np.newaxis] for one in sample]))
        for one in taken:
            digest.update(one.tobytes())
    return f"{layer} {len(samples)} {digest.hexdigest()}"


@pytest.mark.parametrize("interpreter", interpreters())
def test_a_device_encodes_and_decodes_a_real_bundle(split_project: Path, interpreter: str) -> None:
    folder = split_project / "out" / "pruned"
    layers = split_layers(folder)
    assert len(layers) >= 2
    paths = [str(Path(jetson.__file__).parent.parent)]
    command = [interpreter, "-W", "error"]
    if interpreter == "isolated":
        command = [sys.executable, "-I", "-S", "-W", "error"]
        paths.append(str(Path(np.__file__).parents[1]))
    ended = subprocess.run(
        [*command, "-c", SCRIPT, os.pathsep.join(paths), str(folder), ",".join(layers)],
        capture_output=True,
        text=True,
        timeout=120,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [expected_of(folder, layer) for layer in layers]
