"""How far two computations are apart, and the refusal when it is too far."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jetson.errors import InputError, ParityError

# Bounds of docs/formats.md.
SHRINK_BOUND = 1e-9
SHRINK_FLOAT32_BOUND = 1e-3
EXPORT_BOUND = 1e-4
BUILD_BOUND = 1e-3

# Outputs that vary less than this between inputs, relative to their size, cannot show a wrong channel.
_MIN_RELATIVE_SPREAD = 1e-4


@dataclass(frozen=True)
class Parity:
    """What one check has shown; `error` is relative to the spread of the reference's outputs."""

    check: str
    error: float
    bound: float
    samples: int
    how: str

    def to_json(self) -> dict[str, Any]:
        """Return the record as it stands in a manifest."""
        return asdict(self)


def relative_error(reference: NDArray[Any], other: NDArray[Any], what: str) -> float:
    """Return the largest absolute difference over the spread of `reference`.

    Both: samples x outputs..., real numbers or bool. The spread is the largest range of any one output over the
    samples: dividing by the size of the outputs instead would let an error pass in a network whose outputs
    hardly depend on its input. Raises ParityError when shapes differ, when `other` is not finite, and when
    the reference is empty or varies so little that the comparison would prove nothing; InputError when the reference is
    not finite.
    """
    if reference.shape != other.shape:
        raise ParityError(f"{what}: outputs have shape {other.shape}, expected {reference.shape}")
    if reference.ndim == 0:
        raise InputError(
            f"{what}: an output is one number for the whole batch", fix="return one for each sample, N x ..."
        )
    if reference.dtype.kind in "bui":  # differences of bool and unsigned integers are none
        reference, other = reference.astype(np.float64), other.astype(np.float64)
    if not np.isfinite(reference).all():
        raise InputError(f"{what}: the reference's outputs are not finite", fix="check the checkpoint and inputs")
    if not np.isfinite(other).all():
        raise ParityError(f"{what}: outputs are not finite where the reference's are")
    if len(reference):
        check_values(reference, f"{what}: outputs")
    spread = float(np.ptp(reference, axis=0).max()) if reference.size else 0.0
    if not reference.size or len(reference) < 2 or spread <= _MIN_RELATIVE_SPREAD * float(np.abs(reference).max()):
        raise ParityError(
            f"{what}: outputs vary by only {spread:.1e} over {len(reference)} inputs, so that equality cannot be shown",
            number=spread,
            fix="give more varied example inputs, or check that the network is trained",
        )
    return float(np.abs(reference - other).max()) / spread


def check_values(values: NDArray[Any], what: str) -> None:
    """Raise ParityError naming `what` when there are no values: to compare them would show nothing."""
    if not values.size:
        shape = "x".join(map(str, values.shape))
        raise ParityError(
            f"{what}: empty ({shape}), so that equality cannot be shown",
            fix="give inputs for which something comes out",
        )


def passing_parity(parity: Parity, where: str) -> Parity:
    """Return `parity`, or raise ParityError naming `where` when its error is above its bound."""
    if parity.error > parity.bound:
        raise ParityError(
            f"{where}: parity check '{parity.check}' failed: error {parity.error:.2e} of the outputs' spread, allowed "
            f"is {parity.bound:.0e} ({parity.how}); nothing was written",
            number=parity.error,
        )
    return parity
