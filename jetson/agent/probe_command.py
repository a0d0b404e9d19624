"""`probe`: what this device is. It needs no NumPy, which the other commands do."""

import sys

from jetson.device.probe import SCHEMA, describe_probe, take_probe
from jetson.files.json_files import encode_json
from jetson.files.system_files import device_root


def probe(as_json: bool) -> int:
    """Print what is known of this device, as JSON or line by line; return 0."""
    found = take_probe(device_root())
    if as_json:
        sys.stdout.write(encode_json(SCHEMA, found.to_json()).decode("utf-8"))
    else:
        sys.stdout.write("\n".join(describe_probe(found)) + "\n")
    return 0
