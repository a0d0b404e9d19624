"""Static rANS of planes of symbols, by rans.c where there is a C compiler, else by plain Python.

Both give the same bytes. Which one runs is never hidden: `rans_implementation` names it, and whoever
measures or records writes that name down. COOPEXPORT_RANS=c or =python forces one of them.
"""

import functools
import os
from typing import Callable, NamedTuple, Sequence, Tuple

import numpy as np

from jetson.errors import DamagedFileError, InputError, UnsupportedError
from jetson.wire import rans_library, rans_python
from jetson.wire.symbol_model import SymbolModel, symbol_model

ENVIRONMENT_VARIABLE = "COOPEXPORT_RANS"
_REASONS = {
    rans_python.BAD_STATE: "its coder's state has more bytes than it needs",
    rans_python.DOES_NOT_END: "its coded symbols do not end where they should",
}


class RansImplementation(NamedTuple):
    """`name`: "c" or "python"; `reason`: why it is Python, "" for C."""

    name: str
    reason: str


class _Coder(NamedTuple):
    implementation: RansImplementation
    encode: Callable[[np.ndarray, SymbolModel], bytes]
    decode: Callable[[bytes, Tuple[int, int, int], SymbolModel], Tuple[int, np.ndarray]]


def rans_implementation() -> RansImplementation:
    """Return which implementation of rANS runs here, compiling rans.c where that was not done before.

    Raises CoopexportError when COOPEXPORT_RANS forces C and that cannot run, or has another value.
    """
    return _coder(os.environ.get(ENVIRONMENT_VARIABLE, "")).implementation


def rans_encode(symbols: np.ndarray, model: SymbolModel) -> bytes:
    """Return the code of `symbols`, uint8 of any shape and each below 2^model.bits; b"" for none.

    Neighbours are of the last two dimensions where there are four or more; otherwise each row of the
    last dimension stands alone. Takes at most 3 bytes more than the information in the symbols under
    `model`. Raises CoopexportError for a symbol that is too large.
    """
    if symbols.size == 0:
        return b""
    if int(symbols.max()) >> model.bits:
        raise InputError(
            "a symbol is {}, the model has {}: head and symbol model are not of the same cut".format(
                int(symbols.max()), 1 << model.bits
            )
        )
    planes = np.ascontiguousarray(symbols).reshape(plane_shape(symbols.shape))
    return _coder(os.environ.get(ENVIRONMENT_VARIABLE, "")).encode(planes, model)


def rans_decode(coded: bytes, shape: Sequence[int], model: SymbolModel) -> np.ndarray:
    """Return the symbols, uint8 of `shape`, that `coded` is the code of.

    Allocates no more than the symbols and tables take. Raises CoopexportError when `coded` is no such code.
    """
    planes = plane_shape(shape)
    if 0 in planes:
        if len(coded):
            raise DamagedFileError("the payload is corrupt: it holds coded symbols where there are none")
        return np.zeros(tuple(shape), np.uint8)
    problem, symbols = _coder(os.environ.get(ENVIRONMENT_VARIABLE, "")).decode(coded, planes, model)
    if problem:
        raise DamagedFileError("the payload is corrupt: {}".format(_REASONS[problem]))
    return symbols.reshape(tuple(shape))


def plane_shape(shape: Sequence[int]) -> Tuple[int, int, int]:
    """Return (planes, height, width) in which the symbols of a tensor of `shape` have neighbours."""
    sizes = [1] + [int(size) for size in shape] if shape else [1, 1]
    inner = 2 if len(shape) >= 4 else 1
    planes = 1
    for size in sizes[:-inner]:
        planes *= size
    return (planes, sizes[-2] if inner == 2 else 1, sizes[-1])


@functools.lru_cache(maxsize=None)
def _coder(requested: str) -> _Coder:
    if requested not in ("", "c", "python"):
        raise InputError(
            '{} is "{}"'.format(ENVIRONMENT_VARIABLE, requested), fix="set it to c or python, or not at all"
        )
    if requested == "python":
        return _python_coder("{}=python asks for it".format(ENVIRONMENT_VARIABLE))
    try:
        library = rans_library.load_library()
        _check_same_bytes(library)
    except rans_library.LibraryError as error:
        if requested == "c":
            raise UnsupportedError(
                "{}=c, but {}: {}".format(ENVIRONMENT_VARIABLE, error, rans_library.HOW_TO_GET_A_COMPILER)
            ) from None
        return _python_coder(str(error))
    return _Coder(RansImplementation("c", ""), library.encode, library.decode)


def _python_coder(reason: str) -> _Coder:
    return _Coder(RansImplementation("python", reason), rans_python.encode, rans_python.decode)


def _check_same_bytes(library: rans_library.RansLibrary) -> None:
    """Raise LibraryError when a compiled file gives other bytes than Python does: a compiler may be wrong."""
    frequencies = np.array([[29000, 3000, 700, 68], [9000, 15000, 8000, 768]] * 2, np.int64)
    model = symbol_model(2, np.array([0, 1, 1, 1]), frequencies, np.minimum(np.arange(256), 1))
    symbols = (np.arange(3 * 5 * 7) ** 2 // 5 % 4).astype(np.uint8).reshape(3, 5, 7)
    coded = rans_python.encode(symbols, model)
    problem, decoded = library.decode(coded, (3, 5, 7), model)
    if library.encode(symbols, model) != coded or problem or not (decoded == symbols).all():
        raise rans_library.LibraryError("the compiled rans.c gives other bytes than the reference")
