"""The double of `pycuda.driver`, in this module's place."""

import os
import sys

_FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(_FOLDER))))

from tensorrt_doubles.pycuda_double import make_driver  # noqa: E402  found through the line above

sys.modules[__name__] = make_driver()
