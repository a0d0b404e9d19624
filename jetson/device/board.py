"""Which Jetson this is, and which release of its system it runs."""

import re
from typing import Dict, NamedTuple, Optional

from jetson.errors import DeviceError, UnsupportedError
from jetson.files.system_files import read_text
from jetson.processes import find_program, run_program

# Compute capability of the GPU in each chip. Thor's is 11.0 under CUDA 13 and was called 10.1 under CUDA 12.
COMPUTE_CAPABILITIES: Dict[str, str] = {
    "tegra210": "5.3",
    "tegra186": "6.2",
    "tegra194": "7.2",
    "tegra234": "8.7",
    "tegra264": "11.0",
}
_JETPACKS: Dict[str, str] = {
    "32.6.1": "4.6",
    "32.7.1": "4.6.1",
    "32.7.2": "4.6.2",
    "32.7.3": "4.6.3",
    "32.7.4": "4.6.4",
    "32.7.5": "4.6.5",
    "32.7.6": "4.6.6",
    "35.1.0": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "35.6.2": "5.1.5",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
    "39.2.1": "7.2.1",
}
# Of a release that is not listed, the line is still known.
_JETPACK_LINES: Dict[str, str] = {"32": "4", "35": "5.1", "36": "6", "38.2": "7.0", "38": "7", "39": "7.2"}
_PACKAGE_TIMEOUT_S = 20.0


class Board(NamedTuple):
    """A Jetson. `model`: as its device tree says; `chip`: "tegra234"; `l4t`: "36.4.3"; `jetpack`: "6.2".

    What is None could not be found out; all of it is None on a machine that is not a Jetson.
    """

    model: Optional[str]
    chip: Optional[str]
    l4t: Optional[str]
    jetpack: Optional[str]

    @property
    def compute_capability(self) -> Optional[str]:
        """Return that of the chip's GPU, "8.7"."""
        return None if self.chip is None else COMPUTE_CAPABILITIES.get(self.chip)


def read_board(root: str) -> Board:
    """Return what the files below `root` say about the board and its release."""
    chip = None
    # Zero bytes separate the names, most specific first: "nvidia,p3768-0000+p3767-0005\0...\0nvidia,tegra234".
    for name in (read_text(root, "/proc/device-tree/compatible") or "").split("\0"):
        if name.startswith("nvidia,tegra"):
            chip = name[len("nvidia,") :]
    l4t = _l4t_of_file(root)
    if l4t is None and chip is not None:
        l4t = _l4t_of_package()
    return Board(read_text(root, "/proc/device-tree/model"), chip, l4t, None if l4t is None else jetpack_of(l4t))


def jetpack_of(l4t: str) -> Optional[str]:
    """Return the JetPack that brought a release of L4T ("36.4.3"): exact, else its line ("6"), else None."""
    parts = l4t.split(".")
    return _JETPACKS.get(l4t) or _JETPACK_LINES.get(".".join(parts[:2])) or _JETPACK_LINES.get(parts[0])


def _l4t_of_file(root: str) -> Optional[str]:
    """Return the release of L4T that a file names."""
    # "# R36 (release), REVISION: 4.3, GCID: ..., BOARD: generic, EABI: aarch64, DATE: ..."
    text = read_text(root, "/etc/nv_tegra_release") or ""
    found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return "{}.{}".format(found.group(1), found.group(2)) if found else None


def _l4t_of_package() -> Optional[str]:
    """Return the release of L4T by the package that brings its core."""
    program = find_program("dpkg-query")
    if program is None:
        return None
    try:
        answer = run_program([program, "--show", "--showformat=${Version}", "nvidia-l4t-core"], _PACKAGE_TIMEOUT_S)
    except (UnsupportedError, DeviceError):
        return None
    # "36.4.3-20250107174145"
    version = re.match(r"(\d+\.\d+\.\d+)-", answer.output)
    return version.group(1) if version else None
