"""Fixtures of the ground floor's tests."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def real_rtx_engine() -> bytes:
    """A real engine for SM 8.9: one matrix product, about 140 KB, built with nothing but TensorRT-RTX's own calls."""
    import tensorrt_rtx

    logger = tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR)
    builder = tensorrt_rtx.Builder(logger)
    network = builder.create_network(0)
    values = network.add_input("x", tensorrt_rtx.float32, (1, 16))
    weights = network.add_constant((16, 4), np.arange(64, dtype=np.float32).reshape(16, 4)).get_output(0)
    none = tensorrt_rtx.MatrixOperation.NONE
    network.mark_output(network.add_matrix_multiply(values, none, weights, none).get_output(0))
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    assert config.set_compute_capability(tensorrt_rtx.ComputeCapability.SM89, 0)
    return bytes(builder.build_serialized_network(network, config))
