"""Impossible wishes: each is refused with its reason, and nothing that is possible is."""

from __future__ import annotations

import itertools

import pytest

from engines.targets.capabilities import RTX_COMPUTE_CAPABILITIES, check_supported
from engines.targets.lookup import find_target, load_targets
from jetson.engines.build_settings import BuildSettings
from jetson.errors import CoopexportError

FP16 = BuildSettings("fp16")


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("nano", BuildSettings("int8"), r"no int8 kernels for SM 5\.3 \(tegra210\): .*use --precision fp16"),
        ("tx2", BuildSettings("int8"), r"no int8 kernels for SM 6\.2"),
        ("cpu", BuildSettings("fp8"), r'precision "fp8" is not one of fp32, fp16, int8'),
        ("rtx-ada", BuildSettings(compute_capabilities=("8.9", "8.7")), r"SM 8\.7 \(a Jetson's\); it knows 7\.5, 8\.0"),
        ("rtx-ada", BuildSettings(compute_capabilities=("11.0",)), r"SM 11\.0 \(a Jetson's\)"),
        ("rtx-ada", BuildSettings(compute_capabilities=("9.0",)), r"does not build for SM 9\.0; it knows"),
        ("cpu", BuildSettings(batches=(0, 1, 1)), "not at least 1"),
        ("cpu", BuildSettings(batches=(2, 1, 4)), "in the order min, opt, max"),
        ("cpu", BuildSettings(batches=(1, 8, 4)), "in the order min, opt, max"),
        ("orin-nano", FP16._replace(dla_core=0), r"DLA core 0 .* none that TensorRT 10\.3\.0 could use"),
        ("agx-orin@7.2", FP16._replace(dla_core=0), r"none that TensorRT 10\.16\.2 could use"),
        ("thor", FP16._replace(dla_core=0), "DLA core 0"),
        ("tensorrt-ada", FP16._replace(dla_core=0), "there is none; leave dla_core out"),
        ("agx-orin", FP16._replace(dla_core=2), "DLA core 2 was asked for; it has 2, counted from 0"),
        ("orin-nx-8gb", FP16._replace(dla_core=1), "it has 1, counted from 0"),
        ("agx-orin", FP16._replace(dla_core=0, batches=(1, 2, 4)), "a DLA runs one batch size only"),
        ("agx-orin", BuildSettings(dla_core=0), "a DLA computes in fp16 and int8 only"),
        ("nano", FP16._replace(optimization_level=3), r"TensorRT 8\.2\.1 has no optimization_level; 8\.6 was"),
        ("orin-nano@5.1", FP16._replace(optimization_level=3), r"TensorRT 8\.5\.2 has no"),
        ("thor", FP16._replace(optimization_level=6), "optimization_level 6 is not one of 0 to 5"),
        ("nano", FP16._replace(workspace_bytes=4 << 30), r"does not fit into 4,294,967,296 bytes of memory"),
    ],
)
def test_an_impossible_wish_is_refused_with_the_reason(name: str, settings: BuildSettings, reason: str) -> None:
    with pytest.raises(CoopexportError, match=reason) as refusal:
        check_supported(find_target(name), settings)
    assert str(refusal.value).startswith(f'target "{find_target(name).name}" cannot have that: ')


def test_nothing_that_is_possible_is_refused() -> None:
    for target, precision, batches in itertools.product(
        load_targets().values(), ("fp32", "fp16", "int8"), ((1, 1, 1), (8, 8, 8), (1, 4, 16))
    ):
        no_kernels = precision == "int8" and target.board in ("nano", "tx2") and target.backend == "tensorrt"
        in_half = precision == "fp16" and target.backend == "onnxruntime" and target.half_arithmetic
        if not no_kernels and not in_half:
            check_supported(target, BuildSettings(precision, batches))
    check_supported(find_target("agx-orin"), BuildSettings("int8", (2, 2, 2), dla_core=1))
    check_supported(find_target("xavier-nx@4.6.1"), FP16._replace(dla_core=1, gpu_fallback=False))
    check_supported(find_target("orin-nano@6.0"), FP16._replace(optimization_level=5))
    check_supported(find_target("nano"), FP16._replace(workspace_bytes=1 << 30))
    check_supported(find_target("rtx-ada"), BuildSettings(compute_capabilities=RTX_COMPUTE_CAPABILITIES))


def test_the_compute_capabilities_are_those_of_the_library() -> None:
    tensorrt_rtx = pytest.importorskip("tensorrt_rtx", reason="left out: TensorRT-RTX is for Linux on x86-64 only")
    known = {name for name in tensorrt_rtx.ComputeCapability.__members__ if name.startswith("SM")}
    assert known == {f"SM{item.replace('.', '')}" for item in RTX_COMPUTE_CAPABILITIES}
    targets = {target.compute_capability for target in load_targets().values() if target.backend == "tensorrt-rtx"}
    assert targets == set(RTX_COMPUTE_CAPABILITIES)
