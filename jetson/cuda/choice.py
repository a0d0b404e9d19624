"""Which way to device memory is taken: PyCUDA, cuda-python, or CUDA's own library.

JetPack 4 to 6 have PyCUDA where the user installed it; cuda-python has wheels for Python 3.10 on; the CUDA runtime's
library is wherever TensorRT runs, and the common denominator.
"""

from typing import Callable, List, Sequence, Tuple

from jetson.cuda import cuda_python_memory as cuda_python
from jetson.cuda import library as cuda_library
from jetson.cuda import pycuda_memory as cuda_pycuda
from jetson.cuda.device_memory import DeviceMemory
from jetson.errors import DeviceError, UnsupportedError, one_line

Way = Tuple[str, Callable[[], DeviceMemory]]

WAYS: Sequence[Way] = (
    ("PyCUDA", cuda_pycuda.open_memory),
    ("cuda-python", cuda_python.open_memory),
    ("the CUDA runtime's library", cuda_library.open_memory),
)


def open_device_memory(ways: Sequence[Way] = WAYS) -> DeviceMemory:
    """Return the first way that works here; raises CoopexportError saying of each why it does not."""
    reasons: List[str] = []
    for name, opener in ways:
        try:
            return opener()
        except (UnsupportedError, DeviceError) as error:
            reasons.append("{}: {}".format(name, one_line(error)[:200]))
    raise DeviceError("there is no device memory here; {}".format("; ".join(reasons)))
