"""Which processors compute float16 in half under ONNX Runtime, by what the kernel says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from jetson.device.half_arithmetic import computes_in_half

# Lines of /proc/cpuinfo of a Jetson Nano (Cortex-A57) and of an Orin (Cortex-A78AE).
A57 = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
A78 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp uscat ilrcpc"


@pytest.mark.parametrize(
    ("architecture", "features", "in_half"),
    [("aarch64", A57, False), ("aarch64", A78, True), ("x86_64", A78, False), ("aarch64", None, False)],
)
def test_only_arm_with_half_arithmetic_does(
    tmp_path: Path, architecture: str, features: str | None, in_half: bool
) -> None:
    if features is not None:
        (tmp_path / "proc").mkdir()
        text = f"processor\t: 0\nBogoMIPS\t: 62.50\nFeatures\t: {features}\nCPU part\t: 0xd42\n"
        (tmp_path / "proc" / "cpuinfo").write_text(text)
    assert computes_in_half(architecture, str(tmp_path)) == in_half
