"""Entropy codecs: bytes to fewer bytes and back, with bounded memory.

`raw` copies. `zlib-huffman` is DEFLATE (RFC 1951) restricted to Huffman coding: for quantised features
the search for repeats costs time and gains nothing, and the payload is too short for it.
"""

import zlib

from jetson.errors import CoopexportError

_CODE_OF_NAME = {"raw": 0, "zlib-huffman": 1}
_NAME_OF_CODE = {code: name for name, code in _CODE_OF_NAME.items()}
CODEC_NAMES = tuple(sorted(_CODE_OF_NAME))

# Raw DEFLATE without the zlib wrapper: the message has its own checksum, and 6 bytes count here.
_RAW_DEFLATE_WINDOW = -15


def codec_code(name: str) -> int:
    """Return the number that stands for codec `name` on the wire; raises CoopexportError."""
    if name not in _CODE_OF_NAME:
        raise CoopexportError("codec {!r} is unknown; use one of {}".format(name, ", ".join(CODEC_NAMES)))
    return _CODE_OF_NAME[name]


def codec_name(code: int) -> str:
    """Return the codec that number `code` stands for; raises CoopexportError."""
    if code not in _NAME_OF_CODE:
        raise CoopexportError(
            "the payload names codec {}, which this side does not know: update the older side".format(code)
        )
    return _NAME_OF_CODE[code]


def compress(name: str, data: bytes) -> bytes:
    """Code `data` with codec `name`; raises CoopexportError for an unknown name."""
    codec_code(name)
    if name == "raw":
        return data
    compressor = zlib.compressobj(9, zlib.DEFLATED, _RAW_DEFLATE_WINDOW, 9, zlib.Z_HUFFMAN_ONLY)
    return compressor.compress(data) + compressor.flush()


def decompress(name: str, data: bytes, size_bytes: int) -> bytes:
    """Decode `data` to exactly `size_bytes` bytes, never unpacking more than one byte beyond that.

    Raises CoopexportError when the codec is unknown, or the data are corrupt, too short or too long.
    """
    codec_code(name)
    decoded = data if name == "raw" else _inflate(data, size_bytes)
    if len(decoded) != size_bytes:
        more = "more than " if len(decoded) > size_bytes else ""
        raise CoopexportError(
            "the payload is corrupt: it decodes to {}{} bytes, {} were expected".format(
                more, min(len(decoded), size_bytes), size_bytes
            )
        )
    return decoded


def _inflate(data: bytes, size_bytes: int) -> bytes:
    """Return what DEFLATE makes of `data`: `size_bytes` + 1 bytes where the stream is longer than allowed."""
    decompressor = zlib.decompressobj(_RAW_DEFLATE_WINDOW)
    try:
        # One byte more than allowed: enough to notice a longer stream without unpacking it.
        decoded = decompressor.decompress(data, size_bytes + 1)
    except zlib.error as error:
        raise CoopexportError("the payload is corrupt: {}".format(error)) from None
    if len(decoded) <= size_bytes and (not decompressor.eof or decompressor.unused_data):
        raise CoopexportError("the payload is corrupt: its coded bytes do not end where they should")
    return decoded
