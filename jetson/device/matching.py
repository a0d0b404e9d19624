"""Whether a device is what a build request is for, said in words before anything is built."""

import re
from typing import List, Optional, Set, Tuple

from jetson.engines.machine import Machine
from jetson.engines.verification import same_version
from jetson.errors import InputError
from jetson.requests.build_request import RequestTarget

# Words of a device tree's model that tell boards with the same chip apart, longest names first. Carrier boards of
# other makers name themselves otherwise: those are not compared.
_BOARDS = ("agx orin", "orin nx", "orin nano", "agx xavier", "xavier nx", "agx thor", "thor", "tx2", "tx1", "nano")
# What JetPack 5 calls an AGX Xavier.
_BARE_AGX = "jetson-agx"


def check_device(target: RequestTarget, machine: Machine, jetpack: Optional[str], which: str) -> None:
    """Raise InputError, naming all differences, when a device is not what a build request is for.

    `jetpack`: the device's, for the message; `which`: how to call it, "this device" or "nano.local".
    """
    differences = device_differences(target, machine, jetpack)
    if differences:
        raise InputError(
            "{} is not {}: {}".format(which, target.name, "; ".join(differences)),
            fix="name the target that it is: coopexport targets",
        )


def device_differences(target: RequestTarget, machine: Machine, jetpack: Optional[str]) -> List[str]:
    """Return in words where a device is not the target; what one of them does not know is not compared."""
    found = []
    if target.chip is None and target.architecture not in (None, machine.architecture):
        found.append("its processor is {}, expected {}".format(machine.architecture, target.architecture))
    if target.chip is not None and machine.chip is None:
        found.append("it is not a Jetson ({})".format(machine.platform))
    elif target.chip is not None and target.chip != machine.chip:
        found.append("its chip is {} ({}), expected {}".format(machine.chip, machine.board, target.chip))
    elif target.board is not None and machine.board is not None:
        here, wanted = board_words(machine.board), board_words(target.board)
        if here is not None and wanted is not None and here != wanted:
            found.append("its board is {}, expected {}".format(machine.board, target.board))
    if target.l4t is not None and machine.l4t is not None:
        last = target.last_l4t or target.l4t
        if not _release(target.l4t) <= _release(machine.l4t) <= _release(last):
            found.append(
                "it runs JetPack {} (L4T {}), expected {} (L4T {}{})".format(
                    jetpack or "unknown",
                    machine.l4t,
                    target.jetpack or "unknown",
                    target.l4t,
                    "" if last == target.l4t else " to " + last,
                )
            )
    here_version = machine.backends.get("tensorrt")
    if target.tensorrt is not None and here_version is not None and not same_version(here_version, target.tensorrt):
        found.append("it has TensorRT {}, expected {}".format(here_version, target.tensorrt))
    return found


def _release(l4t: str) -> Tuple[int, ...]:
    """Return the two numbers of a release that fix its libraries: 36 and 4 of "36.4.3"."""
    return tuple(int(number) for number in l4t.split(".")[:2])


def board_words(text: str) -> Optional[Set[str]]:
    """Return the words that tell a board, out of a device tree's model or a target's name; None when there are none."""
    plain = text.lower()
    if plain == _BARE_AGX:
        return {"agx", "xavier"}
    plain = re.sub(r"[^a-z0-9]+", " ", plain)
    for board in _BOARDS:
        if set(board.split()) <= set(plain.split()):
            return set(board.split()) - {"agx"} if "thor" in board else set(board.split())
    return None
