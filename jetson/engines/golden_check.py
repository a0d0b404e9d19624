"""Whether an engine computes what its golden data say: symbols one by one, numbers by their spread."""

from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np

from jetson.errors import ParityError
from jetson.wire.packing import PACKINGS, unpack_bits

# At most one symbol in a thousand may be off, and by one, unless an order says less.
SYMBOL_FRACTION_BOUND = 1e-3
# Outputs that vary less than this between inputs, relative to their size, cannot show a wrong channel.
_MIN_RELATIVE_SPREAD = 1e-4

Arrays = List[Any]
Runner = Callable[[Sequence[Any]], Arrays]


class OutputForm(NamedTuple):
    """What one output holds, and how far it may be off.

    `kind`: "symbols", `symbols` of them for each sample, of `bits`, packed as `packing` says (jetson.wire.packing); or
    "numbers".
    `bound`: fraction of symbols that may differ, by `difference` at most; or largest difference of numbers relative to
    their spread.
    """

    kind: str
    bound: float
    bits: int = 8
    packing: str = "none"
    symbols: int = 0
    difference: int = 1


def form_from_json(content: Dict[str, Any]) -> OutputForm:
    """Return a form that `_asdict` wrote; raises TypeError or ValueError for anything else."""
    form = OutputForm(**content)
    known = form.kind in ("symbols", "numbers") and form.packing in PACKINGS
    if not known or not 0 <= form.bound <= 1 or form.bits not in range(1, 9) or form.difference < 1:
        raise ValueError("{} is not a form of an output".format(form))
    return form


def run_in_batches(runner: Runner, inputs: Sequence[Any], batch: int) -> Arrays:
    """Return the outputs of an engine that takes `batch` samples at a time for all samples of `inputs` (N x ...)."""
    parts = []
    count = len(inputs[0])
    for start in range(0, count, batch):
        left = min(batch, count - start)
        full = [filled_up(one[start : start + left], batch) for one in inputs]
        parts.append([output[:left] for output in runner(full)])
    return [np.concatenate([part[index] for part in parts]) for index in range(len(parts[0]))]


def in_batches(arrays: Sequence[Any], batch: int) -> List[Arrays]:
    """Return N x ... arrays as lists of `batch` samples each, the last sample repeated where they do not fill one."""
    return [
        [filled_up(one[start : start + batch], batch) for one in arrays] for start in range(0, len(arrays[0]), batch)
    ]


def filled_up(samples: Any, batch: int) -> Any:
    """Return `samples` (1 to `batch` of them x ...), the last one repeated until they are `batch`."""
    return np.concatenate([samples, np.repeat(samples[-1:], batch - len(samples), axis=0)])


def compare_outputs(
    forms: Sequence[OutputForm], expected: Sequence[Any], found: Sequence[Any], where: str
) -> List[Dict[str, Any]]:
    """Return the parity record of each output; raises CoopexportError naming `where` and the number that is too large.

    `expected`, `found`: N x ... each, in the graph's order. Dtypes and shapes must be the same.
    """
    if not len(forms) == len(expected) == len(found):
        raise ParityError("{}: the engine has {} outputs, the golden data {}".format(where, len(found), len(expected)))
    return [_compare(forms[index], expected[index], found[index], where) for index in range(len(forms))]


def _compare(form: OutputForm, expected: np.ndarray, found: np.ndarray, where: str) -> Dict[str, Any]:
    if (found.dtype, found.shape) != (expected.dtype, expected.shape):
        raise ParityError(
            "{}: the engine returns {} of shape {}, the golden data hold {} of shape {}".format(
                where, found.dtype, found.shape, expected.dtype, expected.shape
            )
        )
    if form.kind == "symbols":
        error = _fraction_of_symbols(form, expected, found, where)
        how = "fraction of golden symbols that differ, none by more than {}".format(form.difference)
    else:
        error = _error_by_spread(expected, found, where)
        how = "engine against golden outputs"
    if error > form.bound:
        raise ParityError(
            "{}: parity check 'build' failed: error {:.2e}, the limit is {:.0e} ({}); the engine is not used".format(
                where, error, form.bound, how
            ),
            number=error,
        )
    return {"check": "build", "error": error, "bound": form.bound, "samples": len(expected), "how": how}


def _fraction_of_symbols(form: OutputForm, expected: np.ndarray, found: np.ndarray, where: str) -> float:
    golden, made = (
        unpack_bits(one, form.bits, form.packing, form.symbols).astype(np.int64) for one in (expected, found)
    )
    difference = np.abs(golden - made)
    if difference.max() > form.difference:
        raise ParityError(
            "{}: a symbol differs by {} from the golden data; the limit is {}".format(
                where, difference.max(), form.difference
            ),
            number=int(difference.max()),
        )
    return float((difference > 0).mean())


def _error_by_spread(expected: np.ndarray, found: np.ndarray, where: str) -> float:
    """Return the largest difference over the largest range of any one output over the samples."""
    if not np.isfinite(found).all():
        raise ParityError("{}: outputs are not finite where the golden ones are".format(where))
    wide = expected.astype(np.float64)
    spread = float(np.ptp(wide, axis=0).max())
    if len(expected) < 2 or spread <= _MIN_RELATIVE_SPREAD * float(np.abs(wide).max()):
        raise ParityError(
            "{}: golden outputs vary by only {:.1e} over {} samples, so that equality cannot be shown".format(
                where, spread, len(expected)
            ),
            number=spread,
        )
    return float(np.abs(wide - found.astype(np.float64)).max()) / spread
