"""Every way a tensor can cross, in every form that a target may take, built for every GPU that TensorRT-RTX knows."""

from __future__ import annotations

import itertools
from importlib import util

import pytest
from encodings_of_range import specification
from small_graphs import FEATURE_SHAPE, small_network

from engines.backends.registry import find_backend
from engines.preflight.check import preflight
from engines.target_files.encode_form import encode_form
from engines.target_files.target_file import target_file
from engines.targets.lookup import find_target, load_targets
from exporter.bundles.bundle import CutTensorRecord
from exporter.cutting.cut import cut
from exporter.cutting.encoded_halves import encode_halves
from exporter.encoding.specification import FLOAT16, FLOAT32
from jetson.engines.build_settings import BuildSettings
from jetson.wire.packing import PACKABLE_BITS

RTX = [target.name for target in load_targets().values() if target.backend == "tensorrt-rtx"]


@pytest.mark.full
@pytest.mark.skipif(
    util.find_spec("tensorrt_rtx") is None, reason="left out: TensorRT-RTX exists for Linux on x86-64 only"
)
@pytest.mark.parametrize("batches", [(1, 1, 1), (1, 4, 8)], ids=["static", "dynamic"])
@pytest.mark.parametrize("name", RTX)
def test_every_form_builds_for_every_gpu_or_is_refused_by_preflight(name: str, batches: tuple[int, int, int]) -> None:
    target = find_target(name)
    build_settings = BuildSettings(batches=batches, compute_capabilities=(str(target.compute_capability),))
    encodings = [FLOAT16, FLOAT32]
    for bits in range(1, 9):
        packings = ("none", "bytes", "words") if bits in PACKABLE_BITS else ("none",)
        encodings += [specification(bits, packing, channels=4) for packing in packings]
    built = 0
    for encoding in encodings:
        halves = encode_halves(cut(small_network(), ["feature"]), [encoding])
        tensor = CutTensorRecord(name="feature", shape=FEATURE_SHAPE, encoding=encoding, codec="raw")
        for role, form in itertools.product(("head", "tail"), (target, find_target("nano"))):
            part = encode_form(getattr(halves, role), role, [tensor], form)  # type: ignore[arg-type]
            file = target_file(part.model, target, batches, role)
            refused = preflight(file, target, build_settings)
            assert bool(refused) == (name == "rtx-turing" and role == "tail")
            if not refused:
                built += len(find_backend("tensorrt-rtx").build(file, target, build_settings).data) > 0
    assert built == len(encodings) * (2 if name == "rtx-turing" else 4)
