"""`import tensorrt` on a fake device: the double that COOPEXPORT_DOUBLE names, in this module's place."""

import os
import sys

if "COOPEXPORT_DOUBLE" not in os.environ:
    raise ImportError("No module named 'tensorrt'")
sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from tensorrt_doubles.installing import install_from_environment

install_from_environment()
