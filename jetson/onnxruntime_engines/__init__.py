"""Engines of ONNX Runtime, which are ONNX files: opened as sessions, on the host and on devices."""
