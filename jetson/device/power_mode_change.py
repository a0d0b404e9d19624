"""Another power mode for a while: set for a measurement, and put back whatever ends it.

A process of its own waits at the end of a pipe and puts the mode back when this one lets go of it: at the end, after
an error or an interruption, and when it is killed. It has the right to do so from the beginning: sudo may have
forgotten a password by then.
"""

import contextlib
import os
import re
import subprocess
from typing import Dict, Iterator, List

from jetson.device.power_mode import PowerMode, find_nvpmodel, read_power_mode
from jetson.errors import DeviceError, InputError, UnsupportedError
from jetson.files.system_files import read_text
from jetson.processes import find_program, run_program

_CONFIGURATION = "/etc/nvpmodel.conf"
_TIMEOUT_S = 30.0
# "< POWER_MODEL ID=0 NAME=MAXN >"; what stands behind may be the same line of `nvpmodel -p --verbose`.
_MODE = re.compile(r"POWER_MODEL:?\s+ID=(\d+)\s+NAME=(\S+)")
# Ignores what ends those who measure; "read" returns when nobody holds the other end of the pipe any more.
_GUARD = 'trap "" INT TERM HUP; echo ready; read -r line; exec "$0" -m "$1" < /dev/null > /dev/null 2>&1'


@contextlib.contextmanager
def power_mode(name: str, root: str) -> Iterator[PowerMode]:
    """Have the device in the power mode called `name` (upper and lower case alike); yield the mode that it was in.

    `root`: the folder with the system's files. Raises CoopexportError, the mode unchanged, when the board has no such
    mode or nothing says which it is in, when this user may not change it, or when it takes a restart; and, afterwards,
    when it could not be put back.
    """
    before, reason = read_power_mode()
    if before is None:
        raise UnsupportedError('power mode "{}" cannot be set: {}'.format(name, reason))
    if before.name.lower() == name.lower():
        yield before
        return
    program = find_nvpmodel()
    assert program is not None  # which has just named the mode
    wanted = _number_of(name, power_modes(program, root))
    if before.identifier is None:
        raise UnsupportedError(
            'power mode "{}" cannot be set, as nvpmodel does not say by which number to put {} back'.format(
                name, before.name
            ),
            fix="set it by hand, and leave power_mode out",
        )
    right = _right(name)
    guard = _start_guard(right + ["sh", "-c", _GUARD, program, str(before.identifier)], name)
    try:
        _set(right + [program, "-m", str(wanted)], name)
        yield before
    finally:
        if guard.stdin is not None:
            guard.stdin.close()
        guard.wait()
    found, _ = read_power_mode()
    if found is None or found.name != before.name:
        raise DeviceError(
            "the power mode was not put back: it is {}, it was {}".format(
                "unknown" if found is None else found.name, before.name
            ),
            fix="run: sudo nvpmodel -m {}".format(before.identifier),
        )


def power_modes(program: str, root: str) -> Dict[str, int]:
    """Return the number of each power mode of this board, by its name: by its configuration, or as nvpmodel says."""
    text = read_text(root, _CONFIGURATION)
    if text is None:
        text = run_program([program, "-p", "--verbose"], _TIMEOUT_S).output
    return {mode: int(number) for number, mode in _MODE.findall(text)}


def _number_of(name: str, modes: Dict[str, int]) -> int:
    for mode, number in modes.items():
        if mode.lower() == name.lower():
            return number
    known = ", ".join(sorted(modes, key=modes.__getitem__))
    raise InputError('this board has no power mode "{}"; it has {}'.format(name, known or "none"))


def _right(name: str) -> List[str]:
    """Return what a command begins with that may change the mode; raises UnsupportedError when this user may not."""
    if os.geteuid() == 0:
        return []
    sudo = find_program("sudo")
    if sudo is None or run_program([sudo, "-n", "true"], _TIMEOUT_S).code != 0:
        raise UnsupportedError(
            'power mode "{}" is root\'s to set'.format(name),
            fix="run this as root, allow sudo without a password, or set it by hand and leave power_mode out",
        )
    return [sudo, "-n"]


def _start_guard(command: List[str], name: str) -> "subprocess.Popen[bytes]":
    guard = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert guard.stdout is not None
    # Its outputs end with this line: whoever reads this process's own must not wait for the guard.
    if guard.stdout.readline() != b"ready\n":
        guard.kill()
        guard.wait()
        raise DeviceError('power mode "{}" is not set: nothing could put it back afterwards'.format(name))
    guard.stdout.close()
    return guard


def _set(command: List[str], name: str) -> None:
    answer = run_program(command, _TIMEOUT_S)
    now, _ = read_power_mode()
    if now is not None and now.name.lower() == name.lower():
        return
    said = (answer.output + answer.errors).lower()
    if "reboot" in said:
        raise UnsupportedError(
            'power mode "{}" takes a restart of the board'.format(name),
            fix="set it by hand: sudo nvpmodel -m {}; then run this again".format(command[-1]),
        )
    raise DeviceError('power mode "{}" could not be set: {}'.format(name, answer.last_words))
