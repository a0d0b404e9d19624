"""The self-contained ONNX file that one target's builder takes."""
