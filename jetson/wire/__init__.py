"""What really goes over the link: messages of coded tensors, the same code on both sides."""

from jetson.wire.codecs import CODEC_NAMES
from jetson.wire.message import MAXIMUM_TENSORS, TensorSpecification, pack, unpack

__all__ = ["CODEC_NAMES", "MAXIMUM_TENSORS", "TensorSpecification", "pack", "unpack"]
