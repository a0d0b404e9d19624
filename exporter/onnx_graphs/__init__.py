"""ONNX graphs: read, indexed, typed, run, and their weights stored once."""
