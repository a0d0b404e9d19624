"""The coders that this project is compared with: compressors of bytes, and image formats on tiled channels."""

from __future__ import annotations

import importlib
import io
import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, features

from benchmarks.studies.codecs_page.coders import Coder, Missing, Symbols
from jetson.errors import UnsupportedError, one_line
from jetson.wire.byte_layout import pack_symbols, unpack_symbols


def peer_coders(shape: tuple[int, ...], bits: int) -> list[Coder | Missing]:
    """Return the other coders for samples of `shape`, 1 x C x H x W; those not installed with the reason.

    Compressors of bytes get plain symbols and, below 8 bits, packed ones too; image formats get the channels as tiles
    of one grey picture, PNG below 8 bits also as a palette picture of that many bits.
    """
    made: list[Coder | Missing] = []
    for name, module, make in _BYTE_COMPRESSORS:
        try:
            compress, decompress = make(importlib.import_module(module))
        except ImportError:
            made.append(Missing(name, "not installed"))
            continue
        made += _byte_coders(name, compress, decompress, shape, bits)
    for name, module, picture in _PICTURES:
        try:
            imported = importlib.import_module(module)
            made += [_tile_coder(name, form, *functions, shape) for form, functions in picture(imported, bits).items()]
        except ImportError:
            made.append(Missing(name, "not installed"))
        except UnsupportedError as error:
            made.append(Missing(name, one_line(error)))
    return made


Compress = Callable[[bytes], bytes]
Decompress = Callable[[bytes, int], bytes]


def _byte_coders(
    name: str, compress: Compress, decompress: Decompress, shape: tuple[int, ...], bits: int
) -> list[Coder | Missing]:
    count = math.prod(shape)
    packed_bytes = -(-count * bits // 8)
    made: list[Coder | Missing] = [
        Coder(
            name,
            False,
            "bytes",
            lambda sample: compress(sample.tobytes()),
            lambda coded: np.frombuffer(decompress(coded, count), np.uint8).reshape(shape),
        )
    ]
    if bits < 8:
        made.append(
            Coder(
                name,
                False,
                "packed",
                lambda sample: compress(pack_symbols(sample.ravel(), bits).tobytes()),
                lambda coded: unpack_symbols(np.frombuffer(decompress(coded, packed_bytes), np.uint8), bits)[
                    :count
                ].reshape(shape),
            )
        )
    return made


def _zlib(level: int) -> Callable[[Any], tuple[Compress, Decompress]]:
    return lambda module: (lambda data: zlib.compress(data, level), lambda coded, size: zlib.decompress(coded))


def _zstd(level: int) -> Callable[[Any], tuple[Compress, Decompress]]:
    def make(module: Any) -> tuple[Compress, Decompress]:
        # Without the size, which the receiver knows: the shortest frame that there is.
        compressor = module.ZstdCompressor(level=level, write_content_size=False)
        decompressor = module.ZstdDecompressor()
        return compressor.compress, lambda coded, size: decompressor.decompress(coded, max_output_size=size)

    return make


def _brotli(quality: int) -> Callable[[Any], tuple[Compress, Decompress]]:
    return lambda module: (
        lambda data: module.compress(data, quality=quality),
        lambda coded, size: module.decompress(coded),
    )


def _lz4(module: Any) -> tuple[Compress, Decompress]:
    return (
        lambda data: module.compress(data, store_size=False),
        lambda coded, size: module.decompress(coded, uncompressed_size=size),
    )


_BYTE_COMPRESSORS: tuple[tuple[str, str, Callable[[Any], tuple[Compress, Decompress]]], ...] = (
    ("zlib 6", "zlib", _zlib(6)),
    ("zstd 1", "zstandard", _zstd(1)),
    ("zstd 3", "zstandard", _zstd(3)),
    ("zstd 19", "zstandard", _zstd(19)),
    ("lz4", "lz4.block", _lz4),
    ("brotli 5", "brotli", _brotli(5)),
    ("brotli 11", "brotli", _brotli(11)),
)


def tiles(sample: Symbols) -> Symbols:
    """Return the channels of 1 x C x H x W beside each other as one picture, as near to square as C divides."""
    _, channels, height, width = sample.shape
    rows = _tile_rows(channels)
    grid = sample.reshape(rows, channels // rows, height, width).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(grid).reshape(rows * height, -1)


def untile(picture: Symbols, shape: tuple[int, ...]) -> Symbols:
    """Return the sample of `shape`, 1 x C x H x W, that `tiles` made this picture of."""
    _, channels, height, width = shape
    rows = _tile_rows(channels)
    grid = picture.reshape(rows, height, channels // rows, width).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(grid).reshape(shape)


def _tile_rows(channels: int) -> int:
    return max(rows for rows in range(1, math.isqrt(channels) + 1) if channels % rows == 0)


Picture = tuple[Callable[[Symbols], bytes], Callable[[bytes], Symbols]]


def _tile_coder(
    name: str, form: str, encode: Callable[[Symbols], bytes], decode: Callable[[bytes], Symbols], shape: tuple[int, ...]
) -> Coder:
    return Coder(name, False, form, lambda sample: encode(tiles(sample)), lambda coded: untile(decode(coded), shape))


def _open(coded: bytes) -> Any:
    return Image.open(io.BytesIO(coded))


def _save(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def _png(module: Any, bits: int) -> dict[str, Picture]:
    def encode_palette(picture: Symbols) -> bytes:
        image = Image.fromarray(picture)
        image.putpalette([level for level in range(1 << bits) for _ in range(3)])
        return _save(image, format="PNG", bits=bits)

    def decode(coded: bytes) -> Symbols:
        return np.asarray(_open(coded))

    made: dict[str, Picture] = {"grey": (lambda picture: _save(Image.fromarray(picture), format="PNG"), decode)}
    if bits < 8:
        made["palette"] = (encode_palette, decode)
    return made


def _webp(module: Any, bits: int) -> dict[str, Picture]:
    if not features.check("webp"):
        raise UnsupportedError("this Pillow has no WebP")

    def encode(picture: Symbols) -> bytes:
        return _save(Image.fromarray(picture).convert("RGB"), format="WEBP", lossless=True)

    return {"grey": (encode, lambda coded: np.asarray(_open(coded))[:, :, 0])}


def _jpeg_ls(module: Any, bits: int) -> dict[str, Picture]:
    _check_codec(module.JPEGLS)
    return {"grey": (lambda picture: bytes(module.jpegls_encode(picture)), module.jpegls_decode)}


def _jpeg_xl(effort: int) -> Callable[[Any, int], dict[str, Picture]]:
    def make(module: Any, bits: int) -> dict[str, Picture]:
        _check_codec(module.JPEGXL)

        def encode(picture: Symbols) -> bytes:
            return bytes(module.jpegxl_encode(picture, lossless=True, effort=effort, numthreads=1))

        return {"grey": (encode, lambda coded: module.jpegxl_decode(coded, numthreads=1))}

    return make


def _check_codec(codec: Any) -> None:
    if not codec.available:
        raise UnsupportedError("this imagecodecs was built without it")


_PICTURES: tuple[tuple[str, str, Callable[[Any, int], dict[str, Picture]]], ...] = (
    ("PNG", "PIL.PngImagePlugin", _png),
    ("WebP lossless", "PIL.WebPImagePlugin", _webp),
    ("JPEG-LS", "imagecodecs", _jpeg_ls),
    ("JPEG XL 3", "imagecodecs", _jpeg_xl(3)),
    ("JPEG XL 7", "imagecodecs", _jpeg_xl(7)),
)
