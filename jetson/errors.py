"""The errors that users see: one line that says what is wrong, where, and how to fix it; a class for each kind.

A caller who decides something (use it again or make it anew, skip it, take the next) catches the one class that it has
an answer for: what was mistyped is not made right by making anything anew.
"""

from typing import Any, Optional, TypeVar


class CoopexportError(Exception):
    """A problem that the user can mend; printed as one line, without a traceback, exit code 2.

    Raise one of the classes below where the cause is known, with a message in this order: what is wrong, where (file,
    layer, key), how to fix it. Anything else that escapes a command is a bug and keeps its traceback.

    `layer`: the layer it is about; `number`: the error or the loss that was measured, in the message's unit; `path`:
    the file or folder it is about; `fix`: how to mend it, which ends the message, after a semicolon. Each is None
    where it is not known, or there is none.
    """

    def __init__(
        self,
        message: str,
        *,
        layer: Optional[str] = None,
        number: Optional[float] = None,
        path: Optional[object] = None,
        fix: Optional[str] = None,
    ) -> None:
        super().__init__(one_line(message if fix is None else "{}; {}".format(message, fix)))
        self.layer = layer
        self.number = None if number is None else float(number)
        self.path = None if path is None else str(path)
        self.fix = None if fix is None else one_line(fix)


class InputError(CoopexportError):
    """What the user gave cannot be used: an option, the project file, their code, network or data, a name."""


class DamagedFileError(CoopexportError):
    """A file or message that is corrupt, truncated, of another schema, or not what its hash says."""


class StaleError(CoopexportError):
    """Not made yet, or made from something else than there is now: the command that makes it has to run again."""


class UnsupportedError(CoopexportError):
    """Nothing is wrong with it, but this version, target, backend or library cannot do it, or a package is missing."""


class ParityError(CoopexportError):
    """Two computations differ, or were not shown to agree; or the metric loses too much. `number` says how much."""


class DeviceError(CoopexportError):
    """A device, its memory or driver, or the connection to it, does not do what is asked of it."""


ERRORS = (InputError, DamagedFileError, StaleError, UnsupportedError, ParityError, DeviceError)
_Error = TypeVar("_Error", bound=CoopexportError)


def reworded(error: _Error, message: str, **fields: Any) -> _Error:
    """Return an error of the same class that says `message`, which includes the fix; `fields` fill in what is None."""
    other = type(error).__new__(type(error))  # a class of its own may take other arguments
    CoopexportError.__init__(other, message)
    for name, value in vars(error).items():
        setattr(other, name, value)
    for name, value in vars(CoopexportError("", **fields)).items():
        if getattr(other, name) is None:
            setattr(other, name, value)
    return other


def error_of_kind(kind: object, message: str) -> CoopexportError:
    """Return what another process raised: an error of the class called `kind`, a DeviceError when that is none."""
    classes = {one.__name__: one for one in ERRORS}
    return classes.get(str(kind), DeviceError)(message)


def one_line(text: object) -> str:
    """Return `text` as one line: line breaks and runs of blanks become single spaces, control characters too.

    What other machines and files say ends up in messages: it must not command the terminal that shows them.
    """
    return " ".join("".join(char if char.isprintable() else " " for char in str(text)).split())
