"""Whether this Python can import ONNX Runtime, and where it cannot, why, and how to mend that."""

import sys
from typing import NamedTuple, Optional

from jetson.device.trial_import import place_of, try_import
from jetson.processes import signal_name

_NAME, _ATTRIBUTE = "onnxruntime", "InferenceSession"


class OnnxRuntimeFound(NamedTuple):
    """ONNX Runtime's `version`, or None and `reason`: what is wrong and how to mend it, one line."""

    version: Optional[str]
    reason: str


def find_onnxruntime() -> OnnxRuntimeFound:
    """Return the version of ONNX Runtime without importing it here, or why it cannot be imported."""
    place = place_of(_NAME)
    if place is None:
        return OnnxRuntimeFound(
            None, "{0} has no ONNX Runtime; install it: {0} -m pip install onnxruntime".format(sys.executable)
        )
    tried = try_import(_NAME, _ATTRIBUTE)
    if tried.version is not None:
        return OnnxRuntimeFound(tried.version, "")
    if tried.signal:
        return OnnxRuntimeFound(
            None,
            "importing ONNX Runtime ({}) ends Python by {}; {}".format(place, signal_name(tried.signal), _another()),
        )
    if tried.error:
        return OnnxRuntimeFound(
            None, "ONNX Runtime ({}) cannot be imported ({}); {}".format(place, tried.error, _another())
        )
    return OnnxRuntimeFound(
        None, "{} is imported as ONNX Runtime and is something else; rename or remove it".format(place)
    )


def _another() -> str:
    """Return how to have another ONNX Runtime than one that does not work."""
    return "install another: {0} -m pip install --force-reinstall onnxruntime==VERSION".format(sys.executable)
