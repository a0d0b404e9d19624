"""docs/engine_matrix.md: which TensorRT-RTX engines can be built."""
