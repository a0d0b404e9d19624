"""Which Pythons the ground floor is tried with."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def works(python):
    """Tell whether `python` is a Python 3.6 with NumPy (the shims of pyenv are there without one)."""
    question = "import sys, numpy; sys.exit(sys.version_info[:2] != (3, 6))"
    return subprocess.run([python, "-c", question], capture_output=True, timeout=60).returncode == 0


def interpreters():
    """Return the commands to run the script with: this Python, isolated, and a real 3.6 if there is one."""
    found = [pytest.param("isolated", id="isolated")]
    python36 = os.environ.get("COOPEXPORT_PYTHON36")
    if not python36:
        python36 = shutil.which("python3.6")
        if python36 and not works(python36):
            python36 = None
    if python36:
        found.append(pytest.param(python36, id="python3.6"))
    return found
