"""The engine file of the doubles: TensorRT's real 64-byte header, then what the double needs to run it.

Offsets as measured on TensorRT-RTX 1.7.1 and read in TensorRT's sources: magic (`ftrt`, `vtrt`), u64 total size at 16,
version bytes at 24 to 27, for RTX the mask of compute capabilities at 32. TensorRT before 8.6 writes `ptrt`, the number
of its serialisation at 8, and no version: trtexec's help says that --getPlanVersionOnly is for plans of 8.6 on, 8.6's
runtime names the magic of older ones (0x74727470), users found the number (NVIDIA/TensorRT issue 3073). Read by Python
3.6 as well.
"""

import json
import struct

HEADER_BYTES = 64
MAGIC = {"tensorrt": b"ftrt", "tensorrt-rtx": b"vtrt"}
OLD_MAGIC = b"ptrt"
SERIALISATIONS = {(8, 2): 205, (8, 4): 213, (8, 5): 232}


def encode_engine(backend, version, onnx_bytes, settings, capability_mask=0):
    """Return an engine file. `version`: four numbers; `settings`: what the builder was told (JSON)."""
    meta = json.dumps(settings, sort_keys=True).encode("utf-8")
    body = struct.pack("<Q", len(meta)) + meta + onnx_bytes
    header = bytearray(HEADER_BYTES)
    header[0:4] = MAGIC[backend]
    struct.pack_into("<Q", header, 16, HEADER_BYTES + len(body))
    if is_old(backend, version):
        header[0:4] = OLD_MAGIC
        struct.pack_into("<I", header, 8, SERIALISATIONS[tuple(version[:2])])
        header[24:28] = b"\x0a\x03\x00\x1e"  # something else, which may look like a version
    else:
        header[24:28] = bytes(version)
    struct.pack_into("<I", header, 32, capability_mask)
    return bytes(header) + body


def is_old(backend, version):
    """Tell whether a version wrote the header from before 8.6."""
    return backend == "tensorrt" and tuple(version[:2]) in SERIALISATIONS


def decode_engine(data, backend, version):
    """Return (onnx bytes, settings); raises ValueError with what TensorRT's log says in such a case."""
    old = is_old(backend, version)
    if data[:4] != (OLD_MAGIC if old else MAGIC[backend]):
        raise ValueError("Serialization assertion magicTag == rtMagicTag failed. Wrong magic tag.")
    if old:
        wanted, found = SERIALISATIONS[tuple(version[:2])], struct.unpack_from("<I", data, 8)[0]
        if found != wanted:
            said = "Version tag does not match. Note: Current Version: {}, Serialized Engine Version: {}"
            raise ValueError(said.format(wanted, found))
    elif tuple(data[24:28]) != tuple(version):
        raise ValueError("The engine plan file is not compatible with this version of TensorRT")
    if struct.unpack_from("<Q", data, 16)[0] != len(data):
        raise ValueError("Serialization assertion header.size == blobSize failed.")
    (length,) = struct.unpack_from("<Q", data, HEADER_BYTES)
    start = HEADER_BYTES + 8
    return bytes(data[start + length :]), json.loads(bytes(data[start : start + length]).decode("utf-8"))
