"""The power mode of a Jetson, as nvpmodel names it; the same number means another mode on another board."""

import re
from typing import Any, Dict, NamedTuple, Optional, Tuple

from jetson.errors import DeviceError, UnsupportedError
from jetson.processes import find_program, run_program

_TIMEOUT_S = 20.0


class PowerMode(NamedTuple):
    """`name`: "MAXN_SUPER"; `identifier`: its number on this board, which `nvpmodel -m` takes."""

    name: str
    identifier: Optional[int]

    def to_json(self) -> Dict[str, Any]:
        """Return the mode as a probe records it, without what is not known."""
        return {key: value for key, value in self._asdict().items() if value is not None}


def find_nvpmodel() -> Optional[str]:
    """Return the path of the tool that names and sets power modes; None where there is none."""
    return find_program("nvpmodel", ("/usr/sbin",))


def read_power_mode() -> Tuple[Optional[PowerMode], str]:
    """Return the mode and "", or None and why it is not known."""
    program = find_nvpmodel()
    if program is None:
        return None, "there is no nvpmodel"
    try:
        answer = run_program([program, "-q"], _TIMEOUT_S)
    except (UnsupportedError, DeviceError) as error:
        return None, str(error)
    mode = parse_power_mode(answer.output)
    if mode is None:
        return None, "nvpmodel -q does not name it (exit code {}: {})".format(answer.code, answer.last_words)
    return mode, ""


def parse_power_mode(text: str) -> Optional[PowerMode]:
    """Return the mode out of what `nvpmodel -q` prints: "NV Power Mode: 15W", then its number on a line of its own.

    Warnings ("NVPM WARN: ...") and the fan's mode may stand before it.
    """
    found = re.search(r"^NV Power Mode: *(\S+) *$(?:\s+^(\d+) *$)?", text, re.MULTILINE)
    if found is None:
        return None
    return PowerMode(found.group(1), None if found.group(2) is None else int(found.group(2)))
