"""How a feature is encoded at the cut: the specification, its NumPy reference, and the ONNX functions."""
