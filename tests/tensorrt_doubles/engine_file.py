"""The engine file of the doubles: TensorRT's real 64-byte header, then what the double needs to run it.

Offsets as measured on TensorRT-RTX 1.7.1 and read in TensorRT's sources: magic (`ftrt`, `vtrt`), u64 total size at 16,
version bytes at 24 to 27, for RTX the mask of compute capabilities at 32. Read by Python 3.6 as well.
"""

import json
import struct

HEADER_BYTES = 64
MAGIC = {"tensorrt": b"ftrt", "tensorrt-rtx": b"vtrt"}


def encode_engine(backend, version, onnx_bytes, settings, capability_mask=0):
    """Return an engine file. `version`: four numbers; `settings`: what the builder was told (JSON)."""
    meta = json.dumps(settings, sort_keys=True).encode("utf-8")
    body = struct.pack("<Q", len(meta)) + meta + onnx_bytes
    header = bytearray(HEADER_BYTES)
    header[0:4] = MAGIC[backend]
    struct.pack_into("<Q", header, 16, HEADER_BYTES + len(body))
    header[24:28] = bytes(version)
    struct.pack_into("<I", header, 32, capability_mask)
    return bytes(header) + body


def decode_engine(data, backend, version):
    """Return (onnx bytes, settings); raises ValueError with what TensorRT's log says in such a case."""
    if data[:4] != MAGIC[backend]:
        raise ValueError("Serialization assertion magicTag == rtMagicTag failed. Wrong magic tag.")
    if tuple(data[24:28]) != tuple(version):
        raise ValueError("The engine plan file is not compatible with this version of TensorRT")
    if struct.unpack_from("<Q", data, 16)[0] != len(data):
        raise ValueError("Serialization assertion header.size == blobSize failed.")
    (length,) = struct.unpack_from("<Q", data, HEADER_BYTES)
    start = HEADER_BYTES + 8
    return bytes(data[start + length :]), json.loads(bytes(data[start : start + length]).decode("utf-8"))
