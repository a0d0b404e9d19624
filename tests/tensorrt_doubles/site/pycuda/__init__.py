"""PyCUDA on a fake device: over host memory, beside the double of TensorRT that executes there."""
