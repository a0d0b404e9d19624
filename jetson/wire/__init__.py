"""What really goes over the link: messages of coded tensors, the same code on both sides."""

from jetson.wire.feature import FeatureCodec, FeatureTensor
from jetson.wire.message import pack, unpack
from jetson.wire.rans import RansImplementation, rans_implementation
from jetson.wire.specification import CODEC_NAMES, MAXIMUM_TENSORS, TensorSpecification
from jetson.wire.symbol_model import SymbolModel, model_from_bytes, model_to_bytes, symbol_model

__all__ = [
    "CODEC_NAMES",
    "MAXIMUM_TENSORS",
    "FeatureCodec",
    "FeatureTensor",
    "RansImplementation",
    "SymbolModel",
    "TensorSpecification",
    "model_from_bytes",
    "model_to_bytes",
    "pack",
    "rans_implementation",
    "symbol_model",
    "unpack",
]
