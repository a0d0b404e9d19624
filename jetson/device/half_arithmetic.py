"""Whether ONNX Runtime computes float16 in half on a processor."""

from jetson.files.system_files import read_text

# Half arithmetic of Armv8.2, as Linux calls it; x86-64 has none that ONNX Runtime uses (docs/precision.md).
_ARM, _HALF = ("aarch64", "arm64"), "asimdhp"


def computes_in_half(architecture: str, root: str) -> bool:
    """Tell whether ONNX Runtime computes float16 in half on a processor of `architecture`, by /proc/cpuinfo in `root`.

    Otherwise it computes in float32, with weights that are rounded to half.
    """
    if architecture not in _ARM:
        return False
    lines = (read_text(root, "/proc/cpuinfo") or "").splitlines()
    return any(_HALF in line.split(":", 1)[-1].split() for line in lines if line.startswith("Features"))
